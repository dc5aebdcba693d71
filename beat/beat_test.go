package beat

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"standfast/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wireTap is a socket that can drop, record and refuse what is sent.
type wireTap struct {
	conn
	mu     sync.Mutex
	loss   float64
	refuse error
	record func(sent []byte)
}

func (w *wireTap) set(change func(*wireTap)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *wireTap) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return 0, w.refuse
	}
	if rand.Float64() < w.loss {
		return len(b), nil
	}
	n, err := w.conn.WriteToUDPAddrPort(b, to)
	if err == nil && w.record != nil { // one that was never sent would be news when it is played back
		w.record(append([]byte(nil), b...))
	}
	return n, err
}

// network is a set of members on loopback.
type network struct {
	t     *testing.T
	mu    sync.Mutex
	addrs map[string]string
	stale func() time.Duration
	told  func(from string, body []byte)
}

func newNetwork(t *testing.T) *network { return &network{t: t, addrs: make(map[string]string)} }

func (n *network) peers() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.addrs)
}

type member struct {
	*Beats
	tap  *wireTap
	stop func()
}

// start runs a member until the test ends or it is stopped; under a name used before it is the same member's next life.
func (n *network) start(name string, interval time.Duration) *member {
	n.t.Helper()
	addr := n.peers()[name]
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	b, err := New(Config{Self: name, Listen: addr, Key: key, Interval: interval, Peers: n.peers, Stale: n.stale, Told: n.told})
	if err != nil {
		n.t.Fatal(err)
	}
	tap := &wireTap{conn: b.conn}
	b.conn = tap
	n.mu.Lock()
	n.addrs[name] = b.Addr()
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	var once sync.Once
	m := &member{b, tap, func() {
		once.Do(func() {
			cancel()
			if err := <-ran; err != nil {
				n.t.Errorf("Run: %v", err)
			}
		})
	}}
	n.t.Cleanup(m.stop)
	return m
}

// until waits, by notification and at most 5 s, for what a member sees.
func (m *member) until(t *testing.T, what string, ok func(map[string]Peer) bool) map[string]Peer {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		if p := m.Peers(); ok(p) {
			return p
		}
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("never %s: %+v, %+v", what, m.Peers(), m.Stats())
		}
	}
}

func hears(name string) func(map[string]Peer) bool {
	return func(p map[string]Peer) bool { _, ok := p[name]; return ok }
}

func TestThreeHearOneAnother(t *testing.T) {
	n := newNetwork(t)
	var all []*member
	for i := range 3 {
		m := n.start(fmt.Sprintf("pg%d", i+1), 0)
		m.Set(cluster.Beat{Term: cluster.Term(i + 1), Up: true})
		all = append(all, m)
	}
	for i, m := range all {
		p := m.until(t, "hearing the others", func(p map[string]Peer) bool { return len(p) == 2 })
		for j := range 3 {
			name := fmt.Sprintf("pg%d", j+1)
			if b := p[name].Beat; i != j && (b.From != name || b.Term != cluster.Term(j+1) || !b.Up || b.Incarnation != all[j].incarnation) {
				t.Errorf("pg%d hears %+v of %s", i+1, b, name)
			}
		}
	}
}

// A change is told at once, not with the next beat, and twice.
func TestChangeIsSentAtOnce(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", time.Hour), n.start("b", time.Hour)
	b.Set(cluster.Beat{Term: 1}) // both said their first beat before they knew each other's address, perhaps
	a.Set(cluster.Beat{Term: 1})
	b.until(t, "hearing a", hears("a"))
	seq := b.Peers()["a"].Seq
	a.Set(cluster.Beat{Term: 2})
	p := b.until(t, "hearing term 2", func(p map[string]Peer) bool { return p["a"].Term == 2 })
	if p["a"].Seq <= seq {
		t.Errorf("numbers do not rise: %d after %d", p["a"].Seq, seq)
	}
	for deadline := time.Now().Add(5 * time.Second); b.Peers()["a"].Seq < seq+2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second datagram of the burst never came")
		}
	}
	a.Set(cluster.Beat{Term: 2, Position: cluster.Position{LSN: 77}, Sessions: 3})
	select {
	case <-a.kick:
		t.Error("a position alone was told at once")
	default:
	}
}

