package router

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"standfast/cluster"
)

func TestSlowReaderHoldsItsServerBackAndLosesNothing(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{Workers: 1}, pg1)
	g.to("pg1")
	slow, quick := g.login(WriteSide), g.login(WriteSide)
	slow.ready()
	quick.ready()
	slow.query("big")
	out := func() uint64 { return g.Stats().Sides[WriteSide].Out }
	eventually(t, "the transfer is under way and stands still", func() bool {
		before := out()
		time.Sleep(20 * time.Millisecond)
		return before > 100_000 && out() == before
	})
	if n := out(); n > (bigRows<<20)/2 {
		t.Fatalf("%d bytes were taken from the server for a client that does not read", n)
	}
	if got := quick.ask("me too"); got != "me too" { // on the same loop
		t.Errorf("answer %q", got)
	}
	got := 0
	for done := false; !done; {
		m, err := slow.fe.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			got += len(m.Values[0])
		case *pgproto3.ReadyForQuery:
			done = true
		}
	}
	if got != bigRows<<20 {
		t.Errorf("got %d bytes of %d", got, bigRows<<20)
	}
}

func TestCutInTheMidstOfATransfer(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	c := g.login(WriteSide)
	c.ready()
	c.query("big")
	if _, err := c.fe.Receive(); err != nil {
		t.Fatal(err)
	}
	g.route(cluster.Route{Term: 2, Hold: true})
	c.cutWithoutWord()
	eventually(t, "both ends are gone", func() bool { return pg1.sessions() == 0 && g.Stats().Open == 0 })
}

// echoThrough connects through the router to a server that is no PostgreSQL: behind TLS's first byte the router does
// not look at what passes.
func echoThrough(t *testing.T, serve func(*net.TCPConn)) *net.TCPConn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	g := newRig(t, Config{})
	g.SetRoute(cluster.Route{Term: 1, Write: "pg1"}, map[string]string{"pg1": ln.Addr().String()})
	return g.dial(WriteSide).(*net.TCPConn)
}

func TestEveryByteArrivesBothWaysAtOnce(t *testing.T) {
	c := echoThrough(t, func(c *net.TCPConn) { io.Copy(c, c); c.CloseWrite() })
	rnd := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 24<<20)
	rnd.Read(data)
	data[0] = tlsHandshake
	sent := make(chan error, 1)
	go func() {
		r := rand.New(rnd)
		rest := data
		for len(rest) > 0 {
			n := min(len(rest), 1+r.IntN(300_000))
			if _, err := c.Write(rest[:n]); err != nil {
				sent <- err
				return
			}
			rest = rest[n:]
		}
		sent <- c.CloseWrite()
	}()
	got, err := io.ReadAll(c) // the half that is still open goes on until the server closes
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes back, not the %d that were sent", len(got), len(data))
	}
}

func TestHalfClosedClientStillGetsItsAnswer(t *testing.T) {
	c := echoThrough(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c) // only at the end of input
		c.Write(bytes.ToUpper(all))
	})
	c.Write([]byte{tlsHandshake, 'a', 'b', 'c'})
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "\x16ABC" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestLastWordsOfAServerThatResets(t *testing.T) {
	c := echoThrough(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 1)) // leave the rest unread: closing then resets
		c.Write([]byte("goodbye"))
	})
	c.Write([]byte{tlsHandshake, 1, 2, 3})
	got, _ := io.ReadAll(c)
	if string(got) != "goodbye" {
		t.Fatalf("got %q", got)
	}
}

func TestDeadClientFreesItsServer(t *testing.T) {
	gone := make(chan struct{})
	c := echoThrough(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 8))
		c.Write([]byte("x"))
		c.Read(make([]byte, 8))
		close(gone)
	})
	c.Write([]byte{tlsHandshake})
	c.Read(make([]byte, 1))
	c.SetLinger(0)
	c.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the server's connection is still open")
	}
}

func TestFirstMessageInPieces(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	c := g.dial(WriteSide)
	for _, b := range startup() {
		g.write(c, []byte{b})
		time.Sleep(time.Millisecond) // each byte in a packet of its own
	}
	(&client{Conn: c, fe: pgproto3.NewFrontend(c, c), t: t}).ready()
}

