package web_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"standfast/api"
)

// member is one that answers as a member does, with statuses that were recorded from a real cluster.
type member struct {
	plain, secure string // host:port
	stop          func()
	*picture
	*operator
}

// picture is an api.Source that shows a recorded status as if it were of now.
type picture struct {
	mu     sync.Mutex
	st     *api.Status
	frozen bool // it goes stale
	change func(st *api.Status, at time.Time)
	last   *api.Status
}

// Snapshot implements api.Source.
func (p *picture) Snapshot() *api.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen || p.last != nil && time.Since(p.last.Observed) < 200*time.Millisecond {
		return p.last
	}
	st := *p.st
	st.Members = append([]api.Member{}, p.st.Members...)
	st.Observed = time.Now()
	if p.change != nil {
		p.change(&st, st.Observed)
	}
	p.last = &st
	return p.last
}

// show changes what the member sees.
func (p *picture) show(st *api.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.st, p.last, p.frozen = st, nil, false
}

func (p *picture) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// recorded reads a status and its history, and moves both to now.
func recorded(t testing.TB, name string) *api.Status {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Status  *api.Status
		History []api.Entry
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	ago := time.Since(r.Status.Observed)
	r.Status.Since = r.Status.Since.Add(ago)
	if r.Status.Paused {
		r.Status.PausedUntil = r.Status.PausedUntil.Add(ago)
	}
	for i := range r.History {
		e := &r.History[i]
		e.At += ago.Milliseconds()
		for j := range e.Steps {
			e.Steps[j].At += ago.Milliseconds()
		}
	}
	r.Status.History = r.History
	return r.Status
}

// cluster starts members that all see the status, each as itself. Their addresses are those of this test, for a page may try them.
func cluster(t testing.TB, name string) map[string]*member {
	t.Helper()
	st := recorded(t, name)
	all := map[string]*member{}
	for _, m := range st.Members {
		all[m.Name] = &member{plain: free(t), secure: free(t), picture: &picture{}, operator: &operator{}}
	}
	for name, m := range all {
		m.show(as(st, name, all))
		m.start(t)
	}
	return all
}

// as is the status as a member of these addresses sees it.
func as(st *api.Status, self string, all map[string]*member) *api.Status {
	c := *st
	c.Self, c.Members = self, append([]api.Member{}, st.Members...)
	for i := range c.Members {
		c.Members[i].API, c.Members[i].Admin = all[c.Members[i].Name].plain, all[c.Members[i].Name].secure
	}
	return &c
}

// free is a port that nobody has now.
func free(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (m *member) start(t testing.TB) {
	t.Helper()
	s, err := api.New(api.Config{
		Health: []string{m.plain}, Admin: []string{m.secure}, TLS: certificate(t), Source: m.picture, Ops: m.operator, Log: slog.New(slog.DiscardHandler),
		Tokens: func(token string) (api.Operator, bool) {
			return api.Operator{Name: "operator", Access: api.Operate}, token == "right-token"
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(m.stop)
}

func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// operator carries out what the page asks for, by saying so.
type operator struct {
	api.Ops // what the page never asks for

	mu    sync.Mutex
	asked []string
	hold  chan struct{} // if set, a switchover goes on until it is closed
}

func (o *operator) note(what ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, strings.Join(what, " "))
}

// done is what was asked for, dry runs apart.
func (o *operator) done() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.asked, "; ")
}

// Switchover implements api.Ops, as do the methods below.
func (o *operator) Switchover(ctx context.Context, r api.SwitchoverRequest, p func(api.Progress)) error {
	if r.DryRun {
		p(api.Progress{Text: r.Leader + " would hand over to " + r.Candidate + ": nothing is lost"})
		return nil
	}
	o.note("switchover from", r.Leader, "to", r.Candidate)
	p(api.Progress{Text: "switchover of term 5 asked for"})
	if o.hold != nil {
		select {
		case <-o.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p(api.Progress{Text: r.Candidate + " is the primary of term 6"})
	return nil
}

// Restart refuses to restart the primary.
func (o *operator) Restart(_ context.Context, r api.RestartRequest, p func(api.Progress)) error {
	if r.DryRun {
		p(api.Progress{Text: "sessions that read from " + r.Member + " would end"})
		return nil
	}
	o.note("restart", r.Member)
	return api.Errorf(api.Conflict, "%s is busy: ask again when it follows", r.Member)
}

// Pause asks as Switchover does; it is of two hours unless the page says otherwise.
func (o *operator) Pause(_ context.Context, r api.PauseRequest, p func(api.Progress)) error {
	p(api.Progress{Text: "automatic failover would be off for " + r.For.String()})
	if !r.DryRun {
		o.note("pause", r.For.String())
	}
	return nil
}
