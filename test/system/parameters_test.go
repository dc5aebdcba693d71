//go:build e2e

package system

import (
	"context"
	"strings"
	"testing"
	"time"

	"standfast/config"
	"standfast/test/system/rig"
)

// TestParameterRefused: what PostgreSQL refuses is rejected when it is set, in its own words, and changes nothing.
func TestParameterRefused(t *testing.T) {
	t.Parallel()
	s := begin(t)
	for _, q := range []struct{ key, value string }{
		{"work_mem", "lots"}, {"max_connections", "1000000000"}, {"no_such_parameter", "1"},
	} {
		err := s.set(q.key, q.value)
		if err == nil {
			t.Errorf("%s = %s was accepted", q.key, q.value)
			continue
		}
		t.Logf("%s = %s: %v", q.key, q.value, err)
		if !mentions(err.Error(), q.key) {
			t.Errorf("the refusal of %s does not name it: %v", q.key, err)
		}
	}
	s.unmoved()
}

// TestParameterNeedsRestart: it is agreed at once and in force on every member after one "restart all that wait", with no
// pause in between. A standby must never have less of it than its primary: raised it is on the standbys first, lowered on the
// primary first.
func TestParameterNeedsRestart(t *testing.T) {
	t.Parallel()
	s := begin(t)
	for _, q := range []struct {
		value string
		order []*rig.Node
	}{
		{"123", append(s.r.Others(s.primary), s.primary)},
		{"90", append([]*rig.Node{s.primary}, s.r.Others(s.primary)...)},
	} {
		must(t, s.set("max_connections", q.value))
		ctx, cancel := context.WithTimeout(all, 2*operation)
		restarted, err := s.r.Client().Restart(ctx, nil, true, 0, progress(t))
		cancel()
		must(t, err)
		var want []string
		for _, n := range q.order {
			want = append(want, n.Name)
		}
		if got := strings.Join(restarted, " "); got != strings.Join(want, " ") {
			t.Errorf("for max_connections = %s: restarted %s, want %s", q.value, got, strings.Join(want, " "))
		}
		for _, n := range s.r.Nodes {
			s.shows(n, "max_connections", q.value)
		}
	}
	if now, _ := s.end(); now != s.primary {
		t.Errorf("%s reigns after a restart of all", now.Name)
	}
}

// TestParameterRaisedHalfway: a failover comes in between a raised value and the restarts for it. The new primary has been
// restarted, its sibling has not: it is restarted without being told, or it would never replay again.
func TestParameterRaisedHalfway(t *testing.T) {
	t.Parallel()
	s := begin(t)
	next, last := s.r.Others(s.primary)[0], s.r.Others(s.primary)[1]
	must(t, s.set("max_connections", "140"))
	ctx, cancel := context.WithTimeout(all, 2*operation)
	defer cancel()
	restarted, err := s.r.Client().Restart(ctx, []string{next.Name}, true, 0, progress(t))
	must(t, err)
	if len(restarted) != 1 {
		t.Fatalf("restarted %v", restarted)
	}
	before := last.Postmaster()
	_, err = s.r.Client().Switchover(ctx, next.Name, false, progress(t))
	must(t, err)
	for ; last.Postmaster() == before || last.Postmaster() == 0; pause(ctx) {
		if ctx.Err() != nil {
			t.Fatalf("%s, with less than its primary, was not restarted", last.Name)
		}
	}
	s.heal()
	s.shows(last, "max_connections", "140")
	_, err = s.r.Client().Restart(ctx, nil, true, 0, progress(t)) // the old primary was started anew by the switchover
	must(t, err)
	for _, n := range s.r.Nodes {
		s.shows(n, "max_connections", "140")
	}
	must(t, s.set("max_connections", "")) // back to what the other tests have
	_, err = s.r.Client().Restart(ctx, nil, true, 0, progress(t))
	must(t, err)
	s.end()
}

// set changes one parameter in the agreed configuration; "" takes it out.
func (s *scene) set(name, value string) error {
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	_, err := s.r.Client().SetKeys(ctx, []config.Setting{{Key: "postgresql.parameters." + name, Value: value}}, false, progress(s.t))
	return err
}

// shows asks the node's own server, on its own port. A standby lets clients in a moment after it follows.
func (s *scene) shows(n *rig.Node, parameter, want string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	awaitDatabase(s.t, ctx, s.r.DSN(n.Address, s.r.Ports().Postgres))
	if got := s.ask(s.r.DSN(n.Address, s.r.Ports().Postgres), "SHOW "+parameter); got != want {
		s.t.Errorf("%s is %s on %s, want %s", parameter, got, n.Name, want)
	}
}