// A member whose beats are no longer set falls silent, though its sender works, and speaks again at once when they are.
func TestStaleBeatsAreNotSaid(t *testing.T) {
	n := newNetwork(t)
	n.stale = func() time.Duration { return 200 * time.Millisecond }
	a, b := n.start("a", 10*time.Millisecond), n.start("b", 10*time.Millisecond)
	a.Set(cluster.Beat{Term: 1, Admitted: 1})
	last := time.Now()
	b.Set(cluster.Beat{Term: 1})
	b.until(t, "hearing a", hears("a"))
	time.Sleep(time.Until(last.Add(300 * time.Millisecond))) // stale for 100 ms; what was under way has arrived
	if said := b.Peers()["a"]; said.HeardAt.After(last.Add(299 * time.Millisecond)) {
		t.Errorf("heard %v after the last Set", said.HeardAt.Sub(last))
	}
	again := time.Now()
	a.Set(cluster.Beat{Term: 1, Admitted: 1})
	b.until(t, "hearing a again", func(p map[string]Peer) bool { return p["a"].HeardAt.After(again) })
}

// With an interval of an hour only the answers to strangers can make two members known to each other.
func TestStrangersAreAnswered(t *testing.T) {
	n := newNetwork(t)
	a := n.start("a", time.Hour)
	b := n.start("b", time.Hour)
	b.Set(cluster.Beat{Term: 1})
	a.until(t, "hearing b", hears("b"))
	b.until(t, "hearing a", hears("a"))
}

func TestNextLifeIsHeard(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 20*time.Millisecond), n.start("b", 20*time.Millisecond)
	first := a.until(t, "hearing b", hears("b"))["b"].Incarnation
	b.stop()
	b = n.start("b", 20*time.Millisecond)
	a.until(t, "hearing the next life", func(p map[string]Peer) bool { return p["b"].Incarnation == b.incarnation && b.incarnation != first })
}

// A clock set back between two lives gives the later one the lower number.
func TestNextLifeAfterClockSetBack(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 20*time.Millisecond), n.start("b", 20*time.Millisecond)
	a.until(t, "hearing b", hears("b"))
	b.stop()
	later, err := New(Config{Self: "b", Listen: n.peers()["b"], Key: key, Interval: 20 * time.Millisecond, Peers: n.peers})
	if err != nil {
		t.Fatal(err)
	}
	later.incarnation = 1
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- later.Run(ctx) }()
	a.until(t, "hearing the next life", func(p map[string]Peer) bool { return p["b"].Incarnation == 1 })
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// Everything a member ever said is played back: to the one who heard it, to one that was restarted since, and beside
// the sender's next life. None of it is believed.
func TestReplayIsNotBelieved(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 20*time.Millisecond), n.start("b", 20*time.Millisecond)
	var mu sync.Mutex
	var tape [][]byte
	b.tap.set(func(w *wireTap) {
		w.record = func(sent []byte) {
			mu.Lock()
			defer mu.Unlock()
			tape = append(tape, sent)
		}
	})
	b.Set(cluster.Beat{Term: 666})
	a.until(t, "hearing b", func(p map[string]Peer) bool { return p["b"].Term == 666 })
	b.stop()
	a.until(t, "hearing the last of b", func(map[string]Peer) bool { // a alone is sent to
		s := a.Stats()
		return s.Heard+s.Unproven+s.Replayed == b.Stats().Sent
	})
	seq := a.Peers()["b"].Seq

	mallory, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mallory.Close()
	replay := func(to *member) {
		t.Helper()
		addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to.Addr()))
		seen := func() uint64 { s := to.Stats(); return s.Replayed + s.Unproven + s.Heard }
		for _, d := range tape {
			before := seen()
			if _, err := mallory.WriteTo(d, addr); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(5 * time.Second); seen() == before; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the replay never arrived")
				}
			}
		}
	}
	replay(a)
	if p := a.Peers()["b"]; p.Seq != seq {
		t.Errorf("a replay was believed by the one who had heard it: %+v", p)
	}
	a.stop()
	a = n.start("a", 20*time.Millisecond)
	replay(a)
	if p, ok := a.Peers()["b"]; ok {
		t.Errorf("a replay was believed after a restart: %+v", p)
	}
	b = n.start("b", 20*time.Millisecond)
	b.Set(cluster.Beat{Term: 7})
	a.until(t, "hearing the next life", func(p map[string]Peer) bool { return p["b"].Term == 7 })
	replay(a)
	if p := a.Peers()["b"]; p.Term != 7 {
		t.Errorf("a replay displaced the present life: %+v", p)
	}
}

