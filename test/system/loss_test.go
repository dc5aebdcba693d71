//go:build e2e

package system

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/playground"
	"standfast/test/system/rig"
)

// TestForcedElection: of the three copies one is left, the primary's and another are gone with what only they held. Nobody is
// elected until an operator accepts the loss, and is told what it may be; then the cluster is whole again, from that copy.
func TestForcedElection(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t)
	s := beginOn(t, r, primary, term)
	blank := s.standby()
	left := r.Others(primary, blank)[0]
	for _, n := range []*rig.Node{blank, primary} { // while the primary is there nobody is elected, however long this takes
		n.Freeze()
	}
	for _, n := range []*rig.Node{primary, blank} {
		must(t, n.Kill())
	}
	must(t, os.RemoveAll(blank.DataDir())) // a new disk
	must(t, blank.Start())

	ctx, cancel := context.WithTimeout(all, 2*operation)
	defer cancel()
	must(t, r.Await(ctx, "the last copy has reported in an election", func(all map[string]*api.Status) string {
		for _, n := range []*rig.Node{left, blank} {
			st := all[n.Name]
			switch {
			case st == nil || !st.Store.OK:
				return n.Name + " does not reach the store"
			case uint64(st.Term) <= s.term || st.Primary != "":
				return n.Name + " knows of no election"
			}
		}
		return ""
	}))
	if err := r.AwaitReign(all, s.term, 5*time.Second); err == nil { // many times what an election takes
		t.Error("somebody was elected who may lack acknowledged commits, and nobody had accepted that")
	}
	told := ""
	tell := func(p api.Progress) { told += p.Text + "\n"; t.Logf("%s: %s", p.Step, p.Text) }
	_, err := r.Client().Failover(ctx, "", true, true, tell)
	must(t, err)
	if !strings.Contains(told, "may be lost") || !strings.Contains(told, primary.Name) {
		t.Errorf("the dry run does not tell what may be lost: %q", told)
	}
	moved, err := r.Client().Failover(ctx, "", true, false, tell)
	must(t, err)
	if moved.To != left.Name {
		t.Errorf("%s reigns, the only copy was on %s", moved.To, left.Name)
	}
	s.lossTold(primary.Name)
	must(t, primary.Start())
	s.endWithLoss()
}

// TestAsyncFailover: commits wait for nobody, so a failover waits for the old primary's lease, and the history tells what
// may be lost by it.
func TestAsyncFailover(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t, "bootstrap.durability=async")
	s := beginOn(t, r, primary, term)
	must(t, primary.Kill())
	s.reign(takeover)
	s.lossTold(primary.Name)
	must(t, primary.Start())
	s.endWithLoss()
}

// TestWitness: two copies and a witness. Either copy alone goes on serving, and nothing acknowledged is lost: while both
// are there commits are on both, and a single copy is gone back to only after the other was given up.
func TestWitness(t *testing.T) {
	t.Parallel()
	r, primary, term := ownOf(t, playground.Config{Witnesses: 1})
	s := beginOn(t, r, primary, term)
	standby := r.DataNodes()[0]
	if standby == primary {
		standby = r.DataNodes()[1]
	}
	must(t, standby.Kill())
	s.flowPast(standby)
	must(t, standby.Start())
	now, term := s.heal()
	s.twoCopies(standby)
	if now != primary {
		t.Fatalf("%s reigns though only the standby's host died", now.Name)
	}
	s.term = term
	must(t, primary.Kill())
	s.reign(takeover)
	s.flowPast(primary)
	must(t, primary.Start())
	s.end()
}

// twoCopies waits until commits are on both again: for a while the primary was allowed to go on alone, and had it died then,
// only it would have had them.
func (s *scene) twoCopies(standby *rig.Node) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	must(s.t, s.r.Await(ctx, "each commit is on two hosts", func(all map[string]*api.Status) string {
		st := all[standby.Name]
		if st == nil || st.Commit.Hosts != 2 {
			return "it is not, by what " + standby.Name + " knows"
		}
		return ""
	}))
}

// lossTold requires that the history tells, for the newest term, whose commits may be lost.
func (s *scene) lossTold(who string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	for ; ; pause(ctx) { // it is written beside the admission of clients, which it does not hold up
		history, err := s.r.Client().History(ctx)
		if err == nil && len(history) > 0 {
			if e := history[len(history)-1]; uint64(e.Term) > s.term {
				s.t.Logf("the history tells of term %d (%s): %s", e.Term, e.Kind, e.Lost)
				if !strings.Contains(e.Lost, who) {
					s.t.Errorf("it does not tell that commits on %s alone may be lost: %q", who, e.Lost)
				}
				return
			}
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the history does not tell of a term above %d: %v", s.term, err)
		}
	}
}

// endWithLoss is end where acknowledged commits may be lost, as was told. What is there must be there on one server only.
func (s *scene) endWithLoss() {
	s.t.Helper()
	s.heal()
	s.flow()
	s.stop()
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for _, w := range s.writers {
		lost, err := w.Lost(ctx, s.r.WriteDSN())
		must(s.t, err)
		s.t.Logf("%d acknowledged commits are lost that were written through %s", len(lost), w.Name)
	}
	s.oneAtATime()
}
