package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"standfast/agent"
	"standfast/guard"
	"standfast/router"
	"standfast/store"
	"standfast/store/mem"
)

// spied is a store whose writes are noted in order.
type spied struct {
	*mem.Store
	keys []string
	fail string // writes of such keys fail
}

func (s *spied) Put(ctx context.Context, key string, value []byte) (int64, error) {
	if s.fail != "" && strings.Contains(key, s.fail) {
		return 0, errors.New("no majority")
	}
	s.keys = append(s.keys, strings.TrimPrefix(key, "/standfast/main/"))
	return s.Store.Put(ctx, key, value)
}

func (s *spied) CompareAndPut(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	s.keys = append(s.keys, strings.TrimPrefix(key, "/standfast/main/"))
	return s.Store.CompareAndPut(ctx, key, value, rev)
}

// TestFoundersComeBeforeTheConfiguration, for with it a member begins to count majorities.
func TestFoundersComeBeforeTheConfiguration(t *testing.T) {
	n, m := bare(t, "pg2")
	s := &spied{Store: m}
	n.store = store.New(s, "main")
	if err := n.seedOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"members/pg1", "members/pg2", "members/pg3", "config"}; !slices.Equal(s.keys, want) {
		t.Errorf("written: %q, want %q", s.keys, want)
	}

	s.keys = nil
	if err := n.seedOnce(t.Context()); err != nil || len(s.keys) != 0 {
		t.Errorf("written again: %q, %v", s.keys, err)
	}

	n.cfg.Members[1].Address = "127.0.0.9"
	if err := n.seedOnce(t.Context()); err != nil || !slices.Equal(s.keys, []string{"members/pg2"}) {
		t.Errorf("after a change of its own address: %q, %v", s.keys, err)
	}
}

