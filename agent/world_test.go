package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"standfast/beat"
	"standfast/cluster"
	"standfast/store"
	"standfast/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	detect = 700 * time.Millisecond
	lease  = 3 * time.Second
)

// world is one agent among fakes: what it does to PostgreSQL, the relay and the store is recorded in one list, in order.
// It lives in a synctest bubble, so its clock stands still while anything can run, and a wait of seconds costs nothing.
type world struct {
	*trace
	t        *testing.T
	dir      string
	shared   *mem.Shared
	admin    *store.Cluster // what everybody else writes through
	store    *fakeStore
	pg       *fakePostgres
	relay    *fakeRelay
	beats    *fakeBeats
	router   *fakeRouter
	guard    *fakeGuard
	settings cluster.Settings
	agent    *Agent
	stop     func()

	mu    sync.Mutex
	views []cluster.View // those that differ from the one before in what tests ask for
}

// inWorld runs the test with an agent called self in a cluster of the members, none of which is started.
func inWorld(t *testing.T, self string, members []cluster.Member, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, self, members)
		test(w)
	})
}

func newWorld(t *testing.T, self string, members []cluster.Member) *world {
	tr := &trace{begun: time.Now()}
	shared := mem.New()
	handles := []*mem.Store{shared.Open(), shared.Open()}
	t.Cleanup(func() {
		for _, h := range handles {
			_ = h.Close()
		}
	})
	w := &world{
		trace: tr, t: t, dir: t.TempDir(), shared: shared, admin: store.New(handles[0], "main"),
		pg: newPostgres(tr), relay: &fakeRelay{tr: tr, changed: make(chan struct{}, 1)},
		beats: newBeats(), router: &fakeRouter{}, guard: &fakeGuard{tr: tr},
		settings: cluster.Settings{
			Durability: cluster.Quorum, Copies: 1, Detect: detect, Lease: lease, AgentGrace: 3 * time.Second,
			GuardDelay: time.Second, AntiFlap: time.Minute,
		},
	}
	w.store = &fakeStore{Store: handles[1], tr: tr, dir: w.dir, hung: map[string]chan struct{}{}}
	for _, m := range members {
		w.must(w.admin.PutMember(context.Background(), m))
		if m.Name != self {
			w.beats.say(m.Name, cluster.Beat{Data: cluster.NoData})
		}
	}
	if _, err := w.admin.PutConfig(context.Background(), []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	w.beats.self = self
	return w
}

// ask records a switchover that this member stands by.
func (w *world) ask(to string) {
	w.t.Helper()
	_, err := w.admin.PutRequest(context.Background(), cluster.Request{ID: "1", Kind: cluster.Switchover, Term: 2, To: to, By: "op", From: w.beats.self}, 0)
	w.must(err)
}

// start makes the agent and runs it until the test ends.
func (w *world) start() {
	w.t.Helper()
	w.run(w.config())
}

// run is start with another configuration.
func (w *world) run(c Config) {
	w.t.Helper()
	a, err := New(c)
	w.must(err)
	w.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the agent ended with %v", err)
		}
	})
	w.t.Cleanup(w.stop)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Log("what was done:\n" + strings.Join(w.lines(), "\n"))
		}
	})
}

func (w *world) config() Config {
	return Config{
		Asked: func() string { return "1" },
		Self:  w.beats.self, Cluster: "main", StateDir: w.dir, Store: store.New(w.store, "main"), Postgres: w.pg, Relay: w.relay,
		Beats: w.beats, Router: w.router, Guard: w.guard, Log: slog.New(slog.DiscardHandler),
		Settings: func() cluster.Settings { return w.settings },
		Probe:    func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() },
		OnView: func(v cluster.View, _ cluster.Route) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.views = append(w.views[max(len(w.views)-100, 0):], v)
		},
	}
}

// view is the newest that the agent has decided by.
func (w *world) view() cluster.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.views) == 0 {
		return cluster.View{}
	}
	return w.views[len(w.views)-1]
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// until lets time pass until the condition holds, and fails after half a minute of it.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for range 30000 {
		synctest.Wait()
		if cond() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("waited in vain: %s", what)
}

// untilDone waits until a line that begins so has been recorded.
func (w *world) untilDone(prefix string) {
	w.t.Helper()
	w.until(prefix, func() bool { return w.count(prefix) > 0 })
}

