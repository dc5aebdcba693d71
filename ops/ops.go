// Package ops carries out what an operator asks of a cluster: switchover, failover, restart, reclone, pause and changes of
// the configuration. Values go in and values come out; nothing is printed. Before a change is asked for, the status is
// looked at, so that a refusal comes with its reason before anything has happened, and a dry run can say what would.
package ops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"standfast/api"
	"standfast/api/client"
	"standfast/certs"
	"standfast/config"
)

// Refused says why something is not done though it could be asked for: it would be unsafe, or make no sense now. Nothing
// has changed.
type Refused struct{ Reason string }

// Error is the reason, a sentence with the remedy.
func (r *Refused) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }

// Cluster is a cluster as an operator's commands reach it.
type Cluster struct {
	*client.Client
	node    config.Node
	tokenAt string // why there is no token; "" if there is one
}

// Connect prepares to talk to the members that a member's file names. It connects to nobody yet. Who may not read the
// cluster's CA and token can still look (over the plain port); changes then fail with the reason.
func Connect(node config.Node) (*Cluster, error) {
	c := &Cluster{node: node}
	pool, err := roots(certs.In(node.TLSDir).CA)
	if err != nil {
		c.tokenAt = err.Error()
		c.Client, err = client.New(endpoints(node, func(p config.Ports) int { return p.Health }), nil, "")
		return c, err
	}
	token, err := os.ReadFile(node.TokenFile)
	if err != nil {
		c.tokenAt = fmt.Sprintf("read the token that changes need: %v", err)
	} else if len(strings.TrimSpace(string(token))) == 0 {
		c.tokenAt = node.TokenFile + " is empty: put the one of a member there"
	}
	c.Client, err = client.New(endpoints(node, func(p config.Ports) int { return p.Admin }), &tls.Config{RootCAs: pool}, strings.TrimSpace(string(token)))
	return c, err
}

func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the cluster's CA: %s holds no certificate", file)
	}
	return pool, nil
}

// endpoints lists the members, the file's own first: it answers quickest.
func endpoints(node config.Node, port func(config.Ports) int) []string {
	var first, rest []string
	for _, m := range node.Members {
		at := net.JoinHostPort(m.Address, fmt.Sprint(port(m.Ports)))
		if m.Name == node.Name {
			first = append(first, at)
		} else {
			rest = append(rest, at)
		}
	}
	return append(first, rest...)
}

// ErrNoToken says that this user may look but not change.
var ErrNoToken = errors.New("changes need the cluster's token")

// changeable reports whether this user has what a change needs.
func (c *Cluster) changeable() error {
	if c.tokenAt != "" {
		return fmt.Errorf("%w: %s; run this as root or as the user that standfast runs as", ErrNoToken, c.tokenAt)
	}
	return nil
}

// readable reports whether this user has what it takes to read what is not shown to everybody.
func (c *Cluster) readable() error {
	if c.tokenAt != "" {
		return fmt.Errorf("this needs the cluster's token: %s; run it as root or as the user that standfast runs as", c.tokenAt)
	}
	return nil
}

// Authorized reports whether this user has what it takes to read what is not shown to everybody; the error says what is missing.
func (c *Cluster) Authorized() error { return c.readable() }

// look returns the status, if this user may change anything at all.
func (c *Cluster) look(ctx context.Context) (*api.Status, error) {
	if err := c.changeable(); err != nil {
		return nil, err
	}
	st, _, err := c.Status(ctx)
	return st, err
}

// candidate checks that the named member may become primary.
func candidate(st *api.Status, name string) (*api.Member, error) {
	m := st.Member(name)
	switch {
	case m == nil:
		return nil, refuse("there is no member %s; there are %s", name, strings.Join(Names(st), ", "))
	case m.Role == api.Witness:
		return nil, refuse("%s is a witness and holds no data; choose another", name)
	case m.Priority == 0:
		return nil, refuse("%s has priority 0, so it never becomes primary; choose another, or raise its priority", name)
	}
	return m, nil
}

// Names lists the members.
func Names(st *api.Status) []string {
	var out []string
	for _, m := range st.Members {
		out = append(out, m.Name)
	}
	return out
}
