package ops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"standfast/api"
	"standfast/certs"
	"standfast/cluster"
	"standfast/config"
)

// Certificate is what one member shows.
type Certificate struct {
	Member string    `json:"member"`
	Until  time.Time `json:"until,omitzero"`  // the earliest end of those that it shows
	Stale  []string  `json:"stale,omitempty"` // parts that show an older one than the member's api does
	Error  string    `json:"error,omitempty"` // why it was not seen
}

// Authority is a certificate authority that the members trust.
type Authority struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
}

// seeTime bounds the look at one part of a member.
const seeTime = 3 * time.Second

// Certificates looks at the certificates that the members show, each in all its parts, and at the authorities in this member's
// directory. Nothing but a handshake is done, so that what is seen is what others see.
func (c *Cluster) Certificates(ctx context.Context) ([]Certificate, []Authority, error) {
	text, err := os.ReadFile(certs.In(c.node.TLSDir).CA)
	if err != nil {
		return nil, nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	pool := x509.NewCertPool()
	var trusted []Authority
	for _, a := range certs.All(text) {
		pool.AddCert(a)
		trusted = append(trusted, Authority{a.Subject.CommonName, a.NotAfter})
	}
	out := make([]Certificate, len(c.node.Members))
	var looks sync.WaitGroup
	for i, m := range c.node.Members {
		looks.Go(func() { out[i] = see(ctx, m, c.node.Etcd.Embedded(), pool) })
	}
	looks.Wait()
	return out, trusted, nil
}

// see looks at one member: its api first, what else there is against it.
func see(ctx context.Context, m config.Member, etcd bool, pool *x509.CertPool) Certificate {
	out := Certificate{Member: m.Name}
	first, err := shown(ctx, m.Address, m.Ports.Admin, pool, nil)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Until = first.NotAfter
	look := func(part string, port int, begin func(net.Conn) error) {
		cert, err := shown(ctx, m.Address, port, pool, begin)
		if err != nil || cert.Equal(first) {
			return // what does not run shows nothing
		}
		out.Stale = append(out.Stale, part)
		if cert.NotAfter.Before(out.Until) {
			out.Until = cert.NotAfter
		}
	}
	if etcd {
		look("etcd", m.Ports.EtcdPeer, nil)
	}
	if m.Kind == cluster.Data {
		look("PostgreSQL", m.Ports.Postgres, sslRequest)
	}
	return out
}

// shown returns the certificate of a server that is the member's, as far as pool can tell.
func shown(ctx context.Context, host string, port int, pool *x509.CertPool, begin func(net.Conn) error) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, seeTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return nil, err
		}
	}
	if begin != nil {
		if err := begin(conn); err != nil {
			return nil, err
		}
	}
	var leaf *x509.Certificate
	t := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12, VerifyConnection: func(s tls.ConnectionState) error {
		leaf = s.PeerCertificates[0]
		return nil
	}})
	// One that wants a certificate of ours ends the connection after it has shown its own.
	if err := t.HandshakeContext(ctx); err != nil && leaf == nil {
		return nil, err
	}
	return leaf, nil
}

// sslRequest asks a PostgreSQL for TLS ("Message Formats", SSLRequest).
func sslRequest(conn net.Conn) error {
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return errors.New("it has no TLS")
	}
	return nil
}

// RenewCertificates gives the named members, or all, new keys and certificates, one member after another. It ends with the first
// that does not get one.
func (c *Cluster) RenewCertificates(ctx context.Context, members []string, progress func(api.Progress)) error {
	st, err := c.look(ctx)
	if err != nil {
		return err
	}
	if len(members) == 0 {
		members = Names(st)
	}
	for _, name := range members {
		if !slices.Contains(Names(st), name) {
			return refuse("there is no member %s", name)
		}
	}
	for _, name := range members {
		if err := c.RenewCertificate(ctx, api.RenewRequest{Member: name}, progress); err != nil {
			return err
		}
	}
	return nil
}
