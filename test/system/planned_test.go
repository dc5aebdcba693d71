//go:build e2e

package system

import (
	"context"
	"testing"
	"time"

	"standfast/api"
	"standfast/playground/load"
)

// operation bounds what an operator asks for.
const operation = 60 * time.Second

func TestSwitchoverAndBack(t *testing.T) {
	t.Parallel()
	s := begin(t)
	first, second := s.primary, s.standby()
	for _, to := range []string{second.Name, first.Name} {
		ctx, cancel := context.WithTimeout(all, operation)
		moved, err := s.r.Client().Switchover(ctx, to, false, progress(t))
		cancel()
		must(t, err)
		if moved.To != to {
			t.Errorf("asked for %s, %s became primary", to, moved.To)
		}
		if now, _ := s.heal(); now.Name != to {
			t.Errorf("%s reigns after a switchover to %s", now.Name, to)
		}
	}
	s.end()
	if n := load.Count(s.writers[0].Ops()); n[load.Refused] > 0 {
		t.Errorf("%d connections were refused", n[load.Refused])
	}
}

func TestRestartOfPrimary(t *testing.T) {
	t.Parallel()
	s := begin(t)
	before := s.primary.Postmaster()
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	_, err := s.r.Client().Restart(ctx, []string{s.primary.Name}, false, 0, progress(t))
	must(t, err)
	if now, _ := s.end(); now != s.primary {
		t.Errorf("%s reigns after %s was restarted", now.Name, s.primary.Name)
	}
	if after := s.primary.Postmaster(); after == before {
		t.Errorf("the postmaster is process %d as before", after)
	}
}

// TestRollingRestart: every PostgreSQL is started anew and the role moves on, while no connection is refused.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	s := begin(t)
	before := map[string]int{}
	for _, n := range s.r.DataNodes() {
		before[n.Name] = n.Postmaster()
	}
	ctx, cancel := context.WithTimeout(all, 2*operation)
	defer cancel()
	restarted, err := s.r.Client().RestartRolling(ctx, nil, false, operation, progress(t))
	must(t, err)
	if len(restarted) != len(before) || restarted[len(restarted)-1] != s.primary.Name {
		t.Errorf("restarted %v, want %s last", restarted, s.primary.Name)
	}
	if now, term := s.end(); now == s.primary || term != s.term+1 {
		t.Errorf("%s reigns in term %d, after %s in term %d", now.Name, term, s.primary.Name, s.term)
	}
	for _, n := range s.r.DataNodes() {
		if n.Postmaster() == before[n.Name] {
			t.Errorf("the postmaster of %s is process %d as before", n.Name, before[n.Name])
		}
	}
	if n := load.Count(s.writers[0].Ops()); n[load.Refused] > 0 {
		t.Errorf("%d connections were refused", n[load.Refused])
	}
}

func TestReclone(t *testing.T) {
	t.Parallel()
	s := begin(t)
	n := s.standby()
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	must(t, s.r.Client().Reclone(ctx, n.Name, false, progress(t)))
	s.unmoved()
}

// TestPause: while failover is paused nobody takes over from a dead primary; after it somebody does.
func TestPause(t *testing.T) {
	t.Parallel()
	s := begin(t)
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	must(t, s.r.Client().Pause(ctx, 5*time.Minute, progress(t)))
	t.Cleanup(func() { _ = s.r.Client().Resume(context.WithoutCancel(ctx), nil) }) // the other tests need failovers
	must(t, s.r.Await(ctx, "everybody knows of the pause", func(all map[string]*api.Status) string {
		for _, n := range s.r.Nodes {
			if all[n.Name] == nil || !all[n.Name].Paused {
				return n.Name + " does not"
			}
		}
		return ""
	}))
	must(t, s.primary.Kill())
	if err := s.r.AwaitReign(all, s.term, 4*time.Second); err == nil { // six times the detection time
		t.Error("somebody took over though failover was paused")
	}
	must(t, s.r.Client().Resume(ctx, progress(t)))
	s.reign(takeover)
	must(t, s.primary.Start())
	s.end()
}

// progress writes the steps of an operation into the test's log.
func progress(t *testing.T) func(api.Progress) {
	return func(p api.Progress) { t.Logf("%s: %s", p.Step, p.Text) }
}