// TestFoundingStopsHalfway without a configuration, so that nobody counts the members that are there so far.
func TestFoundingStopsHalfway(t *testing.T) {
	n, m := bare(t, "pg2")
	n.store = store.New(&spied{Store: m, fail: "members/pg3"}, "main")
	if err := n.seedOnce(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if _, err := store.New(m, "main").Config(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the configuration: %v", err)
	}
}

// TestTwoFoundAtOnce: whoever is second takes over what the first has written.
func TestTwoFoundAtOnce(t *testing.T) {
	n, m := bare(t, "pg2")
	if _, err := store.New(m, "main").PutConfig(t.Context(), []byte("copies: 2\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := n.found(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kv, err := n.store.Config(t.Context()); err != nil || string(kv.Value) != "copies: 2\n" {
		t.Errorf("%q, %v", kv.Value, err)
	}
}

// TestAgreedConfiguration: each revision is taken once, and one that can't be read leaves the one before in force.
func TestAgreedConfiguration(t *testing.T) {
	var said bytes.Buffer
	a := agreed{log: slog.New(slog.NewTextHandler(&said, nil))}
	for i, c := range []struct {
		revision int64
		text     string
		taken    bool
		copies   int
		says     string
	}{
		{0, "copies: 9\n", false, 0, ""},
		{5, "copies: 2\n", true, 2, ""},
		{5, "copies: 3\n", false, 2, ""},
		{6, "copies: many\n", false, 2, "stays in force"},
		{7, "copys: 4\n", false, 2, "stays in force"},
		{8, "copies: 3\n", true, 3, ""},
	} {
		said.Reset()
		if got := a.take(store.KV{Revision: c.revision, Value: []byte(c.text)}); got != c.taken {
			t.Errorf("%d: taken: %v", i, got)
		}
		if got := a.get().Copies; got != c.copies {
			t.Errorf("%d: %d copies, want %d", i, got, c.copies)
		}
		if !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
			t.Errorf("%d: it says %q", i, said.String())
		}
	}
}

// TestPauseEndsByItself, without anything being written.
func TestPauseEndsByItself(t *testing.T) {
	a := agreed{log: quiet}
	set := func(rev int64, until time.Time) {
		a.take(store.KV{Revision: rev, Value: []byte("paused_until: " + until.UTC().Format(time.RFC3339Nano) + "\n")})
	}
	set(1, time.Now().Add(time.Hour))
	if !a.settings().Paused {
		t.Error("not paused")
	}
	set(2, time.Now().Add(-time.Second))
	if a.settings().Paused {
		t.Error("still paused")
	}
}

// TestFollowsNothingWhileBeingFounded: members without a configuration are a part of the founders.
func TestFollowsNothingWhileBeingFounded(t *testing.T) {
	n, _ := bare(t, "pg2")
	a, err := agent.New(agent.Config{Self: "pg2", Cluster: "main", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	n.agent = a
	all := *n.members.Load()
	n.follows(t.Context(), store.Snapshot{Members: all[:1]})
	if got := *n.members.Load(); len(got) != 3 {
		t.Errorf("members: %v", got)
	}
	n.follows(t.Context(), store.Snapshot{Members: all[:2], Config: store.KV{Revision: 1, Value: []byte("copies: 1\n")}})
	if got := n.dataMembers(); !slices.Equal(got, []string{"pg1", "pg2"}) {
		t.Errorf("members: %v", got)
	}
}

// TestRouterFollowsTheAgreedLimits: a client that comes after a change is treated by it.
func TestRouterFollowsTheAgreedLimits(t *testing.T) {
	n, _ := bare(t, "pg2")
	a, err := agent.New(agent.Config{Self: "pg2", Cluster: "main", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	n.agent = a
	for rev, c := range []struct {
		text string
		want router.Limits
	}{
		{"router: {wait: 7s, max_sessions: 3, max_waiting: 2, read_max_lag_bytes: 1kB}\n",
			router.Limits{MaxPerServer: 3, Queue: 2, HoldFor: 7 * time.Second, ReadLag: 1024, ReadGrace: time.Second}},
		{"router: {wait: 0s, max_waiting: 0}\ndetection: 300ms\nlease: 900ms\n",
			router.Limits{ReadLag: 64 << 20, ReadGrace: 900 * time.Millisecond}},
	} {
		n.follows(t.Context(), store.Snapshot{Members: *n.members.Load(), Config: store.KV{Revision: int64(rev + 1), Value: []byte(c.text)}})
		if got := n.router.Limits(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.text, got, c.want)
		}
	}
}

// TestKilledGuardIsReplaced, and the next one armed by the agent's next look, because it knows nothing of the deadline before.
func TestKilledGuardIsReplaced(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("no memory")
	var fail atomic.Bool
	g := &guarded{group: func() string { return "" }, log: quiet, data: dir, pace: func() time.Duration { return time.Hour }, lease: func() time.Duration { return time.Hour }, held: func() []guard.Address { return nil }, start: func(ctx context.Context) (*guard.Guard, error) {
		if fail.Load() {
			return nil, broken
		}
		return guard.Start(ctx, guard.Config{Name: dir, WatchdogTimeout: time.Second, Log: quiet})
	}}
	var err error
	if g.guard, err = g.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { g.run(ctx) })
	defer func() {
		stop()
		ended.Wait()
		if err := errors.Join(g.Disarm(), g.close()); err != nil {
			t.Error(err)
		}
	}()
	if err := g.Feed(time.Hour); err != nil || g.warning() != "" {
		t.Fatalf("%v, %q", err, g.warning())
	}
	fail.Store(true)
	first := g.now().Status().PID
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the status says that it could not be started", func() bool { return strings.Contains(g.warning(), broken.Error()) })
	fail.Store(false)
	eventually(t, "another one runs", func() bool { return g.warning() == "" && g.now().Status().PID != first })
	if err := g.Feed(time.Hour); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is armed", func() bool { return g.now().Status().Left > time.Minute })
}

// TestGuardIsFedAtItsPace: the agent answers many times a second, the guard hears of it often enough and not more; and a
// server that is no primary has it disarmed.
func TestGuardIsFedAtItsPace(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(data, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	g, err := guard.Start(t.Context(), guard.Config{Name: dir, WatchdogTimeout: time.Second, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &guarded{group: func() string { return "" }, guard: g, data: filepath.Join(dir, "link"), pace: func() time.Duration { return time.Hour }, held: func() []guard.Address { return nil }}
	sent := func() uint64 { return g.Status().LastSeq }

	first := sent()
	for range 100 {
		if err := f.Feed(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if n := sent() - first; n != 1 {
		t.Errorf("fed %d times within the pace", n)
	}
	for range 5 { // a deadline that is near is told at least four times before it is there
		f.fed = f.fed.Add(-time.Minute)
		if err := f.Feed(4 * time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if n := sent() - first; n != 6 {
		t.Errorf("fed %d times, want 6", n)
	}
	eventually(t, "the guard is armed", func() bool { return g.Status().Left > time.Minute })
	if err := f.Disarm(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the guard is disarmed", func() bool {
		st := g.Status()
		return st.Left == 0 && st.AckedSeq == st.LastSeq
	})
	before := sent()
	if err := f.Feed(time.Hour); err != nil {
		t.Fatal(err)
	}
	if sent() == before {
		t.Error("after having been disarmed it was not armed at once")
	}
	eventually(t, "the guard falls silent once disarmed", func() bool {
		if err := f.Disarm(); err != nil {
			t.Fatal(err)
		}
		was := sent()
		f.fed = f.fed.Add(-time.Hour)
		return f.Disarm() == nil && sent() == was
	})
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
