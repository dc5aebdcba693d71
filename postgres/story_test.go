package postgres_test

import (
	"errors"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/postgres"
)

// TestReigns walks one cluster through its life: founding, cloning, commits by rule, the loss of the primary, a promotion
// on a reserved timeline, one member that follows and one that rewinds.
func TestReigns(t *testing.T) {
	w := newWorld(t, "pg1", "pg2", "pg3")
	a, b, c := w.nodes["pg1"], w.nodes["pg2"], w.nodes["pg3"]
	ctx := bounded(t)

	must(t, a.Init(ctx))
	o := a.observe(t)
	if pg := o.Postgres; pg.Recovery || !pg.Up || pg.Position.Timeline != 1 || !pg.Names.Same(cluster.NewRule(1)) || pg.Fork != 0 {
		t.Fatalf("after Init: %+v", pg)
	}
	state, id, err := a.Data(ctx)
	if err != nil || state != cluster.DataReady || id != o.Postgres.SystemID || id == "" {
		t.Fatalf("after Init: data %s of %q, %v", state, id, err)
	}
	w.follow(b, a)
	w.follow(c, a)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2", "pg3"), true))
	w.awaitStreaming(b, a)
	w.awaitStreaming(c, a)
	if got := a.observe(t).Postgres.Names; !got.Equal(cluster.NewRule(1, "pg2", "pg3")) {
		t.Fatalf("names in force: %v", got)
	}
	a.exec(t, "drop schema standfast cascade") // an existing cluster that was taken over has none
	lsn, err := a.WriteTermRow(ctx, 7)
	must(t, err)
	w.awaitFlushed(b, a, lsn)
	a.exec(t, "create table t (n int)")
	a.exec(t, "insert into t select generate_series(1, 1000)")

	// pg3 is detached and misses what comes; pg1 goes on alone for a moment, so that it diverges.
	c.relay.attach("")
	c.relay.awaitHeld(t)
	a.exec(t, "insert into t values (1001)")
	end := a.observe(t).Postgres.Position.LSN
	w.awaitFlushed(b, a, end)
	b.relay.attach("")
	b.relay.awaitHeld(t)
	must(t, a.SetNames(ctx, cluster.NewRule(0), true))
	a.exec(t, "insert into t values (6666)")
	must(t, a.KillAll(ctx))

	before := b.observe(t)
	if p := before.Postgres.Position; p.Timeline != 1 || p.LSN < end || !before.Streamed || !before.Postgres.Recovery {
		t.Fatalf("pg2 before its promotion: %+v", before)
	}
	begun := time.Now()
	must(t, b.Promote(ctx, 4, cluster.NewRule(1, "pg1", "pg3")))
	t.Logf("promotion took %s", time.Since(begun))
	pg := b.observe(t).Postgres
	if pg.Recovery || pg.Position.Timeline != 4 || pg.Fork < end || len(pg.History) != 1 || pg.History[0].Timeline != 1 {
		t.Fatalf("after the promotion: %+v", pg)
	}
	if !pg.Names.Equal(cluster.NewRule(1, "pg1", "pg3")) {
		t.Fatalf("names after the promotion: %v", pg.Names)
	}

	// pg3 follows over the three numbers that were skipped.
	must(t, b.EnsureSlots(ctx, w.names))
	begun = time.Now()
	c.relay.attach(b.addr())
	w.awaitStreaming(c, b)
	t.Logf("attaching took %s", time.Since(begun))
	lsn, err = b.WriteTermRow(ctx, 8)
	must(t, err)
	w.awaitFlushed(c, b, lsn)
	if p := c.observe(t).Postgres.Position; p.Timeline != 4 || p.LSN < lsn {
		t.Fatalf("pg3 follows: %v", p)
	}

	// pg1 has a row that nobody else has, and must lose it.
	must(t, b.Checkpoint(ctx))
	if err := a.StartStandby(ctx); err != nil {
		t.Fatal(err)
	}
	must(t, a.Stop(ctx, postgres.Fast))
	must(t, a.Rewind(ctx, b.source()))
	must(t, a.StartStandby(ctx))
	a.relay.attach(b.addr())
	w.awaitStreaming(a, b)
	b.exec(t, "insert into t values (1002)")
	eventually(t, "pg1 has replayed", func() bool { return a.value(t, "select max(n)::text from t where n < 5000") == "1002" })
	if n := a.value(t, "select count(*)::text from t where n = 6666"); n != "0" {
		t.Fatal("the discarded row is back")
	}
	if got := a.observe(t).Postgres.Names; !got.Same(cluster.NewRule(1)) {
		t.Fatalf("a rewound member has the primary's names: %v", got)
	}
}

// TestPromoteRefusesAUsedNumber sees that a number with a history file is not taken again.
func TestPromoteRefusesAUsedNumber(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	if err := a.Promote(ctx, 2, cluster.NewRule(1, "pg2")); err == nil {
		t.Fatal("a primary was promoted")
	}
	w.follow(b, a)
	if err := b.Promote(ctx, 1, cluster.NewRule(1, "pg1")); err == nil {
		t.Fatal("promoted to the timeline it is on")
	}
	must(t, b.Promote(ctx, 2, cluster.NewRule(0)))
	if got := b.observe(t).Postgres; got.Names.K != 0 || got.Position.Timeline != 2 {
		t.Fatalf("after a promotion with k = 0: %+v", got)
	}
	if err := b.StartStandby(ctx); !errors.Is(err, postgres.ErrRunning) {
		t.Fatalf("started a server that runs: %v", err)
	}
}
