package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"standfast/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open runs a relay for a member called pg2 until the test ends.
func open(t testing.TB, change func(*Config)) *Relay {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Port: 5433, Self: "pg2"}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// startup is a StartupMessage with these parameters.
func startup(pairs ...string) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b[4:], 3<<16)
	for _, s := range pairs {
		b = append(append(b, s...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

var hello = startup("user", User, "replication", "true", "database", "replication", "application_name", "pg2",
	"options", "-c wal_sender_timeout=400ms")

// query is a simple Query message.
func query(s string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(len(s)+5))
	return append(append(b, s...), 0)
}

var start = query(`START_REPLICATION SLOT "pg2" 0/3000000 TIMELINE 1`)

// connect is a WAL receiver that has sent its StartupMessage.
func connect(t testing.TB, r *Relay) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.Path(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	write(t, c, hello)
	return c
}

func write(t testing.TB, c io.Writer, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly what is wanted.
func expect(t testing.TB, c net.Conn, want []byte) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != string(want) {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// until waits, by the relay's own notifications, for a status.
func until(t testing.TB, r *Relay, what string, ok func(Status) bool) Status {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		s := r.Status()
		if ok(s) {
			return s
		}
		select {
		case <-r.Changed():
		case <-deadline:
			t.Fatalf("never %s: %+v", what, r.Status())
		}
	}
}

// eventually waits for what the relay does not notify of, the progress of a stream's times.
func eventually(t testing.TB, r *Relay, what string, ok func(Status) bool) Status {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s := r.Status(); ok(s) {
			return s
		}
	}
	t.Fatalf("never %s: %+v", what, r.Status())
	return Status{}
}

func held(s Status) bool     { return s.Held }
func carrying(s Status) bool { return s.Carrying }

// primary is the TCP port of a pretended PostgreSQL.
type primary struct{ *net.TCPListener }

func listenPrimary(t testing.TB) primary {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return primary{ln.(*net.TCPListener)}
}

func (p primary) addr() string { return p.Addr().String() }

func (p primary) accept(t testing.TB) *net.TCPConn {
	t.Helper()
	p.SetDeadline(time.Now().Add(5 * time.Second))
	c, err := p.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var whoAreYou = query("IDENTIFY_SYSTEM")

// iAm is a server's answer to IDENTIFY_SYSTEM.
func iAm(tl cluster.Timeline) []byte {
	body := []byte{0, 4}
	for _, column := range []string{"7321", strconv.Itoa(int(tl)), "0/3000000"} {
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(column))), column...)
	}
	body = binary.BigEndian.AppendUint32(body, 0xffffffff) // dbname is null
	return message('D', body)
}

