package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"standfast/cluster"
)

// TestFailoverSteps repeats the steps of a failover between two members and prints how long each took. It asserts only
// that each works, again and again: timelines rise by three, and members follow or rewind.
func TestFailoverSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("many promotions: left out with -short")
	}
	w := newWorld(t, "pg1", "pg2", "pg3")
	ctx := bounded(t)
	a, b, c := w.nodes["pg1"], w.nodes["pg2"], w.nodes["pg3"]
	must(t, a.Init(ctx))
	w.follow(b, a)
	w.follow(c, a)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2", "pg3"), true))
	took := map[string][]time.Duration{}
	lap := func(what string, from time.Time) { took[what] = append(took[what], time.Since(from)) }
	tl := cluster.Timeline(1)
	for range 5 {
		w.awaitStreaming(b, a)
		w.awaitStreaming(c, a)
		o := time.Now()
		b.observe(t)
		lap("observe, new connection", o)
		o = time.Now()
		b.observe(t)
		lap("observe, kept connection", o)
		begun := time.Now()
		b.relay.attach("")
		c.relay.attach("")
		b.relay.awaitHeld(t)
		lap("detach, first receiver held", begun)
		c.relay.awaitHeld(t)
		lap("detach, both receivers held", begun)
		begun = time.Now()
		must(t, a.KillAll(ctx))
		lap("kill all", begun)
		tl += 3
		begun = time.Now()
		must(t, b.Promote(ctx, tl, cluster.NewRule(1, "pg1", "pg3")))
		lap("promote", begun)
		begun = time.Now()
		c.relay.attach(b.addr())
		lsn, err := b.WriteTermRow(ctx, cluster.Term(tl))
		must(t, err)
		w.awaitFlushed(c, b, lsn)
		lap("attach and term row flushed", begun)
		must(t, b.Checkpoint(ctx))
		begun = time.Now()
		if err := a.Rewind(ctx, b.source()); err != nil {
			t.Logf("not rewound: %v", err)
		}
		lap("rewind after a crash", begun)
		must(t, a.StartStandby(ctx))
		a.relay.attach(b.addr())
		w.awaitStreaming(a, b)
		a, b = b, a
	}
	for _, what := range []string{"observe, new connection", "observe, kept connection", "detach, first receiver held", "detach, both receivers held", "kill all", "promote", "attach and term row flushed", "rewind after a crash"} {
		d := took[what]
		slices.Sort(d)
		t.Log(fmt.Sprintf("%-28s min %8.1f ms  median %8.1f ms  max %8.1f ms", what, ms(d[0]), ms(d[len(d)/2]), ms(d[len(d)-1])))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
