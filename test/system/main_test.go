//go:build e2e

package system

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"standfast/playground"
	"standfast/playground/load"
	"standfast/test/system/rig"

	"github.com/jackc/pgx/v5"
)

// all ends when the tests are interrupted; every playground and every wait hangs on it.
var all context.Context

// shared is the playground that the tests use one after the other; nil: none runs.
var shared *rig.Rig

// healTime is how long a cluster may take to be whole again after any fault. On an idle machine it is a few seconds.
const healTime = 120 * time.Second

// explain prints, should the test fail, what the members have written to their logs since now.
func explain(t *testing.T, r *rig.Rig) {
	mark := r.LogMark()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the members' own words:\n" + r.LogSince(mark))
		}
	})
}

func TestMain(m *testing.M) {
	child, code, err := rig.Again(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if child && err == nil {
		code = run(m)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int) {
	var stop context.CancelFunc
	all, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer func() {
		if err := stopShared(code != 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return m.Run()
}

func stopShared(logs bool) error {
	if shared == nil {
		return nil
	}
	err := shared.Stop(logs)
	shared = nil
	return err
}

// whole returns the shared playground, whole; it is started if none runs, and anew if the last test left it broken, so that
// one failure does not bring on others.
func whole(t *testing.T) (r *rig.Rig, primary *rig.Node, term uint64) {
	t.Helper()
	if all.Err() != nil {
		t.Fatal("interrupted")
	}
	if shared != nil {
		var err error
		if primary, term, err = shared.AwaitWhole(all, healTime); err == nil {
			explain(t, shared)
			return shared, primary, term
		}
		t.Logf("what the test before left is not whole, so a new playground is started: %v", err)
		if err := stopShared(true); err != nil {
			t.Log(err)
		}
	}
	shared = started(t)
	explain(t, shared)
	primary, term, err := shared.AwaitWhole(all, healTime)
	if err != nil {
		t.Fatal(err)
	}
	return shared, primary, term
}

// started starts a playground. A primary that lives may be replaced again at once, or the tests would wait for each other.
func started(t *testing.T, settings ...string) *rig.Rig {
	t.Helper()
	return founded(t, playground.Config{Settings: settings})
}

func founded(t *testing.T, cfg playground.Config) *rig.Rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(all, 3*time.Minute)
	defer cancel()
	began := time.Now()
	cfg.Binary, cfg.Settings = rig.Binary(), append([]string{"bootstrap.anti_flap=1s"}, cfg.Settings...)
	r, err := rig.Found(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a playground was started in %.1f s", time.Since(began).Seconds())
	for _, n := range r.DataNodes() { // one standby was enough to make the database; a test may read from the other
		awaitDatabase(t, ctx, r.DSN(n.Address, r.Ports().Postgres))
	}
	return r
}

// awaitDatabase waits until the database that the playground made is there.
func awaitDatabase(t *testing.T, ctx context.Context, dsn string) {
	t.Helper()
	for ; ; pause(ctx) {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			load.CloseNow(conn)
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the playground's database does not appear: %v", err)
		}
	}
}

// own stops the shared playground and starts one for this test alone.
func own(t *testing.T, settings ...string) (r *rig.Rig, primary *rig.Node, term uint64) {
	t.Helper()
	return ownOf(t, playground.Config{Settings: settings})
}

// ownOf is own for a cluster of another shape.
func ownOf(t *testing.T, cfg playground.Config) (r *rig.Rig, primary *rig.Node, term uint64) {
	t.Helper()
	if err := stopShared(false); err != nil {
		t.Fatal(err)
	}
	r = founded(t, cfg)
	t.Cleanup(func() {
		if err := r.Stop(t.Failed()); err != nil {
			t.Error(err)
		}
	})
	explain(t, r)
	primary, term, err := r.AwaitWhole(all, healTime)
	if err != nil {
		t.Fatal(err)
	}
	return r, primary, term
}