// pass lets so much time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// never lets time pass and fails if anything is recorded that begins so.
func (w *world) never(d time.Duration, prefix string) {
	w.t.Helper()
	was := w.count(prefix)
	w.pass(d)
	if n := w.count(prefix); n != was {
		w.t.Fatalf("%q was done %d times", prefix, n-was)
	}
}

// record writes the agreed record over whatever there is.
func (w *world) record(s cluster.State) {
	w.t.Helper()
	old, _ := w.admin.State(context.Background())
	s.Cluster, s.Revision = "main", old.Revision
	_, err := w.admin.WriteState(context.Background(), s)
	w.must(err)
}

func (w *world) recorded() cluster.State {
	w.t.Helper()
	s, err := w.admin.State(context.Background())
	w.must(err)
	return s
}

// reigns is a record of the term in which the member reigns.
func reigns(term cluster.Term, primary string, r cluster.Rule) cluster.State {
	return cluster.State{
		SystemID: "7", Term: term, Phase: cluster.Reigning, Primary: primary, Last: primary, Timeline: cluster.Timeline(term),
		Fork: 0x1000000, History: cluster.History{{Timeline: cluster.Timeline(term - 1), End: 0x1000000}}, Rule: r, Reason: "test", By: primary,
	}
}

// elects is the record of an election after the reign.
func elects(reign cluster.State) cluster.State {
	reign.Term++
	reign.Timeline++
	reign.Phase, reign.Primary, reign.Fork, reign.History = cluster.Electing, "", 0, nil
	return reign
}

// three are data members pg1 to pg3.
func three() []cluster.Member { return members("pg1", "pg2", "pg3") }

func members(names ...string) []cluster.Member {
	var out []cluster.Member
	for i, n := range names {
		out = append(out, cluster.Member{Name: n, Kind: cluster.Data, Priority: 100, Postgres: fmt.Sprintf("10.0.0.%d:5432", i+1)})
	}
	return out
}

// reigning has pg1 run as the primary of term 2, with clients let in and pg2 and pg3 streaming. The rule is as given.
func (w *world) reigning(r cluster.Rule) {
	w.t.Helper()
	w.pg.runs(cluster.Postgres{
		Position: cluster.Position{Timeline: 2, LSN: 0x2000000}, Fork: 0x1000000,
		History: cluster.History{{Timeline: 1, End: 0x1000000}}, Names: r, Standbys: streaming(r.Of...),
	})
	for _, n := range []string{"pg2", "pg3"} {
		w.beats.say(n, cluster.Beat{Term: 2, Promised: 2, Attached: 2, Data: cluster.DataReady, Up: true, Recovery: true})
	}
	w.record(reigns(2, "pg1", r))
	w.start()
	w.until("clients are admitted", func() bool { return w.beats.said().Admitted == 2 })
}

func streaming(names ...string) []cluster.Standby {
	var out []cluster.Standby
	for _, n := range names {
		out = append(out, cluster.Standby{Name: n, Streaming: true, Flushed: 0x7000000, Replayed: 0x7000000})
	}
	return out
}

// following has pg2 run as a standby of pg1, attached in term 2.
func (w *world) following(r cluster.Rule) {
	w.t.Helper()
	w.standby()
	w.record(reigns(2, "pg1", r))
	w.start()
	w.relay.connect()
	w.until("attached", func() bool { return w.relay.Status().Term == 2 })
}

// standby has pg2 ready to run as a standby whose WAL lies on term 2's history, and the others heard in term 2.
func (w *world) standby() {
	w.pg.runs(cluster.Postgres{
		Recovery: true, Position: cluster.Position{Timeline: 2, LSN: 0x2000000}, Replayed: 0x2000000,
	})
	w.beats.say("pg1", cluster.Beat{Term: 2, Promised: 2, Admitted: 2, Data: cluster.DataReady, Up: true})
	w.beats.say("pg3", cluster.Beat{Term: 2, Promised: 2, Attached: 2, Data: cluster.DataReady, Up: true, Recovery: true})
}

// promiseOnDisk is the promise that a member started now would read.
func promiseOnDisk(dir string) cluster.Term {
	p := promises{path: filepath.Join(dir, "promise.json")}
	for _, self := range []string{"pg1", "pg2"} {
		if t, _, err := p.load("main", self); err == nil {
			return t
		}
	}
	return 0
}

// trace records what was done, in order and with the bubble's time.
type trace struct {
	mu    sync.Mutex
	begun time.Time
	done  []step
}

