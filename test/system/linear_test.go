//go:build e2e

package system

import "testing"

// TestLinearizable: across failovers of two kinds, each register behaves as if there were one server only. That every operation
// on it commits, the reads too, is checker's doing: a commit is what the promise is about.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	s := begin(t)
	must(t, s.primary.KillPostmaster())
	s.reign(takeover)
	s.flow()
	second, term := s.heal()
	s.term = term
	second.Freeze()
	s.reign(takeover)
	second.Thaw()
	s.end()
	known := 0
	for _, op := range s.clients.History().Registers {
		if !op.Unknown {
			known++
		}
	}
	if known < 60 {
		t.Errorf("only %d operations on registers were answered through two failovers", known)
	}
}
