//go:build e2e

package system

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"standfast/api"
	"standfast/test/system/rig"
)

// takeover is how long it may take until a new primary takes writes: many times the second or so that it takes with
// detection fast (0.7 s), for the machine may be busy with others. How long it does take is measured by the benchmarks.
const takeover = 30 * time.Second

// frozen is how long a node is frozen: longer than every bound within which others replace it or it is given up.
const frozen = 10 * time.Second

func TestPostmasterKilledOnPrimary(t *testing.T) {
	t.Parallel()
	s := begin(t)
	must(t, s.primary.KillPostmaster())
	s.reign(takeover)
	s.end()
}

func TestPostmasterKilledOnStandby(t *testing.T) {
	t.Parallel()
	s := begin(t)
	n := s.standby()
	before := n.PIDs()[rig.Postgres]
	must(t, n.KillPostmaster())
	s.replaced(n, rig.Postgres, before)
	s.unmoved()
}

func TestPrimaryFrozen(t *testing.T) {
	t.Parallel()
	s := begin(t)
	thaw := s.freeze(s.primary)
	s.reign(takeover)
	thaw()
	s.end()
}

func TestStandbyFrozen(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.freeze(s.standby())()
	s.unmoved()
}

func TestPrimaryHostDies(t *testing.T) {
	t.Parallel()
	s := begin(t)
	must(t, s.primary.Kill())
	s.reign(takeover)
	must(t, s.primary.Start())
	s.end()
}

func TestStandbyHostDies(t *testing.T) {
	t.Parallel()
	s := begin(t)
	n := s.standby()
	must(t, n.Kill())
	s.flowPast(n) // the other standby is enough for commits
	must(t, n.Start())
	s.unmoved()
}

func TestEtcdKilledOfLeader(t *testing.T) {
	t.Parallel()
	s := begin(t)
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	var leader *rig.Node
	must(t, s.r.Await(ctx, "the status names the store's leader", func(all map[string]*api.Status) string { // it is asked for every other second
		if st := all[s.primary.Name]; st != nil {
			leader = s.r.Node(st.Store.Leader)
		}
		if leader == nil {
			return s.primary.Name + " names none"
		}
		return ""
	}))
	etcdKilled(t, s, leader)
}

func TestEtcdKilledOfPrimary(t *testing.T) {
	t.Parallel()
	s := begin(t)
	etcdKilled(t, s, s.primary)
}

func etcdKilled(t *testing.T, s *scene, n *rig.Node) {
	before := n.PIDs()[rig.Etcd]
	must(t, n.Signal(rig.Etcd, syscall.SIGKILL))
	s.replaced(n, rig.Etcd, before)
	s.unmoved()
}

// replaced waits until the part runs again, in other processes than before.
func (s *scene) replaced(n *rig.Node, part rig.Part, before []int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for ; ctx.Err() == nil; pause(ctx) {
		now := n.PIDs()[part]
		if len(now) > 0 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(before, pid) }) {
			return
		}
	}
	s.t.Fatalf("%s of %s was not started again", part, n.Name)
}

// TestPostgreSQLStalls: the server is there and does nothing; its agent finds out and gives it up.
func TestPostgreSQLStalls(t *testing.T) {
	t.Parallel()
	s := begin(t)
	must(t, s.primary.Signal(rig.Postgres, syscall.SIGSTOP))
	s.reign(takeover)
	s.end()
}

// TestTwoFaultsInARow: the new primary is struck as soon as the cluster is whole.
func TestTwoFaultsInARow(t *testing.T) {
	t.Parallel()
	s := begin(t)
	must(t, s.primary.KillPostmaster())
	s.reign(takeover)
	second, term := s.heal()
	must(t, second.Kill())
	s.term = term
	s.reign(takeover)
	must(t, second.Start())
	s.end()
}

// TestWholeClusterDies: all hosts lose power at once and come back.
func TestWholeClusterDies(t *testing.T) {
	t.Parallel()
	s := begin(t)
	for _, n := range s.r.Nodes { // as near to one moment as can be: first nobody can do anything any more
		n.Freeze()
	}
	for _, n := range s.r.Nodes {
		must(t, n.Kill())
	}
	for _, n := range s.r.Nodes {
		must(t, n.Start())
	}
	s.end()
}

// standby is one of the two, the first by name.
func (s *scene) standby() *rig.Node { return s.r.Others(s.primary)[0] }

// freeze stops the whole node; what it returns waits until the time is over, and lets it go on.
func (s *scene) freeze(n *rig.Node) (thaw func()) {
	n.Freeze()
	over := time.NewTimer(frozen)
	return func() {
		select {
		case <-over.C:
		case <-all.Done():
		}
		n.Thaw()
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