func TestForeignAndForged(t *testing.T) {
	n := newNetwork(t)
	a := n.start("a", 20*time.Millisecond)
	other := newNetwork(t)
	other.addrs["a"] = a.Addr()
	other.start("stranger", 20*time.Millisecond)
	liar, err := New(Config{Self: "b", Listen: "127.0.0.1:0", Key: []byte("another key, 16+"), Interval: 20 * time.Millisecond, Peers: n.peers})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.addrs["b"] = liar.Addr()
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- liar.Run(ctx) }()
	for deadline := time.Now().Add(5 * time.Second); a.Stats().Foreign < 3 || a.Stats().Forged < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", a.Stats())
		}
	}
	if len(a.Peers()) != 0 {
		t.Errorf("hears %+v", a.Peers())
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// A third of all datagrams lost, in both directions: changes get through, and no gap comes near to a detection time.
func TestLoss(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 10*time.Millisecond), n.start("b", 10*time.Millisecond)
	for _, m := range []*member{a, b} {
		m.tap.set(func(w *wireTap) { w.loss = 1. / 3 })
	}
	for term := cluster.Term(1); term <= 20; term++ {
		b.Set(cluster.Beat{Term: term})
		a.until(t, fmt.Sprintf("hearing term %d", term), func(p map[string]Peer) bool { return p["b"].Term == term })
	}
}

// The kernel refuses to send, as with a link down or an nftables rule; when it stops, beats go on.
// TestLinks: what is lost is counted, and a round trip measured without the time that the other kept the echo.
func TestLinks(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("pg1", 200*time.Millisecond), n.start("pg2", 200*time.Millisecond)
	a.Set(cluster.Beat{Term: 1})
	b.Set(cluster.Beat{Term: 1})
	a.until(t, "pg2", hears("pg2"))
	b.until(t, "pg1", hears("pg1"))
	if l := a.Links()["pg2"]; l.Lost != 0 || l.Heard == 0 {
		t.Errorf("before any loss: %+v", l)
	}
	b.tap.set(func(w *wireTap) { w.loss = 1 })
	sent := b.Stats().Sent
	for b.Stats().Sent < sent+6 {
		time.Sleep(time.Millisecond)
	}
	b.tap.set(func(w *wireTap) { w.loss = 0 })
	seq := a.Peers()["pg2"].Seq
	a.until(t, "a beat after the losses", func(p map[string]Peer) bool { return p["pg2"].Seq >= seq+6 })
	// Beats are said at the same moments, so an echo is a whole interval old: that must not count.
	if l := a.Links()["pg2"]; l.Lost < 6 || l.Trip <= 0 || l.Trip >= 200*time.Millisecond {
		t.Errorf("after six were lost: %+v", l)
	}
}

func TestRoundTripIsSmoothed(t *testing.T) {
	var p peer
	for _, trip := range []time.Duration{-1, 8, 16, 8} {
		p.measure(trip*time.Millisecond, 0)
	}
	p.measure(time.Hour, -1) // of an older release, which does not tell
	if p.trip != 8*time.Millisecond+875*time.Microsecond {
		t.Errorf("smoothed: %v", p.trip)
	}
}

func TestSendErrorsAreSurvived(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 10*time.Millisecond), n.start("b", 10*time.Millisecond)
	a.until(t, "hearing b", hears("b"))
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENOBUFS} {
		before := b.Stats().SendErrors
		b.tap.set(func(w *wireTap) { w.refuse = os.NewSyscallError("sendto", errno) })
		for deadline := time.Now().Add(5 * time.Second); b.Stats().SendErrors < before+10; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%v: it stopped sending: %+v", errno, b.Stats())
			}
		}
		for len(a.changed) > 0 {
			<-a.changed
		}
		seq := a.Peers()["b"].Seq
		b.tap.set(func(w *wireTap) { w.refuse = nil })
		select {
		case <-a.Changed(): // because of the silence: the beat says nothing new
		case <-time.After(5 * time.Second):
			t.Fatalf("%v: the peer's return was not told", errno)
		}
		if got := a.Peers()["b"].Seq; got <= seq {
			t.Errorf("%v: number %d after %d", errno, got, seq)
		}
	}
}

