package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
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
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
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

// fakeServer speaks as much of the protocol as a router can notice.
type fakeServer struct {
	name   string
	t      *testing.T
	ln     net.Listener
	cert   *tls.Certificate
	secret uint32

	mu      sync.Mutex
	conns   map[net.Conn]bool
	cancels []uint32 // secrets of the CancelRequests that came
	mute    bool     // take connections and say nothing
	rude    int      // close this many connections unanswered
	busy    int      // tell this many sessions that it is starting up
	wg      sync.WaitGroup
}

func newFake(t *testing.T, name string) *fakeServer {
	t.Helper()
	s := &fakeServer{name: name, t: t, conns: map[net.Conn]bool{}, secret: uint32(len(name))<<8 + uint32(name[len(name)-1])}
	s.listen("127.0.0.1:0")
	t.Cleanup(s.die)
	return s
}

func (s *fakeServer) addr() string { return s.ln.Addr().String() }

func (s *fakeServer) listen(addr string) {
	s.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ln = ln
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.wg.Go(func() {
				s.serve(c)
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			})
		}
	})
}

// die refuses connections from now on and resets those there are.
func (s *fakeServer) die() {
	s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *fakeServer) revive() { s.listen(s.addr()) }

func (s *fakeServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *fakeServer) sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *fakeServer) serve(c net.Conn) {
	s.mu.Lock()
	mute, rude, cert := s.mute, s.rude > 0, s.cert
	if rude {
		s.rude--
	}
	s.mu.Unlock()
	if mute {
		io.Copy(io.Discard, c)
		return
	}
	for {
		kind, p, err := readOpening(c)
		if err != nil || rude {
			return
		}
		switch {
		case kind == openCancel:
			s.set(func() { s.cancels = append(s.cancels, binary.BigEndian.Uint32(p[12:])) })
			return
		case kind == openSecure && cert != nil && binary.BigEndian.Uint32(p[4:]) == codeSSL:
			c.Write([]byte{'S'})
			t := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
			if t.Handshake() != nil {
				return
			}
			c = t
		case kind == openSecure:
			c.Write([]byte{'N'})
		case kind == openStartup:
			s.session(c)
			return
		default:
			return
		}
	}
}

// session answers each query: "big N" with N megabytes, "hang" not at all, anything else with its own text.
func (s *fakeServer) session(c net.Conn) {
	be := pgproto3.NewBackend(c, c)
	s.mu.Lock()
	busy := s.busy > 0
	s.busy--
	s.mu.Unlock()
	if busy {
		c.Write(refusal{cannotConnectNow, "the database system is starting up"}.encode())
		return
	}
	be.Send(&pgproto3.AuthenticationOk{})
	be.Send(&pgproto3.ParameterStatus{Name: "server", Value: s.name})
	be.Send(&pgproto3.BackendKeyData{ProcessID: 42, SecretKey: binary.BigEndian.AppendUint32(nil, s.secret)})
	be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if be.Flush() != nil {
		return
	}
	for {
		m, err := be.Receive()
		if err != nil {
			return
		}
		q, ok := m.(*pgproto3.Query)
		if !ok {
			return // Terminate
		}
		switch q.String {
		case "hang":
			continue
		case "big":
			row := bytes.Repeat([]byte("x"), 1<<20)
			for range bigRows {
				be.Send(&pgproto3.DataRow{Values: [][]byte{row}})
				if be.Flush() != nil {
					return
				}
			}
		default:
			be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(q.String)}})
		}
		be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if be.Flush() != nil {
			return
		}
	}
}

const bigRows = 32

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
	for _, bad := range []Config{{}, {Write: []string{"nonsense"}}, {Write: []string{"127.0.0.1:0"}, Queue: -1}} {
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
