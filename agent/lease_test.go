package agent

import (
	"testing"
	"time"

	"standfast/cluster"
)

// TestStoreIsAskedByWhatDependsOnIt: rarely under a rule that asks for a copy, three times in a lease otherwise, and at once
// when the lease begins to matter.
func TestStoreIsAskedByWhatDependsOnIt(t *testing.T) {
	lease := 3 * time.Second
	a, err := New(Config{Self: "pg1", StateDir: t.TempDir(), Settings: func() cluster.Settings { return cluster.Settings{Lease: lease} }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		lease    time.Duration
		quiet    bool
		min, max time.Duration
	}{
		{3 * time.Second, false, storePace / 2, storePace * 3 / 2},
		{3 * time.Second, true, quietPace / 2, 3 * time.Second},
		{900 * time.Millisecond, false, 300 * time.Millisecond, 301 * time.Millisecond},
		{900 * time.Millisecond, true, 300 * time.Millisecond, 301 * time.Millisecond},
	} {
		lease = c.lease
		if got := a.leasePace(c.quiet); got < c.min || got >= c.max {
			t.Errorf("lease %s, quiet %v: asked after %s", c.lease, c.quiet, got)
		}
	}
	for _, c := range []struct {
		k   int
		now bool
	}{{1, false}, {0, true}, {0, false}} {
		next := cluster.State{Term: 1, Phase: cluster.Reigning, Primary: "pg2", Rule: cluster.Rule{K: c.k, Of: []string{"pg2"}}}
		if a.state != nil {
			next.Revision = a.state.Revision
		}
		next.Revision++
		a.adoptState(next)
		asked := false
		select {
		case <-a.lone:
			asked = true
		default:
		}
		if asked != c.now {
			t.Errorf("k = %d: asked at once: %v", c.k, asked)
		}
	}
}