func TestUnresolvedNameIsSurvived(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 10*time.Millisecond), n.start("b", 10*time.Millisecond)
	_, port, _ := net.SplitHostPort(b.Addr())
	n.mu.Lock()
	n.addrs["ghost"] = "no-such-host.invalid:8301"
	n.addrs["b"] = "localhost:" + port
	n.mu.Unlock()
	b.Set(cluster.Beat{Term: 4})
	a.Set(cluster.Beat{Term: 5})
	a.until(t, "hearing b", func(p map[string]Peer) bool { return p["b"].Term == 4 })
	b.until(t, "hearing a", func(p map[string]Peer) bool { return p["a"].Term == 5 })
	for deadline := time.Now().Add(5 * time.Second); a.Stats().Unresolved == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", a.Stats())
		}
	}
}

func TestRemovedPeerIsForgotten(t *testing.T) {
	n := newNetwork(t)
	a := n.start("a", 10*time.Millisecond)
	n.start("b", 10*time.Millisecond)
	a.until(t, "hearing b", hears("b"))
	n.mu.Lock()
	delete(n.addrs, "b")
	n.mu.Unlock()
	if len(a.Peers()) != 0 {
		t.Errorf("hears %+v", a.Peers())
	}
}

func TestStall(t *testing.T) {
	var m stallMeter
	t0 := time.Now()
	m.note(t0, 300*time.Millisecond, t0.Add(100*time.Millisecond))
	m.note(t0.Add(100*time.Millisecond), time.Millisecond, t0.Add(200*time.Millisecond))
	for _, c := range []struct{ at, want time.Duration }{
		{150, 300},
		{900, 700}, // the firing due at 200 has not happened
		{1050, 850},
	} {
		if got := m.worst(t0.Add(c.at * time.Millisecond)); got != c.want*time.Millisecond {
			t.Errorf("after %d ms: %v, want %d ms", c.at, got, c.want)
		}
	}
	m.note(t0.Add(1050*time.Millisecond), 0, t0.Add(3*time.Second))
	if got := m.worst(t0.Add(1100 * time.Millisecond)); got != time.Millisecond {
		t.Errorf("what is older than a second still counts: %v", got)
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	good := Config{Self: "a", Listen: "127.0.0.1:0", Key: key, Peers: func() map[string]string { return nil }}
	for name, spoil := range map[string]func(*Config){
		"no name":     func(c *Config) { c.Self = "" },
		"short key":   func(c *Config) { c.Key = key[:8] },
		"no peers":    func(c *Config) { c.Peers = nil },
		"bad address": func(c *Config) { c.Listen = "127.0.0.1:http-but-not-a-port" },
	} {
		cfg := good
		spoil(&cfg)
		if b, err := New(cfg); err == nil {
			b.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkBeat(b *testing.B) {
	s := newSealer(key)
	beat := cluster.Beat{From: "pg1", Term: 7, Promised: 7, Admitted: 7, Position: cluster.Position{Timeline: 3, LSN: 1 << 40},
		Up: true, Hears: []string{"pg2", "pg3"}}
	buf := make([]byte, 0, maxPacket)
	b.ReportAllocs()
	for b.Loop() {
		body, _ := encode(beat)
		buf = s.seal(buf[:0], packet{beat: beat}, body)
		if _, err := s.open(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle is what three members cost when nothing happens: the share of one core that each uses.
func BenchmarkIdle(b *testing.B) {
	addrs := make(map[string]string)
	var all []*Beats
	for i := range 3 {
		m, err := New(Config{Self: fmt.Sprintf("pg%d", i+1), Listen: "127.0.0.1:0", Key: key, Peers: func() map[string]string { return addrs }})
		if err != nil {
			b.Fatal(err)
		}
		addrs[m.cfg.Self] = m.Addr()
		all = append(all, m)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, m := range all {
		m.Set(cluster.Beat{Term: 7, Up: true, Hears: []string{"pg1", "pg2"}})
		wg.Go(func() { m.Run(ctx) })
	}
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	began := time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(100*float64(cpu)/float64(time.Since(began))/3, "%core/member")
	cancel()
	wg.Wait()
}
