package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"standfast/cluster"
	"standfast/postgres"
)

// TestLowerAndRaise takes a primary and its standby through less and more of what a standby must have at least.
func TestLowerAndRaise(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	w.follow(b, a)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2"), true))
	w.awaitStreaming(b, a)

	want := func(what string, got postgres.Waiting, err error, list *[]string) {
		t.Helper()
		must(t, err)
		if !slices.Equal(*list, []string{"max_connections"}) {
			t.Fatalf("%s: %+v", what, got)
		}
	}
	apply := func(n *node, value int) postgres.Waiting {
		t.Helper()
		got, err := n.ApplyParameters(ctx, map[string]string{"shared_buffers": "16MB", "max_connections": fmt.Sprint(value)})
		must(t, err)
		return got
	}
	tl := cluster.Timeline(1)
	restart := func(lower bool) {
		t.Helper()
		b.relay.attach("")
		w.restart(ctx, a)
		a.relay.awaitHeld(t)
		a.Lower(lower)
		tl++
		must(t, a.Promote(ctx, tl, cluster.NewRule(1, "pg2")))
		if got := a.observe(t).Postgres.Names; !got.Equal(cluster.NewRule(1, "pg2")) {
			t.Fatalf("names after the promotion: %v", got)
		}
		b.relay.attach(a.addr())
		w.awaitStreaming(b, a)
	}
	shows := func(n *node, value string) {
		t.Helper()
		if got := n.value(t, "show max_connections"); got != value {
			t.Fatalf("max_connections of %s is %s, want %s", n.cfg.Name, got, value)
		}
	}

	// Less: the standby keeps up until it knows that the primary has less.
	got := apply(a, 20)
	want("lowered on the primary", got, nil, &got.Lowered)
	got = apply(b, 20)
	want("lowered on the standby", got, nil, &got.Primary)
	if len(got.Restart) > 0 {
		t.Fatalf("the standby would be restarted for nothing: %+v", got)
	}
	w.restart(ctx, b)
	w.awaitStreaming(b, a)
	shows(b, "30")
	restart(false)
	shows(a, "30") // a failover does not lower anything
	restart(true)
	shows(a, "20")
	lsn, err := a.WriteTermRow(ctx, 7)
	must(t, err)
	eventually(t, "the standby has replayed it", func() bool { return b.observe(t).Postgres.Replayed >= lsn })
	got, err = b.RefreshParameters(ctx)
	want("the primary has less now", got, err, &got.Lowered)
	w.restart(ctx, b)
	w.awaitStreaming(b, a)
	shows(b, "20")

	// More, on the primary first: the standby stops replaying until it is restarted.
	got = apply(a, 40)
	want("raised on the primary", got, nil, &got.Raised)
	restart(true) // there is nothing to lower
	shows(a, "40")
	eventually(t, "the standby has too little", func() bool {
		short, err := b.Outgrown(ctx)
		must(t, err)
		return slices.Equal(short, []string{"max_connections"})
	})
	w.restart(ctx, b)
	w.awaitStreaming(b, a)
	shows(b, "40")
	if short, err := b.Outgrown(ctx); err != nil || len(short) > 0 {
		t.Fatalf("after its restart the standby has too little: %v, %v", short, err)
	}
}

// restart stops the server and starts it as a standby.
func (w *world) restart(ctx context.Context, n *node) {
	w.t.Helper()
	must(w.t, n.Stop(ctx, postgres.Fast))
	must(w.t, n.StartStandby(ctx))
	eventually(w.t, n.cfg.Name+" answers", func() bool { return n.Ping(ctx) == nil })
}

// TestStandbyMeetsOldValues: a standby that was away while its primary had more for a while needs as much on its way,
// gets it by a second start, and has less again after a third.
func TestStandbyMeetsOldValues(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	w.follow(b, a)
	must(t, b.Stop(ctx, postgres.Fast))
	for i, value := range []string{"50", "30"} {
		_, err := a.ApplyParameters(ctx, map[string]string{"shared_buffers": "16MB", "max_connections": value})
		must(t, err)
		w.restart(ctx, a)
		a.relay.awaitHeld(t)
		a.Lower(true)
		must(t, a.Promote(ctx, cluster.Timeline(i+2), cluster.NewRule(1, "pg2")))
	}
	must(t, b.StartStandby(ctx))
	eventually(t, "the standby answers", func() bool { return b.Ping(ctx) == nil })
	b.relay.attach(a.addr())
	eventually(t, "the standby has too little for the WAL of the time between", func() bool {
		short, err := b.Outgrown(ctx)
		must(t, err)
		return slices.Equal(short, []string{"max_connections"})
	})
	w.restart(ctx, b)
	to := a.observe(t).Postgres.Position.LSN
	eventually(t, "the standby has replayed all of it", func() bool { return b.observe(t).Postgres.Replayed >= to })
	w.restart(ctx, b)
	if got := b.value(t, "show max_connections"); got != "30" {
		t.Errorf("max_connections is %s in the end", got)
	}
}

// TestAdoptEndsAPromotionLeftInTheMiddle: a server that lets nobody in would never be told from one that starts slowly.
func TestAdoptEndsAPromotionLeftInTheMiddle(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.Stop(ctx, postgres.Fast))
	must(t, a.StartUnseen(ctx))
	other := postgres.New(a.cfg)
	defer other.Close(context.Background())
	if found, err := other.Adopt(ctx); err != nil || found {
		t.Fatalf("adopted: %v, %v", found, err)
	}
	if running, err := other.Running(); err != nil || running {
		t.Fatalf("it still runs: %v, %v", running, err)
	}
}
