//go:build e2e

package system

import (
	"context"
	"flag"
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
	flag.Parse() // -test.parallel says how many lanes there are
	made, err := makeLanes(flag.Lookup("test.parallel").Value.(flag.Getter).Get().(int))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("test/system runs on %s; %d scenarios at a time\n", rig.Ground(), len(made))
	defer func() {
		for _, l := range made {
			if err := l.stop(code != 0); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	return m.Run()
}

// founded starts a playground. A primary that lives may be replaced again at once, or the tests would wait for each other.
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