// message is one message of the protocol.
func message(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// introduce is what precedes a stream: the primary says who it is, and the receiver asks for WAL.
func introduce(t testing.TB, recv, prim net.Conn, tl cluster.Timeline) {
	t.Helper()
	write(t, recv, whoAreYou)
	expect(t, prim, whoAreYou)
	write(t, prim, iAm(tl))
	expect(t, recv, iAm(tl))
	write(t, recv, start)
	expect(t, prim, start)
}

// stream is a receiver and a primary with a started stream between them.
func stream(t testing.TB, r *Relay, term cluster.Term) (recv *net.UnixConn, prim *net.TCPConn) {
	t.Helper()
	p := listenPrimary(t)
	if err := r.Attach(term, cluster.Timeline(term), p.addr()); err != nil {
		t.Fatal(err)
	}
	recv = connect(t, r) // after it, or an earlier target might take this receiver
	prim = p.accept(t)
	expect(t, prim, hello)
	introduce(t, recv, prim, cluster.Timeline(term))
	return recv, prim
}

func TestCarriesBothWays(t *testing.T) {
	r := open(t, nil)
	recv, prim := stream(t, r, 3)
	write(t, prim, []byte("wal"))
	expect(t, recv, []byte("wal"))
	write(t, recv, []byte("flushed"))
	expect(t, prim, []byte("flushed"))
	s := until(t, r, "carried", func(s Status) bool { return s.Carried })
	if s.Term != 3 || s.Held || !s.Carrying || s.LastError != "" || time.Since(s.HeardAt) > 5*time.Second {
		t.Fatalf("status %+v", s)
	}
}

// What a primary owes is told from what a receiver does not take.
func TestAwaitsThePrimary(t *testing.T) {
	r := open(t, nil)
	recv, prim := stream(t, r, 3)
	write(t, prim, []byte("wal"))
	expect(t, recv, []byte("wal"))
	first := eventually(t, r, "awaited", func(s Status) bool { return s.Carried && !s.AwaitedAt.IsZero() }).AwaitedAt
	write(t, prim, []byte("more"))
	expect(t, recv, []byte("more"))
	eventually(t, r, "awaited anew", func(s Status) bool { return s.AwaitedAt.After(first) })

	filling := make(chan struct{})
	go func() { // until the receiver, which takes nothing, holds it up
		defer close(filling)
		for chunk := make([]byte, 1<<20); ; {
			if _, err := prim.Write(chunk); err != nil {
				return
			}
		}
	}()
	eventually(t, r, "held up by the receiver", func(s Status) bool {
		time.Sleep(20 * time.Millisecond) // in which it would read again
		return s.AwaitedAt.IsZero() && r.Status().AwaitedAt.IsZero()
	})
	recv.Close()
	eventually(t, r, "ended", func(s Status) bool { return !s.Carrying && s.AwaitedAt.IsZero() })
	prim.Close()
	<-filling
}

// A server on another timeline is asked for nothing, and tried again: it may be the one in a moment.
func TestRefusesOtherTimeline(t *testing.T) {
	r := open(t, nil)
	p := listenPrimary(t)
	recv := connect(t, r)
	if err := r.Attach(3, 5, p.addr()); err != nil {
		t.Fatal(err)
	}
	prim := p.accept(t)
	expect(t, prim, hello)
	write(t, recv, whoAreYou)
	expect(t, prim, whoAreYou)
	write(t, prim, iAm(4))
	if got, _ := io.ReadAll(recv); len(got) > 0 {
		t.Errorf("the receiver was told %q", got)
	}
	until(t, r, "refused", func(s Status) bool {
		return strings.Contains(s.LastError, "is on timeline 4, term 3 reigns on 5")
	})
	recv = connect(t, r)
	prim = p.accept(t)
	expect(t, prim, hello)
	introduce(t, recv, prim, 5)
}

// A receiver that does not ask who is there learns nothing and gets nothing.
func TestStartNeedsIdentity(t *testing.T) {
	r := open(t, nil)
	p := listenPrimary(t)
	recv := connect(t, r)
	if err := r.Attach(3, 3, p.addr()); err != nil {
		t.Fatal(err)
	}
	prim := p.accept(t)
	expect(t, prim, hello)
	write(t, recv, start)
	if got, err := io.ReadAll(prim); len(got) > 0 || err == nil {
		t.Errorf("the primary read %q, %v, want a reset", got, err)
	}
}

func TestHoldsWithoutAnswering(t *testing.T) {
	r := open(t, nil)
	recv := connect(t, r)
	until(t, r, "held", held)
	recv.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := recv.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("held receiver read %d bytes, %v", n, err)
	}
	recv.Close()
	until(t, r, "let go", func(s Status) bool { return !s.Held })
}

func TestRaiseResets(t *testing.T) {
	r := open(t, nil)
	recv, prim := stream(t, r, 3)
	r.Raise(4)
	if s := r.Status(); s.Held || s.Carrying || s.Term != 0 || s.Floor != 4 {
		t.Fatalf("after Raise: %+v", s)
	}
	prim.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := prim.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the primary read %v, want a reset", err)
	}
	recv.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := recv.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the receiver read %v, want an end", err)
	}
	if s := r.Status(); s.Held {
		t.Fatal("held before a new receiver connected")
	}
	connect(t, r)
	if s := until(t, r, "held", held); s.Receiver != 2 {
		t.Fatalf("status %+v", s)
	}
	if err := r.Attach(3, 3, "127.0.0.1:1"); !errors.Is(err, ErrBelowFloor) {
		t.Fatalf("Attach below the floor: %v", err)
	}
}

// A receiver that was waiting before the promise, never answered, proves as much as one that comes after it.
func TestRaiseKeepsWaitingReceiver(t *testing.T) {
	r := open(t, nil)
	connect(t, r)
	before := until(t, r, "held", held)
	r.Raise(9)
	if s := r.Status(); !s.Held || s.Receiver != before.Receiver {
		t.Fatalf("status %+v", s)
	}
}

func TestRaiseToTermCarriedChangesNothing(t *testing.T) {
	r := open(t, nil)
	recv, prim := stream(t, r, 3)
	r.Raise(3)
	r.Raise(2)
	if err := r.Attach(3, 3, r.Status().Addr); err != nil {
		t.Fatal(err)
	}
	write(t, prim, []byte("still"))
	expect(t, recv, []byte("still"))
}

func TestDetachKeepsFloor(t *testing.T) {
	r := open(t, nil)
	stream(t, r, 3)
	r.Detach("test")
	if s := r.Status(); s.Term != 0 || s.Carrying || s.Floor != 3 {
		t.Fatalf("status %+v", s)
	}
	if err := r.Attach(2, 2, "127.0.0.1:1"); !errors.Is(err, ErrBelowFloor) {
		t.Fatal(err)
	}
}

func TestAttachElsewhereMovesStream(t *testing.T) {
	r := open(t, nil)
	_, old := stream(t, r, 3)
	_, prim := stream(t, r, 4)
	old.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the old primary read %v, want a reset", err)
	}
	write(t, prim, []byte("x"))
}

