//go:build e2e

package site_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// TestUnheardPrimary: the primary hears both standbys, and neither hears it.
func TestUnheardPrimary(t *testing.T) {
	s := begin(t)
	for _, h := range s.standbys() {
		ok(t, cluster.Lab.CutOneWay(all, s.primary, h))
	}
	s.reign(soon)
	s.flow(s.anywhere...)
	ok(t, cluster.Lab.Heal(all))
	s.moved()
}

// TestDeafPrimary: both standbys hear the primary, and it hears neither, so that no commit is ever confirmed to it.
func TestDeafPrimary(t *testing.T) {
	s := begin(t)
	for _, h := range s.standbys() {
		ok(t, cluster.Lab.CutOneWay(all, h, s.primary))
	}
	s.reign(soon)
	s.flow(s.anywhere...)
	ok(t, cluster.Lab.Heal(all))
	s.moved()
}

// TestStandbysCutFromEachOther: each still hears the primary, so there is nothing to do.
func TestStandbysCutFromEachOther(t *testing.T) {
	s := begin(t)
	standbys := s.standbys()
	ok(t, cluster.Lab.CutPair(all, standbys[0], standbys[1]))
	s.last(10 * time.Second)
	ok(t, cluster.Lab.Heal(all))
	s.unmoved()
}

// long is for how long a trouble lasts with which the primary has to live, or how often something happens: the second where
// STANDFAST_NETLAB_LONG is set, as "make lab" does.
func long[T any](usual, wanted T) T {
	if os.Getenv("STANDFAST_NETLAB_LONG") == "" {
		return usual
	}
	return wanted
}

// TestLossyCable: 5 % of what the primary sends and of what is sent to it is lost.
func TestLossyCable(t *testing.T) { endured(t, frameLoss) }

// TestOverload: twice as many busy processes as there are processors, on the primary's host.
func TestOverload(t *testing.T) { endured(t, overload) }

// endured is about what the primary has to live with.
func endured(t *testing.T, f fault) {
	s := begin(t)
	end := s.strike(f, s.primary)
	s.last(long(20*time.Second, 5*time.Minute))
	end()
	s.unmoved()
}

// TestDelayedFrames: each frame from and to the primary takes 30 ms, give or take 20, so that frames overtake each other.
func TestDelayedFrames(t *testing.T) { endured(t, frameDelay) }

// TestFlappingCable: the cable of whoever is the primary is out for three seconds, again and again.
func TestFlappingCable(t *testing.T) {
	s := begin(t)
	for range long(3, 10) {
		st, err := cluster.Newest(all)
		ok(t, err)
		h := cluster.Lab.Host(st.Primary)
		if h == nil {
			h = s.primary
		}
		ok(t, cluster.Lab.Cut(all, h))
		s.last(3 * time.Second)
		ok(t, cluster.Lab.Mend(all, h))
		s.flow(s.anywhere...)
	}
	s.end()
}

// TestRollingPowerCycle takes power from one host after the other, each time when the cluster is whole.
func TestRollingPowerCycle(t *testing.T) {
	if os.Getenv("STANDFAST_NETLAB_LONG") == "" {
		t.Skip("takes over a minute: make lab runs it, or STANDFAST_NETLAB_LONG=1")
	}
	s := begin(t)
	for _, h := range cluster.Lab.Hosts {
		ok(t, h.PowerOff())
		s.flow(s.anywhere...)
		ok(t, h.Boot(all))
		_, _, err := cluster.AwaitWhole(all, healTime)
		ok(t, err)
	}
	s.end()
}

func TestPowerLossOfAStandby(t *testing.T) {
	s := begin(t)
	h := s.standbys()[0]
	ok(t, h.PowerOff())
	s.flow(s.anywhere...)
	ok(t, h.Boot(all))
	s.unmoved()
}

func TestPausedStandby(t *testing.T) {
	s := begin(t)
	h := s.standbys()[0]
	ok(t, h.Pause(all))
	s.last(10 * time.Second)
	s.flow(s.anywhere...)
	ok(t, h.Resume(all))
	s.unmoved()
}

// TestHealedCutCounts: a host that was cut off for long enough that TCP sends again only every 25 s counts for the store's majority soon
// after the cut has healed. Were it not so, the loss of another host would leave writes out until then.
func TestHealedCutCounts(t *testing.T) {
	s := begin(t)
	end := s.strike(cutFromOthers, s.primary)
	s.reign(soon)
	s.last(30 * time.Second)
	end()
	primary, term, err := cluster.AwaitWhole(all, healTime)
	ok(t, err)
	s.term = term
	end = s.strike(powerLoss, primary)
	s.reign(soon)
	end()
	s.end()
	if out := s.gaps["all hosts"]; out > 6*time.Second {
		t.Errorf("writes were out for %.1f s: did the store have no majority for so long?", out.Seconds())
	}
}

// TestKilledPostmaster: what it leaves behind must not acknowledge anything any more.
func TestKilledPostmaster(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.Signal(unix.SIGKILL, site.Postmaster))
	s.reign(soon)
	s.moved()
}

// TestKilledEtcd kills the store's process on every host, the leader's among them, at the same time.
func TestKilledEtcd(t *testing.T) {
	s := begin(t)
	before := map[*netlab.Host][]int{}
	for _, h := range cluster.Lab.Hosts {
		pids, err := site.PIDs(h, site.Etcd)
		ok(t, err)
		before[h] = pids
		ok(t, h.Signal(unix.SIGKILL, site.Etcd))
	}
	for _, h := range cluster.Lab.Hosts {
		s.replaced(h, site.Etcd, before[h])
	}
	s.unmoved()
}

// replaced waits until other processes than those do a part's work. Until then what members say may be older than the fault.
func (s *scene) replaced(h *netlab.Host, part site.Part, before []int) {
	s.t.Helper()
	for began := time.Now(); time.Since(began) < soon; s.last(20 * time.Millisecond) {
		now, err := site.PIDs(h, part)
		ok(s.t, err)
		if len(now) > 0 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(before, pid) }) {
			return
		}
	}
	s.t.Fatalf("what was killed on %s was not started again", h.Name)
}

// last lets a fault last while clients write.
func (s *scene) last(d time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(d):
	case <-all.Done():
		s.t.Fatal("interrupted")
	}
}
