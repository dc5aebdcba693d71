package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/postgres"
)

// TestPromotionIsNotLeftBehind: a promotion that is told to end, or whose agent is gone, while PostgreSQL has not yet taken
// notice of it must not be carried out later, when the server may follow another primary.
func TestPromotionIsNotLeftBehind(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	w.follow(b, a)

	hang(t, b)
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := b.Promote(short, 2, cluster.NewRule(0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a promotion that hangs: %v", err)
	}
	if runs, err := b.Running(); runs || err != nil {
		t.Error(err, "the server that was told to promote itself lives on")
	}
	stillStandby(t, b)

	hang(t, b)
	promote(t, b)
	next := postgres.New(b.cfg)
	defer next.Close(context.Background())
	if runs, err := next.Adopt(ctx); runs || err != nil {
		t.Errorf("a server that was told to promote itself is adopted: %v, %v", runs, err)
	}
	eventually(t, "its end is noticed", func() bool { runs, err := b.Running(); return !runs && err == nil })
	stillStandby(t, b)
}

// hang stops the process that replays WAL, which is the one that ends recovery.
func hang(t *testing.T, n *node) {
	t.Helper()
	pid, err := strconv.Atoi(n.value(t, "select pid::text from pg_stat_activity where backend_type = 'startup'"))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
}

// promote is what an agent does last of all: the server is told.
func promote(t *testing.T, n *node) {
	t.Helper()
	n.exec(t, "select pg_promote(false)")
	if _, err := os.Stat(filepath.Join(n.cfg.DataDir, "promote")); err != nil {
		t.Fatal(err)
	}
}

func stillStandby(t *testing.T, n *node) {
	t.Helper()
	must(t, n.StartStandby(bounded(t)))
	eventually(t, "it answers", func() bool { o, err := n.Observe(bounded(t)); return err == nil && o.Postgres.Up })
	if p := n.observe(t).Postgres; !p.Recovery || p.Position.Timeline != 1 {
		t.Errorf("it was promoted all the same: %+v", p)
	}
}
