package relay

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) client(t testing.TB, name string) func() *tls.Config {
	cert := a.issue(t, name)
	return func() *tls.Config { return &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{cert}} }
}

func (a *authority) server(t testing.TB, c net.Conn) *tls.Conn {
	t.Helper()
	expect(t, c, sslRequest)
	write(t, c, []byte{'S'})
	return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{a.issue(t, "pg1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool})
}

func TestTLSWithMembersCertificate(t *testing.T) {
	ca := newAuthority(t)
	r := open(t, func(c *Config) { c.TLS = ca.client(t, "pg2") })
	p := listenPrimary(t)
	recv := connect(t, r)
	if err := r.Attach(1, 1, p.addr()); err != nil {
		t.Fatal(err)
	}
	prim := ca.server(t, p.accept(t))
	expect(t, prim, hello)
	if got := prim.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "pg2" {
		t.Errorf("the client's certificate is of %q", got)
	}
	introduce(t, recv, prim, 1)
	write(t, prim, []byte("wal"))
	expect(t, recv, []byte("wal"))
}

func TestTLSRefusesForeignPrimary(t *testing.T) {
	r := open(t, func(c *Config) { c.TLS = newAuthority(t).client(t, "pg2") })
	p := listenPrimary(t)
	connect(t, r)
	if err := r.Attach(1, 1, p.addr()); err != nil {
		t.Fatal(err)
	}
	prim := newAuthority(t).server(t, p.accept(t))
	if err := prim.Handshake(); err == nil {
		t.Error("the handshake with a foreign authority succeeded")
	}
	s := until(t, r, "failing", func(s Status) bool { return s.LastError != "" })
	if !strings.Contains(s.LastError, "unknown authority") || s.Carrying {
		t.Fatalf("status %+v", s)
	}
}

func TestTLSIsNotOptional(t *testing.T) {
	r := open(t, func(c *Config) { c.TLS = newAuthority(t).client(t, "pg2") })
	p := listenPrimary(t)
	connect(t, r)
	if err := r.Attach(1, 1, p.addr()); err != nil {
		t.Fatal(err)
	}
	c := p.accept(t)
	expect(t, c, sslRequest)
	write(t, c, []byte{'N'})
	until(t, r, "failing", func(s Status) bool { return strings.Contains(s.LastError, "ssl = on") })
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("sent %q without TLS", got)
	}
}

// A dial that hangs in the middle ends with its target.
func TestRaiseEndsDial(t *testing.T) {
	r := open(t, func(c *Config) {
		c.TLS = newAuthority(t).client(t, "pg2")
		c.DialTimeout = time.Hour
	})
	p := listenPrimary(t)
	connect(t, r)
	if err := r.Attach(1, 1, p.addr()); err != nil {
		t.Fatal(err)
	}
	c := p.accept(t)
	expect(t, c, sslRequest)
	r.Raise(2)
	if !r.Status().Held {
		t.Fatal("not held")
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(c); len(got) > 0 || err == nil {
		t.Errorf("read %q, %v, want a reset", got, err)
	}
}

func TestProbe(t *testing.T) {
	for answer, good := range map[string]bool{"S": true, "N": true, "E": false, "": false} {
		p := listenPrimary(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			c, err := p.AcceptTCP()
			if err != nil {
				return
			}
			defer c.Close()
			io.ReadFull(c, make([]byte, 8))
			io.WriteString(c, answer)
			if answer == "" {
				io.Copy(io.Discard, c) // accepts, and never answers
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		if err := Probe(ctx, p.addr()); (err == nil) != good {
			t.Errorf("answered %q: %v", answer, err)
		}
		cancel()
		<-served
	}
}

// The recheck itself: a dial that had succeeded when the term was raised is not joined.
func TestRaiseBeforeJoin(t *testing.T) {
	r := open(t, nil)
	p := listenPrimary(t)
	recv := connect(t, r)
	until(t, r, "held", held)
	old := &target{term: 1, timeline: 1, addr: p.addr(), ctx: t.Context(), cancel: func(error) {}}
	up, err := r.dial(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	prim := p.accept(t)
	r.mu.Lock()
	rc := r.current
	r.mu.Unlock()
	r.Raise(2)
	if r.join(rc, old, up) != nil {
		t.Error("a dial for a term left behind was joined")
	}
	if !r.Status().Held {
		t.Error("the receiver is no longer held")
	}
	prim.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(prim); len(got) > 0 || err == nil {
		t.Errorf("the primary read %q, %v, want a reset", got, err)
	}
	recv.Close()
}
