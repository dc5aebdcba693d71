//go:build e2e

package system

import (
	"fmt"
	"net/netip"
	"testing"

	"standfast/playground"
	"standfast/test/system/rig"
)

// lane is what one test at a time has to itself: two blocks of loopback addresses, one with a playground that its tests use one
// after the other, and one for a playground of a test's own. Scenarios mostly wait, so that two or three go on at the same time
// (-parallel) without getting into each other's way.
type lane struct {
	shared   *rig.Rig // nil: none runs
	common   string   // floating address of the shared playground
	separate string   // of a test's own
}

// lanes holds those that no test has.
var lanes chan *lane

// A lane has this many addresses for each of its playgrounds; there are at most so many lanes in the last byte of an address.
const (
	block    = 20
	maxLanes = 6
)

// makeLanes takes addresses from the rig's usual one upwards.
func makeLanes(n int) ([]*lane, error) {
	first, err := netip.ParseAddr(rig.Floating())
	if err != nil {
		return nil, fmt.Errorf("the floating address: %w", err)
	}
	n = max(1, min(n, maxLanes))
	lanes = make(chan *lane, n)
	var made []*lane
	for i := range 2 * n {
		at := first.As4()
		if int(at[3])+block*i > 255-block {
			return nil, fmt.Errorf("%d playgrounds beside each other need %d addresses from %s on", 2*n, 2*n*block, first)
		}
		at[3] += byte(block * i)
		if i%2 == 0 {
			made = append(made, &lane{common: netip.AddrFrom4(at).String()})
			continue
		}
		made[i/2].separate = netip.AddrFrom4(at).String()
		lanes <- made[i/2]
	}
	return made, nil
}

// take waits for a lane and gives it back when the test has ended, after everything that the test itself cleans up.
func take(t *testing.T) *lane {
	t.Helper()
	select {
	case l := <-lanes:
		t.Cleanup(func() { lanes <- l })
		return l
	case <-all.Done():
		t.Fatal("interrupted")
		return nil
	}
}

func (l *lane) stop(logs bool) error {
	if l.shared == nil {
		return nil
	}
	err := l.shared.Stop(logs)
	l.shared = nil
	return err
}

// whole returns a shared playground, whole; it is started if none runs, and anew if the last test left it broken, so that
// one failure does not bring on others.
func whole(t *testing.T) (r *rig.Rig, primary *rig.Node, term uint64) {
	t.Helper()
	l := take(t)
	if l.shared != nil {
		var err error
		if primary, term, err = l.shared.AwaitWhole(all, healTime); err == nil {
			explain(t, l.shared)
			return l.shared, primary, term
		}
		t.Logf("what the test before left is not whole, so a new playground is started: %v", err)
		if err := l.stop(true); err != nil {
			t.Log(err)
		}
	}
	l.shared = founded(t, playground.Config{Floating: l.common})
	explain(t, l.shared)
	primary, term, err := l.shared.AwaitWhole(all, healTime)
	must(t, err)
	return l.shared, primary, term
}

// own starts a playground for this test alone.
func own(t *testing.T, settings ...string) (r *rig.Rig, primary *rig.Node, term uint64) {
	t.Helper()
	return ownOf(t, playground.Config{Settings: settings})
}

// ownOf is own for a cluster of another shape.
func ownOf(t *testing.T, cfg playground.Config) (r *rig.Rig, primary *rig.Node, term uint64) {
	t.Helper()
	cfg.Floating = take(t).separate
	r = founded(t, cfg)
	t.Cleanup(func() {
		if err := r.Stop(t.Failed()); err != nil {
			t.Error(err)
		}
	})
	explain(t, r)
	primary, term, err := r.AwaitWhole(all, healTime)
	must(t, err)
	return r, primary, term
}
