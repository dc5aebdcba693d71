//go:build e2e

package site_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// stoppedFor is how long SIGSTOP lasts: longer than the lease.
const stoppedFor = 8 * time.Second

// part is a kind of process that is struck, and what may come of it where it is the primary's.
type part struct {
	name string
	is   site.Part
	one  bool // strike one of them, not all
	kill fate
	stop fate
}

// fate is what a strike at the primary may lead to. A strike at a standby never moves the role.
type fate int

const (
	either    fate = iota // the role may move: PostgreSQL is not what it was, and a standby may be the faster way out
	stays                 // nobody may take over
	moves                 // somebody has to: no commit is confirmed any more
	elsewhere             // another test has it
)

// parts are all that a member consists of. PostgreSQL ends all its processes when one of them is killed ("Shutting Down the
// Server" in its manual says why nobody should), and recovers from its WAL.
var parts = []part{
	{name: "agent", is: site.Agent, kill: elsewhere, stop: elsewhere}, // TestKilledAgent, TestStoppedAgent
	{name: "etcd", is: site.Etcd, kill: stays, stop: stays},
	{name: "guard", is: site.Guard, kill: stays},
	{name: "postmaster", is: site.Postmaster, kill: elsewhere}, // TestKilledPostmaster
	{name: "walsender", is: site.Titled("walsender"), stop: moves},
	{name: "walreceiver", is: site.Titled("walreceiver")},
	{name: "startup", is: site.Titled("startup")},
	{name: "checkpointer", is: site.Titled("checkpointer"), stop: stays},
	{name: "backend", is: site.Titled("app app"), one: true, stop: stays},
}

// TestKilledProcess sends SIGKILL to one part after the other, on the primary and on a standby.
func TestKilledProcess(t *testing.T) {
	strikeAll(t, func(p part) fate { return p.kill }, func(s *scene, h *netlab.Host, struck site.Part) {
		ok(s.t, h.Signal(unix.SIGKILL, struck))
	})
}

// TestStoppedProcess sends SIGSTOP to one part after the other, on the primary and on a standby, and SIGCONT later. Who waits for a
// process that is stopped waits for as long as that lasts, if nobody ends it: nothing can be told from a slow disk.
func TestStoppedProcess(t *testing.T) {
	strikeAll(t, func(p part) fate { return p.stop }, func(s *scene, h *netlab.Host, struck site.Part) {
		ok(s.t, h.Signal(unix.SIGSTOP, struck))
		s.t.Cleanup(func() { _ = h.Signal(unix.SIGCONT, struck) }) // for a test that fails in between
		s.last(stoppedFor)
		if err := h.Signal(unix.SIGCONT, struck); err != nil {
			s.t.Logf("ended meanwhile: %v", err)
		}
	})
}

func strikeAll(t *testing.T, may func(part) fate, strike func(*scene, *netlab.Host, site.Part)) {
	for _, p := range parts {
		if may(p) != elsewhere {
			t.Run(p.name+" of the primary", func(t *testing.T) {
				s := begin(t)
				picked, any := pick(t, s.primary, p)
				if !any {
					t.Skipf("a primary has no %s", p.name)
				}
				strike(s, s.primary, picked)
				switch may(p) {
				case stays:
					s.unmoved()
				case moves:
					s.moved()
				default:
					s.end()
				}
			})
		}
		t.Run(p.name+" of a standby", func(t *testing.T) {
			s := begin(t)
			h := s.standbys()[0]
			picked, any := pick(t, h, p)
			if !any {
				t.Skipf("a standby has no %s", p.name)
			}
			strike(s, h, picked)
			s.unmoved()
		})
	}
}

// pick finds the processes of a part as they are now, for those that start later are not to be struck.
func pick(t *testing.T, h *netlab.Host, p part) (picked site.Part, any bool) {
	t.Helper()
	pids, err := site.PIDs(h, p.is)
	ok(t, err)
	if p.one && len(pids) > 1 {
		pids = pids[:1]
	}
	struck := map[int]bool{}
	for _, pid := range pids {
		struck[pid] = true
	}
	return func(p netlab.Process) bool { return struck[p.PID] }, len(pids) > 0
}
