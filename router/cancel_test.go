package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"github.com/jackc/pgx/v5/pgproto3"
	"io"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"standfast/cluster"
)

// cancel sends a CancelRequest and waits until the router says by closing that it is done.
func (g *rig) cancel(side Side, secret uint32) {
	g.t.Helper()
	c := g.dial(side)
	g.write(c, cancelRequest(42, secret))
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		g.t.Fatalf("after a cancel request: got %q, %v", got, err)
	}
}

func (s *fakeServer) got(secret uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.cancels, secret)
}

func TestCancelReachesTheServerOfItsSessionOnly(t *testing.T) {
	pg2, pg3 := newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg2, pg3)
	g.to("", "pg2", "pg3")
	a, b := g.login(ReadSide), g.login(ReadSide)
	a.ready()
	b.ready()
	g.cancel(ReadSide, pg3.secret)
	if pg2.got(pg3.secret) || !pg3.got(pg3.secret) {
		t.Errorf("pg2 got it: %v, pg3 got it: %v", pg2.got(pg3.secret), pg3.got(pg3.secret))
	}
	if st := g.Stats(); st.Cancels != 1 {
		t.Errorf("cancels %d", st.Cancels)
	}
}

func TestCancelWithAnUnknownKey(t *testing.T) {
	pg1, pg2, pg3 := newFake(t, "pg1"), newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg1, pg2, pg3)
	g.to("pg1", "pg2", "pg3")
	g.cancel(WriteSide, 7)
	if !pg1.got(7) || pg2.got(7) || pg3.got(7) {
		t.Error("on the writing side it belongs to the primary alone")
	}
	g.cancel(ReadSide, 8)
	if pg1.got(8) || !pg2.got(8) || !pg3.got(8) {
		t.Error("on the reading side it belongs to every standby")
	}
	g.to("pg1")
	g.cancel(ReadSide, 9)
	if !pg1.got(9) || pg2.got(9) || pg3.got(9) {
		t.Error("without standbys it belongs to the primary")
	}
	g.route(cluster.Route{Term: 1, Hold: true})
	g.cancel(WriteSide, 10) // nowhere to go: closed
}

// libpq since 17 asks for TLS before a CancelRequest too; turned down it sends it in plaintext on that connection.
func TestCancelAfterTLSWasTurnedDown(t *testing.T) {
	pg2, pg3 := newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg2, pg3)
	g.to("", "pg2", "pg3")
	for range 2 {
		g.login(ReadSide).ready()
	}
	for _, secret := range []uint32{pg2.secret, pg3.secret} {
		c := g.dial(ReadSide)
		g.write(c, sslRequest())
		answer := make([]byte, 1)
		if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'N' {
			t.Fatalf("answer %q, %v", answer, err)
		}
		g.write(c, cancelRequest(42, secret))
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
	}
	if pg2.got(pg3.secret) || pg3.got(pg2.secret) || !pg2.got(pg2.secret) || !pg3.got(pg3.secret) {
		t.Errorf("pg2 (%d) got %v, pg3 (%d) got %v", pg2.secret, pg2.cancels, pg3.secret, pg3.cancels)
	}
}

// pair is two members' routers, each beside a server of its own, that know of each other.
func pair(t *testing.T, cancels func(member string) Cancels) (a, b *rig, pg1, pg2 *fakeServer) {
	t.Helper()
	pg1, pg2 = newFake(t, "pg1"), newFake(t, "pg2")
	rigs := map[string]*rig{}
	routerOf := func(member string) string {
		if g := rigs[member]; g != nil {
			return g.Addrs(WriteSide)[0].String()
		}
		return ""
	}
	for _, name := range []string{"pg1", "pg2"} {
		c := cancels(name)
		c.Self, c.RouterOf = name, routerOf
		rigs[name] = newRig(t, Config{Cancels: c}, pg1, pg2)
	}
	return rigs["pg1"], rigs["pg2"], pg1, pg2
}

