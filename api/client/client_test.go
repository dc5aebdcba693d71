package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"standfast/api"
	"standfast/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is one real api server with a made-up cluster behind it.
type member struct {
	name  string
	addr  string // TLS
	plain string
	st    *api.Status

	mu    sync.Mutex
	asked []string
	err   error
	hang  chan struct{} // with it, an operation lasts until it is closed or its context ends
}

func (m *member) Snapshot() *api.Status { return m.st }

func (m *member) note(ctx context.Context, r any, p func(api.Progress)) error {
	m.mu.Lock()
	m.asked = append(m.asked, fmt.Sprintf("%T%+v", r, r))
	m.mu.Unlock()
	p(api.Progress{Member: m.name, Text: "working", Bytes: 1, Total: 2})
	if m.hang != nil {
		select {
		case <-m.hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return m.err
}

func (m *member) Switchover(ctx context.Context, r api.SwitchoverRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) CancelSwitchover(ctx context.Context, r api.CancelRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) Failover(ctx context.Context, r api.FailoverRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) Restart(ctx context.Context, r api.RestartRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) Reload(ctx context.Context, r api.ReloadRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) Reinitialize(ctx context.Context, r api.ReinitializeRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) Shutdown(_ context.Context, _ api.ShutdownRequest, say func(api.Progress)) error {
	say(api.Progress{Text: "the others stop"})
	return nil
}

func (m *member) Pause(ctx context.Context, r api.PauseRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) Resume(ctx context.Context, r api.ResumeRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) SetConfig(ctx context.Context, r api.ConfigRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) RenewCertificate(ctx context.Context, r api.RenewRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) AddMember(ctx context.Context, r api.AddMemberRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) RemoveMember(ctx context.Context, r api.RemoveMemberRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) DropSlot(ctx context.Context, r api.DropSlotRequest, p func(api.Progress)) error {
	return m.note(ctx, r, p)
}
func (m *member) Config(context.Context, bool) (api.ClusterConfig, error) {
	return api.ClusterConfig{Revision: 7, YAML: "lease: 3s\n", Values: json.RawMessage(`{"lease":"3s"}`)}, nil
}

// certificate makes a self-signed certificate and what trusts it.
func certificate(t *testing.T) (server, trust *tls.Config) {
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
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

// startCluster runs pg1 (primary), pg2 and pg3 and returns what a client needs.
func startCluster(t *testing.T) (members map[string]*member, trust *tls.Config) {
	t.Helper()
	server, trust := certificate(t)
	members = map[string]*member{}
	var all []api.Member
	for _, n := range []string{"pg1", "pg2", "pg3"} {
		m := &member{name: n}
		m.st = &api.Status{Schema: api.Schema, Self: n, Observed: time.Now().Add(time.Hour), Primary: "pg1", Term: 3, Store: api.Store{OK: true},
			History: []api.Entry{{Term: 3, Primary: "pg1", Reason: "a new cluster"}}}
		s, err := api.New(api.Config{Health: []string{"127.0.0.1:0"}, Admin: []string{"127.0.0.1:0"}, TLS: server, Source: m, Ops: m,
			Tokens: func(token string) (api.Operator, bool) {
				return api.Operator{Name: "anna", Access: api.Admin}, token == "secret"
			}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		h, a := s.Addrs()
		m.plain, m.addr = h[0].String(), a[0].String()
		members[n] = m
		role := api.Standby
		if n == "pg1" {
			role = api.Primary
		}
		all = append(all, api.Member{Member: cluster.Member{Name: n, Kind: cluster.Data, Priority: 100, Admin: m.addr}, Role: role, State: api.Running})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		for _, other := range members {
			other.st.Members = all // before any of them is asked
		}
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return members, trust
}

func connect(t *testing.T, trust *tls.Config, token string, endpoints ...string) *Client {
	t.Helper()
	c, err := New(endpoints, trust, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// closed is an address at which nobody listens.
func closed(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestReading(t *testing.T) {
	members, trust := startCluster(t)
	dead := closed(t)
	c := connect(t, trust, "secret", dead, members["pg2"].addr, members["pg3"].addr)
	st, _, err := c.Status(t.Context())
	if err != nil || st.Primary != "pg1" || st.Member("pg3") == nil {
		t.Errorf("Status: %+v, %v", st, err)
	}
	replies := c.Statuses(t.Context())
	if len(replies) != 3 || replies[0].Err == nil || replies[1].Status.Self != "pg2" || replies[2].Status.Self != "pg3" {
		t.Errorf("Statuses: %+v", replies)
	}
	host, port, _ := net.SplitHostPort(dead)
	if want := host + ":" + port + ": connection refused: is standfast running there? systemctl status standfast"; replies[0].Err.Error() != want {
		t.Errorf("got  %q\nwant %q", replies[0].Err, want)
	}
	h, err := c.History(t.Context())
	if err != nil || len(h) != 1 || h[0].Reason != "a new cluster" {
		t.Errorf("History: %+v, %v", h, err)
	}
	cfg, err := c.Config(t.Context())
	if err != nil || cfg.Revision != 7 || cfg.YAML != "lease: 3s\n" || string(cfg.Values) != `{"lease":"3s"}` {
		t.Errorf("Config: %+v, %v", cfg, err)
	}
	plain := connect(t, nil, "secret", members["pg1"].plain)
	if st, _, err := plain.Status(t.Context()); err != nil || st.Self != "pg1" {
		t.Errorf("plain Status: %+v, %v", st, err)
	}
}

func TestChanges(t *testing.T) {
	members, trust := startCluster(t)
	members["pg1"].st.Store.OK = false // changes go to a member that reaches the store
	c := connect(t, trust, "secret", members["pg1"].addr, members["pg2"].addr)
	ctx := t.Context()
	for _, q := range []struct {
		to   string
		do   func(p func(api.Progress)) error
		want string
	}{
		{"pg2", func(p func(api.Progress)) error {
			return c.Switchover(ctx, api.SwitchoverRequest{Candidate: "pg3", DryRun: true}, p)
		}, "Candidate:pg3 DryRun:true"},
		{"pg2", func(p func(api.Progress)) error { return c.CancelSwitchover(ctx, p) }, "api.CancelRequest"},
		{"pg2", func(p func(api.Progress)) error {
			return c.Failover(ctx, api.FailoverRequest{Candidate: "pg2", AcceptLoss: true}, p)
		}, "Candidate:pg2 AcceptLoss:true"},
		{"pg2", func(p func(api.Progress)) error {
			return c.Restart(ctx, api.RestartRequest{Member: "pg2", Role: api.Standby, OnlyPending: true, Timeout: 90 * time.Second}, p)
		}, "Member:pg2 Role:standby OnlyPending:true DryRun:false Timeout:1m30s"},
		{"pg3", func(p func(api.Progress)) error { return c.Reload(ctx, api.ReloadRequest{Member: "pg3"}, p) }, "Member:pg3"}, // not among the endpoints
		{"pg3", func(p func(api.Progress)) error {
			return c.Reinitialize(ctx, api.ReinitializeRequest{Member: "pg3", Force: true}, p)
		}, "Member:pg3 Force:true"},
		{"pg2", func(p func(api.Progress)) error { return c.Pause(ctx, api.PauseRequest{For: time.Hour}, p) }, "For:1h0m0s"},
		{"pg2", func(p func(api.Progress)) error { return c.Pause(ctx, api.PauseRequest{}, p) }, "For:2h0m0s"},
		{"pg2", func(p func(api.Progress)) error { return c.Resume(ctx, p) }, "api.ResumeRequest"},
		{"pg2", func(p func(api.Progress)) error {
			return c.SetConfig(ctx, api.ConfigRequest{Patch: true, Body: []byte(`{"a":1}`), Revision: 7, DryRun: true}, p)
		}, "Revision:7 DryRun:true"},
	} {
		var steps []api.Progress
		m := members[q.to]
		m.asked = nil
		if err := q.do(func(p api.Progress) { steps = append(steps, p) }); err != nil {
			t.Errorf("%s: %v", q.want, err)
			continue
		}
		if len(m.asked) != 1 || !strings.Contains(m.asked[0], q.want) || !strings.Contains(m.asked[0], "Operator:anna") {
			t.Errorf("%s was asked %v, want %s", q.to, m.asked, q.want)
		}
		if len(steps) != 1 || steps[0].Member != q.to || steps[0].Total != 2 {
			t.Errorf("%s: steps %+v", q.want, steps)
		}
	}
}

func TestRefusals(t *testing.T) {
	members, trust := startCluster(t)
	ctx := t.Context()
	kind := func(err error) api.Kind {
		var e *api.Error
		if errors.As(err, &e) {
			return e.Kind
		}
		return ""
	}
	c := connect(t, trust, "secret", members["pg1"].addr)
	if err := c.Switchover(ctx, api.SwitchoverRequest{Leader: "pg2"}, nil); kind(err) != api.Precondition || !strings.Contains(err.Error(), "the primary is pg1") {
		t.Errorf("wrong leader: %v", err)
	}
	members["pg1"].err = api.Errorf(api.Conflict, "a switchover to pg3 is under way")
	if err := c.Switchover(ctx, api.SwitchoverRequest{}, nil); kind(err) != api.Conflict || err.Error() != "a switchover to pg3 is under way" {
		t.Errorf("conflict: %v", err)
	}
	if err := c.Restart(ctx, api.RestartRequest{Member: "pg9"}, nil); kind(err) != api.NotFound {
		t.Errorf("no such member: %v", err)
	}
	if err := c.Restart(ctx, api.RestartRequest{}, nil); kind(err) != api.Invalid {
		t.Errorf("no member: %v", err)
	}
	if err := connect(t, trust, "", members["pg1"].addr).Resume(ctx, nil); kind(err) != api.Unauthorized {
		t.Errorf("no token: %v", err)
	}
	if err := connect(t, nil, "secret", members["pg1"].plain).Resume(ctx, nil); kind(err) != api.Forbidden || !strings.Contains(err.Error(), "https on port") {
		t.Errorf("without TLS: %v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	a, b := closed(t), closed(t)
	c := connect(t, nil, "", a, b)
	for _, err := range []error{
		func() error { _, _, err := c.Status(t.Context()); return err }(),
		c.Resume(t.Context(), nil),
	} {
		if err == nil || strings.Count(err.Error(), "connection refused") != 2 {
			t.Errorf("got %v", err)
		}
	}
}

// TestHangingMember: a member that accepts and says nothing does not delay the status of the others.
func TestHangingMember(t *testing.T) {
	members, trust := startCluster(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := connect(t, trust, "", l.Addr().String(), members["pg1"].addr)
	began := time.Now()
	if st, _, err := c.Status(t.Context()); err != nil || st.Self != "pg1" {
		t.Errorf("%+v, %v", st, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
	r := c.Statuses(t.Context())[0]
	if r.Err == nil || !strings.Contains(r.Err.Error(), "no answer in time: is the host up") {
		t.Errorf("got %v", r.Err)
	}
}

// TestExplanations: the commonest mistakes, made for real.
func TestExplanations(t *testing.T) {
	members, trust := startCluster(t)
	_, other := certificate(t)
	_, port, _ := net.SplitHostPort(members["pg1"].addr)
	notOurs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer notOurs.Close()
	for _, q := range []struct {
		trust    *tls.Config
		endpoint string
		want     string
	}{
		{other, members["pg1"].addr, "not signed by this cluster's CA"},
		{trust, "localhost:" + port, "certificate is for another name"},
		{trust, members["pg1"].plain, "it does not speak TLS"},
		{nil, "no-such-host.invalid", "the name is not known"},
		{nil, strings.TrimPrefix(notOurs.URL, "http://"), "is it standfast that answers there?"},
		{nil, members["pg1"].addr, "HTTP request to an HTTPS server"},
	} {
		r := connect(t, q.trust, "", q.endpoint).Statuses(t.Context())[0]
		if r.Err == nil || !strings.Contains(r.Err.Error(), q.want) {
			t.Errorf("%s: got %v, want %q", q.endpoint, r.Err, q.want)
		}
	}
}

// TestNoStore: what must be agreed is not asked of members that can't reach a majority; that would end in a timeout.
func TestNoStore(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		_ = json.NewEncoder(w).Encode(api.Status{Self: "pg1"})
	}))
	defer srv.Close()
	c := connect(t, nil, "", strings.TrimPrefix(srv.URL, "http://"))
	_, err := c.Config(t.Context())
	var answer *api.Error
	if !errors.As(err, &answer) || answer.Kind != api.Unavailable || !strings.Contains(err.Error(), "more than half of the members have to run") {
		t.Errorf("%v", err)
	}
}

// TestBrokenOff: when the lines end without an outcome, it is not taken for success.
func TestBrokenOff(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_ = json.NewEncoder(w).Encode(api.Status{Self: "pg1", Store: api.Store{OK: true}})
			return
		}
		_ = json.NewEncoder(w).Encode(api.Line{Progress: &api.Progress{Text: "begun"}})
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	c := connect(t, nil, "", strings.TrimPrefix(srv.URL, "http://"))
	var steps []string
	err := c.Resume(t.Context(), func(p api.Progress) { steps = append(steps, p.Text) })
	if err == nil || !strings.Contains(err.Error(), "the outcome is not known") || !slices.Equal(steps, []string{"begun"}) {
		t.Errorf("%v after %v", err, steps)
	}
}

func TestCancel(t *testing.T) {
	members, trust := startCluster(t)
	members["pg1"].hang = make(chan struct{})
	c := connect(t, trust, "secret", members["pg1"].addr)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Resume(ctx, func(api.Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	for _, q := range []struct {
		in     string
		secure bool
		want   string // "": refused
	}{
		{"pg1", true, "https://pg1:8443"}, {"pg1", false, "http://pg1:8008"}, {"pg1:9000", true, "https://pg1:9000"},
		{"https://pg1:9000/", true, "https://pg1:9000"}, {"http://pg1", false, "http://pg1:8008"},
		{"10.0.0.1", true, "https://10.0.0.1:8443"}, {"::1", true, "https://[::1]:8443"}, {"[fd00::1]:9000", true, "https://[fd00::1]:9000"},
		{"", true, ""}, {"pg1/path", true, ""}, {"http://pg1", true, ""}, {"pg1:http", true, ""}, {"u:p@pg1", true, ""}, {"pg 1", true, ""},
	} {
		e, err := parseEndpoint(q.in, q.secure)
		if (err != nil) != (q.want == "") || err == nil && e.base != q.want {
			t.Errorf("%q: %q, %v", q.in, e.base, err)
		}
	}
	if _, err := New(nil, nil, ""); err == nil {
		t.Error("no endpoints are accepted")
	}
}