type step struct {
	at   time.Time
	what string
}

func (tr *trace) add(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.done = append(tr.done, step{time.Now(), fmt.Sprintf(format, args...)})
}

func (tr *trace) lines() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	out := make([]string, 0, len(tr.done))
	for _, s := range tr.done {
		if strings.HasPrefix(s.what, "store get") {
			continue // many, and seldom what one looks for
		}
		out = append(out, fmt.Sprintf("%9v %s", s.at.Sub(tr.begun), s.what))
	}
	return out
}

func (tr *trace) count(prefix string) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	n := 0
	for _, s := range tr.done {
		if strings.HasPrefix(s.what, prefix) {
			n++
		}
	}
	return n
}

// mark is a place in the list; steps are looked for behind it.
func (tr *trace) mark() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.done)
}

// order fails unless steps that begin so follow each other, others between them, behind the mark. It returns their times.
func (w *world) order(mark int, prefixes ...string) []time.Time {
	w.t.Helper()
	w.trace.mu.Lock()
	defer w.trace.mu.Unlock()
	var at []time.Time
	i := mark
	for _, p := range prefixes {
		for i < len(w.done) && !strings.HasPrefix(w.done[i].what, p) {
			i++
		}
		if i == len(w.done) {
			w.t.Fatalf("%q was not done, or not in the order %q", p, prefixes)
		}
		at = append(at, w.done[i].at)
		i++
	}
	return at
}

// fakeBeats hears what the test has the others say. Those that speak are heard at every moment.
type fakeBeats struct {
	mu      sync.Mutex
	self    string
	peers   map[string]beat.Peer
	silent  map[string]bool
	own     []cluster.Beat // those that differ from the one before
	changed chan struct{}
}

func newBeats() *fakeBeats {
	return &fakeBeats{peers: map[string]beat.Peer{}, silent: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (f *fakeBeats) say(name string, b cluster.Beat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.From = name
	f.peers[name] = beat.Peer{Beat: b, HeardAt: time.Now()}
	f.silent[name] = false
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// change has a member say the same as before but for what edit changes.
func (f *fakeBeats) change(name string, edit func(*cluster.Beat)) {
	f.mu.Lock()
	b := f.peers[name].Beat
	f.mu.Unlock()
	edit(&b)
	f.say(name, b)
}

// forget has the member never been heard.
func (f *fakeBeats) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.peers, name)
}

// silence ends a member's beats.
func (f *fakeBeats) silence(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[name]
	p.HeardAt = time.Now()
	f.peers[name], f.silent[name] = p, true
}

func (f *fakeBeats) Set(b cluster.Beat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.own); n == 0 || fmt.Sprint(f.own[n-1]) != fmt.Sprint(b) {
		f.own = append(f.own, b)
	}
}

func (f *fakeBeats) Peers() map[string]beat.Peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]beat.Peer{}
	for n, p := range f.peers {
		if !f.silent[n] {
			p.HeardAt = time.Now()
		}
		out[n] = p
	}
	return out
}

func (f *fakeBeats) Changed() <-chan struct{} { return f.changed }

// said is what the agent says now.
func (f *fakeBeats) said() cluster.Beat {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.own) == 0 {
		return cluster.Beat{}
	}
	return f.own[len(f.own)-1]
}

// everSaid reports whether any of the agent's beats was such.
func (f *fakeBeats) everSaid(such func(cluster.Beat) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.own {
		if such(b) {
			return true
		}
	}
	return false
}

// fakeRouter keeps the newest route.
type fakeRouter struct {
	mu    sync.Mutex
	route cluster.Route
}

func (f *fakeRouter) SetRoute(r cluster.Route, _ map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.route = r
}

func (f *fakeRouter) now() cluster.Route {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.route
}

// fakeGuard keeps the deadline it was fed with.
type fakeGuard struct {
	tr       *trace
	mu       sync.Mutex
	feeds    int
	deadline time.Time // zero: disarmed
}

func (f *fakeGuard) Feed(within time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.feeds++
	f.deadline = time.Now().Add(within)
	return nil
}

func (f *fakeGuard) Disarm() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deadline = time.Time{}
	return nil
}

func (f *fakeGuard) fed() (int, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.feeds, f.deadline
}

// damage replaces the promise file's content.
func damage(t *testing.T, dir, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "promise.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