// Only the router beside a server asks about its sessions and delivers, whichever router a client has reached.
func TestCancelIsHandedToTheHostOfItsServer(t *testing.T) {
	var mu sync.Mutex
	took := map[string][]string{}
	a, b, pg1, pg2 := pair(t, func(member string) Cancels {
		return Cancels{Here: func(_ context.Context, request []byte) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			took[member] = append(took[member], string(request))
			if member == "pg1" {
				return "its commit waits", nil
			}
			return "", nil
		}}
	})
	a.to("pg1", "pg2")
	b.to("pg1", "pg2")
	for _, g := range []*rig{a, b} {
		g.cancel(WriteSide, 7) // of an unknown session
	}
	b.login(WriteSide).ready()
	b.cancel(WriteSide, pg1.secret) // of a known one
	a.cancel(ReadSide, 8)
	mu.Lock()
	defer mu.Unlock()
	want := map[string][]string{
		"pg1": {string(cancelRequest(42, 7)), string(cancelRequest(42, 7)), string(cancelRequest(42, pg1.secret))},
		"pg2": {string(cancelRequest(42, 8))},
	}
	if !reflect.DeepEqual(took, want) {
		t.Errorf("handed to\n%q, want\n%q", took, want)
	}
	if len(pg1.cancels)+len(pg2.cancels) > 0 {
		t.Errorf("requests came past the asking: pg1 %v, pg2 %v", pg1.cancels, pg2.cancels)
	}
	if sa, sb := a.Stats(), b.Stats(); sa.Withheld != 3 || sb.Withheld != 0 || sa.Cancels != 2 || sb.Cancels != 2 || sa.CancelsLost+sb.CancelsLost != 0 {
		t.Errorf("a: %d withheld of %d, %d lost; b: %d withheld of %d, %d lost",
			sa.Withheld, sa.Cancels, sa.CancelsLost, sb.Withheld, sb.Cancels, sb.CancelsLost)
	}
}

// A request that was handed over goes no further, whatever its receiver thinks of who is the primary.
func TestCancelIsHandedOverOnce(t *testing.T) {
	took := make(chan string, 10)
	a, b, _, _ := pair(t, func(member string) Cancels {
		return Cancels{Here: func(context.Context, []byte) (string, error) { took <- member; return "", nil }}
	})
	a.to("pg2")
	b.to("pg1")
	a.cancel(WriteSide, 7)
	b.cancel(WriteSide, 7)
	if first, second := <-took, <-took; len(took) > 0 || first != "pg2" || second != "pg1" {
		t.Errorf("taken by %s, %s and %d more", first, second, len(took))
	}
}

// What can't be asked about is not delivered, and counted.
func TestCancelIsNotDeliveredUnasked(t *testing.T) {
	older := answering(t, refusal{"0A000", "unsupported frontend protocol 21318.1"}.encode())
	for name, c := range map[string]Cancels{
		"the host is down":      {Self: "pg2", RouterOf: func(string) string { return "127.0.0.1:1" }},
		"the host is not known": {Self: "pg2", RouterOf: func(string) string { return "" }},
		"an older router there": {Self: "pg2", RouterOf: func(string) string { return older }},
		"its server can't be asked": {Self: "pg1", RouterOf: func(string) string { return "" }, Here: func(context.Context, []byte) (string, error) {
			return "", errors.New("no answer")
		}},
		"a witness is asked": {Self: "pg1", RouterOf: func(string) string { return "" }},
	} {
		t.Run(name, func(t *testing.T) {
			pg1 := newFake(t, "pg1")
			g := newRig(t, Config{Cancels: c}, pg1)
			g.to("pg1")
			g.login(WriteSide).ready()
			g.cancel(WriteSide, pg1.secret)
			if st := g.Stats(); pg1.got(pg1.secret) || st.CancelsLost != 1 || st.Withheld != 0 {
				t.Errorf("delivered: %v; %d lost, %d withheld", pg1.got(pg1.secret), st.CancelsLost, st.Withheld)
			}
		})
	}
}