func TestWhatIsNoPostgreSQLIsClosed(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	for _, junk := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00", "\x00\x00\x00\x08\x04\xd2\x16\x2e"} {
		c := g.dial(WriteSide)
		g.write(c, []byte(junk))
		if got, err := io.ReadAll(c); len(got) > 0 || isTimeout(err) {
			t.Errorf("%q: got %q, %v; want the connection closed", junk, got, err)
		}
	}
	if st := g.Stats(); st.Invalid != 3 || st.Sides[WriteSide].Sessions != 0 {
		t.Errorf("stats: %+v", st)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestTLSPassesThroughUntouched(t *testing.T) {
	pg1 := newFake(t, "pg1")
	cert := writeCertificate(t, t.TempDir())
	pg1.set(func() { pg1.cert = &cert })
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	c := g.dial(WriteSide)
	g.write(c, sslRequest())
	answer := make([]byte, 1)
	if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'S' {
		t.Fatalf("answer %q, %v", answer, err)
	}
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tc.ConnectionState().PeerCertificates[0].Raw, cert.Certificate[0]) {
		t.Error("not the server's own certificate")
	}
	tc.Write(startup())
	s := &client{Conn: tc, fe: pgproto3.NewFrontend(tc, tc), t: t}
	s.ready()
	if got := s.ask("secret"); got != "secret" {
		t.Errorf("answer %q", got)
	}
	g.route(cluster.Route{Term: 2, Hold: true})
	s.cutWithoutWord()
}

func TestThousandIdleSessions(t *testing.T) {
	const many = 1000
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	clients := make([]*client, many)
	for i := range clients {
		clients[i] = g.login(WriteSide)
		clients[i].ready()
	}
	if n := g.Stats().Sides[WriteSide].Sessions; n != many {
		t.Fatalf("%d sessions", n)
	}
	for _, l := range g.loops {
		if n := l.load.Load(); n < many*4/10 {
			t.Errorf("a loop has %d of %d sessions", n, many)
		}
	}
	if got := clients[many/2].ask("alive"); got != "alive" {
		t.Errorf("answer %q", got)
	}
	begin := time.Now()
	g.route(cluster.Route{Term: 2, Hold: true})
	for _, c := range clients {
		c.fatal()
	}
	t.Logf("%d sessions cut and told in %s", many, time.Since(begin))
	eventually(t, "all are gone", func() bool { return g.Stats().Open == 0 && pg1.sessions() == 0 })
}

// Everything at once, for the race detector and the counters: after it nothing may be left, no open file either.
func TestRoutesChangeUnderLoad(t *testing.T) {
	freeAddr(t) // whatever files the runtime opens with its first socket are open now
	before := openFiles(t)
	t.Run("storm", storm)
	if after := openFiles(t); len(after) != len(before) {
		t.Errorf("%d files were open before, %d are after\n%v\n%v", len(before), len(after), before, after)
	}
}

// openFiles lists the files of the kinds that a router opens.
func openFiles(t *testing.T) (files []string) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range dir {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && (strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "anon_inode:")) {
			files = append(files, to)
		}
	}
	return files
}

func storm(t *testing.T) {
	pg1, pg2, pg3 := newFake(t, "pg1"), newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{Limits: Limits{MaxPerServer: 8, Queue: 4, HoldFor: 300 * time.Millisecond, ReadGrace: time.Millisecond}}, pg1, pg2, pg3)
	g.to("pg1", "pg2", "pg3")
	var wg sync.WaitGroup
	var served atomic.Int64
	stop := make(chan struct{})
	for i := range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if visit(g.Addrs(Side(i % 2))[0].String()) {
					served.Add(1)
				}
			}
		})
	}
	names := []string{"pg1", "pg2", "pg3"}
	r := rand.New(rand.NewPCG(1, 2))
	for term := range 150 {
		p := names[r.IntN(3)]
		g.route(cluster.Route{Term: cluster.Term(term), Hold: r.IntN(4) > 0})
		time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
		g.to(p, names[r.IntN(3)], names[r.IntN(3)])
		g.SetDraining(names[r.IntN(3)], r.IntN(3) == 0)
		switch r.IntN(10) {
		case 1:
			g.route(cluster.Route{Term: cluster.Term(term), Why: "no majority"})
		case 2:
			g.cancel(Side(r.IntN(2)), pg2.secret)
		case 3:
			pg3.die()
			pg3.revive()
		}
		g.Stats()
		time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	eventually(t, "nothing is left", func() bool { return g.Stats().Open == 0 })
	st := g.Stats()
	for _, s := range st.Servers {
		if s.Sides[0].Sessions+s.Sides[1].Sessions != 0 {
			t.Errorf("%s still counts sessions: %+v", s.Name, s.Sides)
		}
	}
	if st.KnownToStop != 0 || st.Sides[0].Held+st.Sides[0].Queued+st.Sides[1].Held+st.Sides[1].Queued != 0 {
		t.Errorf("left behind: %+v", st)
	}
	if served.Load() == 0 || st.Cut == 0 {
		t.Errorf("nothing was tried: %d served, %d cut", served.Load(), st.Cut)
	}
}

// visit opens a session, asks a few questions and reports whether it was answered.
func visit(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write(startup())
	fe := pgproto3.NewFrontend(c, c)
	for questions := 3; ; {
		m, err := fe.Receive()
		if err != nil {
			return false
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); !ok {
			continue
		}
		if questions--; questions == 0 {
			return true
		}
		fe.Send(&pgproto3.Query{String: "q"})
		if fe.Flush() != nil {
			return false
		}
	}
}
