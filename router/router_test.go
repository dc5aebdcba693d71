package router

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"standfast/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running router with fake servers.
type rig struct {
	*Router
	t     *testing.T
	addrs map[string]string
}

// newRig starts a router on ports of the kernel's choice; it is stopped when the test ends.
func newRig(t *testing.T, cfg Config, servers ...*fakeServer) *rig {
	t.Helper()
	cfg.Write, cfg.Read = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	if cfg.Limits.HoldFor == 0 {
		cfg.Limits.HoldFor = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{Router: r, t: t, addrs: map[string]string{}}
	for _, s := range servers {
		g.addrs[s.name] = s.addr()
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := r.open.Load(); n != 0 {
			t.Errorf("%d connections are still counted as open", n)
		}
	})
	return g
}

func (g *rig) route(r cluster.Route) { g.SetRoute(r, g.addrs) }

func (g *rig) to(write string, reads ...string) {
	r := cluster.Route{Term: 1, Write: write}
	for _, n := range reads {
		r.Reads = append(r.Reads, cluster.ReadTarget{Name: n})
	}
	g.route(r)
}

func (g *rig) dial(side Side) net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.Addrs(side)[0].String())
	if err != nil {
		g.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

// login sends a StartupMessage and returns the connection, with the answer still to be read.
func (g *rig) login(side Side) *client {
	g.t.Helper()
	c := g.dial(side)
	g.write(c, startup())
	return &client{Conn: c, fe: pgproto3.NewFrontend(bufio.NewReader(c), c), t: g.t}
}

func (g *rig) write(c net.Conn, p []byte) {
	g.t.Helper()
	if _, err := c.Write(p); err != nil {
		g.t.Fatal(err)
	}
}

// eventually waits for what another goroutine is about to bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func startup() []byte {
	m := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "u"}}
	b, _ := m.Encode(nil)
	return b
}

func sslRequest() []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeSSL)
}

func cancelRequest(pid, secret uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 16}, codeCancel)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, pid), secret)
}

// client is the client's end of a plaintext session.
type client struct {
	net.Conn
	fe *pgproto3.Frontend
	t  *testing.T
}

// ready reads to ReadyForQuery and returns the server's name, which the fake server tells as a parameter.
func (c *client) ready() string {
	c.t.Helper()
	name := ""
	for {
		m, err := c.fe.Receive()
		if err != nil {
			c.t.Fatalf("read to ReadyForQuery: %v", err)
		}
		switch m := m.(type) {
		case *pgproto3.ParameterStatus:
			name = m.Value
		case *pgproto3.ErrorResponse:
			c.t.Fatalf("error instead of ReadyForQuery: %s %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			return name
		}
	}
}

// fatal reads to an error and to the end of the connection after it.
func (c *client) fatal() *pgproto3.ErrorResponse {
	c.t.Helper()
	for {
		m, err := c.fe.Receive()
		if err != nil {
			c.t.Fatalf("connection ended without an error message: %v", err)
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			e := *e
			if _, err := c.fe.Receive(); err == nil {
				c.t.Fatal("the connection goes on after FATAL")
			}
			return &e
		}
	}
}

// cutWithoutWord reads until the connection breaks and reports an error message, which must not come.
func (c *client) cutWithoutWord() {
	c.t.Helper()
	for {
		m, err := c.fe.Receive()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				c.t.Fatal("the connection was not cut")
			}
			return
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			c.t.Fatalf("got an error in the midst of a statement: %s", e.Message)
		}
	}
}

func (c *client) query(q string) {
	c.t.Helper()
	c.fe.Send(&pgproto3.Query{String: q})
	if err := c.fe.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// ask sends a query and returns its one value.
func (c *client) ask(q string) string {
	c.t.Helper()
	c.query(q)
	got := ""
	for {
		m, err := c.fe.Receive()
		if err != nil {
			c.t.Fatalf("answer to %q: %v", q, err)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			got = string(m.Values[0])
		case *pgproto3.ReadyForQuery:
			return got
		}
	}
}

func TestListenErrorsNameThePortAndTheRemedy(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	_, err = New(Config{Write: []string{"127.0.0.1:0", ln.Addr().String()}})
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Fatalf("got %v, want EADDRINUSE", err)
	}
	for _, part := range []string{"port " + port, "write side", "ss -ltnp"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	for _, bad := range []Config{{Read: []string{"127.0.0.1:0"}}, {Write: []string{"nonsense"}}, {Write: []string{"127.0.0.1:0"}, Limits: Limits{Queue: -1}}} {
		if r, err := New(bad); err == nil {
			t.Errorf("New(%+v) = %v, want an error", bad, r)
		}
	}
}

func TestListensOnAnyFamilyAndOnAnAddressNotHereYet(t *testing.T) {
	pg1 := newFake(t, "pg1")
	for _, addr := range []string{":0", "[::1]:0", "0.0.0.0:0", "localhost:0", "192.0.2.7:0"} {
		r, err := New(Config{Write: []string{addr}})
		if err != nil {
			if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Logf("%s: not on this machine: %v", addr, err)
				continue
			}
			t.Fatal(err)
		}
		r.SetRoute(cluster.Route{Term: 1, Write: "pg1"}, map[string]string{"pg1": pg1.addr()})
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		at := r.Addrs(WriteSide)[0].(*net.TCPAddr)
		if at.IP.IsUnspecified() || at.IP.IsLoopback() {
			if !visit(at.String()) {
				t.Errorf("%s: not served", addr)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