// answering is the address of somebody who answers each connection's first bytes with the given ones.
func answering(t *testing.T, with []byte) string {
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
			if _, err := c.Read(make([]byte, 100)); err == nil {
				_, _ = c.Write(with) // whoever has gone need not read it
			}
			c.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// What is inside TLS shows by its length, and is delivered only where that server's host says that no commit can be waiting.
func TestCancelInsideTLS(t *testing.T) {
	var asked atomic.Int32
	why := atomic.Pointer[string]{}
	a, b, pg1, _ := pair(t, func(string) Cancels {
		return Cancels{Sealed: func(context.Context) (string, error) { asked.Add(1); return *why.Load(), nil }}
	})
	cert := writeCertificate(t, t.TempDir())
	pg1.set(func() { pg1.cert = &cert })
	a.to("pg1")
	b.to("pg1")
	secret := uint32(100)
	for _, g := range []*rig{a, b} {
		for _, reason := range []string{"", "commits wait"} {
			why.Store(&reason)
			secret++
			c := g.secure()
			if _, err := c.Write(cancelRequest(42, secret)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(c) // it is closed in any case
			if pg1.got(secret) != (reason == "") {
				t.Errorf("through %s, withheld %q: delivered %v", g.cfg.Cancels.Self, reason, pg1.got(secret))
			}
		}
		c := g.secure()
		s := &client{Conn: c, fe: pgproto3.NewFrontend(bufio.NewReader(c), c), t: t}
		m := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "u", "database": "d"}}
		first, _ := m.Encode(nil) // it can be encoded
		if _, err := c.Write(first); err != nil {
			t.Fatal(err)
		}
		if s.ready() != "pg1" || s.ask("hello") != "hello" {
			t.Error("a session inside TLS is not served")
		}
	}
	if sa, sb := a.Stats(), b.Stats(); asked.Load() != 4 || sa.Withheld != 2 || sb.Withheld != 0 || sa.CancelsLost+sb.CancelsLost != 0 {
		t.Errorf("asked %d times; withheld %d and %d, lost %d and %d", asked.Load(), sa.Withheld, sb.Withheld, sa.CancelsLost, sb.CancelsLost)
	}
	lone := newRig(t, Config{Cancels: Cancels{Self: "pg3", RouterOf: func(string) string { return "" }}}, pg1)
	lone.to("pg1")
	c := lone.secure()
	if _, err := c.Write(cancelRequest(42, 200)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(c)
	if pg1.got(200) || lone.Stats().CancelsLost != 1 {
		t.Errorf("with nobody to ask: delivered %v, lost %d", pg1.got(200), lone.Stats().CancelsLost)
	}
}

// secure opens a connection and makes TLS in it.
func (g *rig) secure() net.Conn {
	g.t.Helper()
	c := g.dial(WriteSide)
	g.write(c, sslRequest())
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		g.t.Fatal(err)
	}
	s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err := s.Handshake(); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// Records are told from their lengths alone, so what is no cancel request must not look like one.
func TestWhatSealedRecordsShow(t *testing.T) {
	rec := func(kind byte, size int) []byte {
		return append([]byte{kind, 3, 3, byte(size >> 8), byte(size)}, make([]byte, size)...)
	}
	hello, spec, done, cancel := rec(22, 300), rec(20, 1), rec(23, 53), rec(23, 33)
	for name, c := range map[string]struct {
		parts [][]byte
		want  bool
	}{
		"a cancel request":                    {[][]byte{hello, spec, done, cancel}, true},
		"in pieces":                           {[][]byte{hello[:100], hello[100:], spec, done[:20], done[20:], cancel}, true},
		"at once":                             {[][]byte{hello, slices.Concat(spec, done, cancel)}, true},
		"with a certificate":                  {[][]byte{hello, spec, rec(23, 900), rec(23, 281), rec(23, 69), cancel}, true},
		"asked for a second hello":            {[][]byte{hello, slices.Concat(spec, rec(22, 358)), rec(23, 69), cancel}, true},
		"more follows":                        {[][]byte{hello, spec, done, slices.Concat(cancel, cancel)}, false},
		"a session":                           {[][]byte{hello, spec, done, rec(23, 100), cancel}, false},
		"a session, as long as Finished":      {[][]byte{hello, spec, rec(23, 69), rec(23, 53), cancel}, false},
		"its handshake isn't over":            {[][]byte{hello, spec, cancel}, false},
		"TLS 1.2, then a short password":      {[][]byte{hello, rec(22, 70), spec, rec(22, 40), rec(23, 53), cancel}, false},
		"no TLS at all":                       {[][]byte{[]byte("GET / HTTP/1.1\r\n\r\n"), cancel}, false},
		"handshake without end, then a match": {[][]byte{bytes.Repeat(rec(23, 1), 20), done, cancel}, false},
	} {
		o, got := tlsOpening{}, false
		for _, p := range c.parts {
			cancel, over := o.feed(p)
			if got = cancel; over {
				break
			}
		}
		if got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