// The newest receiver counts, whether or not the end of the older one has been read.
func TestNewReceiverSupersedes(t *testing.T) {
	r := open(t, nil)
	old, prim := stream(t, r, 3)
	connect(t, r)
	old.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := old.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the old receiver read %v, want an end", err)
	}
	prim.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := prim.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("its primary read %v, want an end", err)
	}
	until(t, r, "carrying the new one", func(s Status) bool { return s.Carrying && s.Receiver == 2 })
}

// A primary that stops in order has sent its shutdown checkpoint before it closes.
func TestDeliversLastBytes(t *testing.T) {
	r := open(t, nil)
	recv, prim := stream(t, r, 3)
	last := []byte(strings.Repeat("z", 100_000))
	write(t, prim, last)
	prim.Close()
	expect(t, recv, last)
	until(t, r, "ended", func(s Status) bool { return !s.Carrying })
	if s := r.Status(); s.Term != 3 || s.LastError == "" {
		t.Fatalf("status %+v", s)
	}
}

func TestRedialsUntilPrimaryAnswers(t *testing.T) {
	p := listenPrimary(t)
	addr := p.addr()
	p.Close()
	r := open(t, nil)
	connect(t, r)
	if err := r.Attach(1, 1, addr); err != nil {
		t.Fatal(err)
	}
	s := until(t, r, "failing", func(s Status) bool { return s.LastError != "" })
	if !s.Held || s.Carrying {
		t.Fatalf("status %+v", s)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	expect(t, c, hello)
	until(t, r, "carrying", func(s Status) bool { return s.Carrying && s.LastError == "" })
}

func TestListenReplacesOnlyDeadSocket(t *testing.T) {
	r := open(t, nil)
	if _, err := New(r.cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("New beside a living one: %v", err)
	}
	dir := t.TempDir()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/.s.PGSQL.5433", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false) // as after SIGKILL
	ln.Close()
	r = open(t, func(c *Config) { c.Dir = dir })
	connect(t, r)
	until(t, r, "held", held)
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Fatalf("directory is %v, %v", fi.Mode(), err)
	}
}

func TestPathTooLong(t *testing.T) {
	_, err := New(Config{Dir: t.TempDir() + "/" + strings.Repeat("d", 100), Port: 5432, Self: "pg2"})
	if err == nil || !strings.Contains(err.Error(), "shorter directory") {
		t.Fatal(err)
	}
}

// gone is a primary's answer when the segment was removed ("Error and Notice Message Fields").
var gone = message('E', []byte("SERROR\x00VERROR\x00C58P01\x00Mrequested WAL segment 000000010000000000000002 has already been removed\x00\x00"))

// A primary that has the WAL no more is told of once it has said nothing else for a while, and forgotten when WAL flows.
func TestStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{changed: make(chan struct{}, 1), target: &target{term: 1}}
		for range starvedTimes {
			if s := r.Status(); s.Starved != "" {
				t.Fatalf("too early: %+v", s)
			}
			r.lacking(r.target, "removed")
			time.Sleep(starvedAfter / (starvedTimes - 1))
		}
		if s := r.Status(); s.Starved != "removed" {
			t.Errorf("after %v: %+v", starvedAfter, s)
		}
		r.supplied(r.target)
		r.lacking(r.target, "removed")
		if s := r.Status(); s.Starved != "" {
			t.Errorf("after WAL has flowed: %+v", s)
		}
	})
}

// What a primary answers before the first WAL reaches the receiver whole, and a refusal is noted.
func TestOpening(t *testing.T) {
	r := open(t, nil)
	both, alive := message('W', []byte{0, 0, 0}), message('d', []byte("k0123456789abcdef0"))
	for name, c := range map[string]struct {
		answer []byte
		lacks  int
	}{
		"removed":         {slices.Concat(both, gone), 1},
		"after keepalive": {slices.Concat(both, alive, gone), 1},
		"other error":     {message('E', []byte("SERROR\x00C42704\x00Mno such slot\x00\x00")), 0},
		"wal":             {slices.Concat(both, alive, message('d', []byte("w-wal")), gone), 0},
		"next timeline":   {slices.Concat(both, message('c', nil), message('T', []byte("x")), message('C', []byte("x\x00")), message('Z', []byte("I"))), 0},
	} {
		t.Run(name, func(t *testing.T) {
			r.Detach("test")
			recv, prim := stream(t, r, 1)
			write(t, prim, c.answer)
			expect(t, recv, c.answer)
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.target.lacks != c.lacks {
				t.Errorf("noted %d refusals (%q), want %d", r.target.lacks, r.target.lacked, c.lacks)
			}
			if c.lacks > 0 && !strings.Contains(r.target.lacked, "already been removed") {
				t.Errorf("noted %q", r.target.lacked)
			}
		})
	}
}
