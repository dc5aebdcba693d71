//go:build e2e

package site_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestLossyCable: 5 % of what the primary sends and of what is sent to it is lost.
func TestLossyCable(t *testing.T) {
	s := begin(t)
	ok(t, cluster.Lab.Loss(all, s.primary, 0.05))
	s.last(20 * time.Second)
	ok(t, cluster.Lab.Heal(all))
	s.unmoved()
}

// TestDelayedFrames: each frame from and to the primary takes 30 ms, give or take 20, so that frames overtake each other.
func TestDelayedFrames(t *testing.T) {
	s := begin(t)
	ok(t, cluster.Lab.Delay(s.primary, 30*time.Millisecond, 20*time.Millisecond))
	s.last(20 * time.Second)
	ok(t, cluster.Lab.Heal(all))
	s.unmoved()
}

// TestFlappingCable: the cable of whoever is the primary is out for three seconds, three times.
func TestFlappingCable(t *testing.T) {
	s := begin(t)
	for range 3 {
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
		t.Skip("takes over a minute: make soak runs it, or STANDFAST_NETLAB_LONG=1")
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
	for _, h := range cluster.Lab.Hosts {
		ok(t, h.Signal(unix.SIGKILL, site.Etcd))
	}
	s.unmoved()
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
