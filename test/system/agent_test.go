//go:build e2e

package system

import (
	"syscall"
	"testing"

	"standfast/test/system/rig"
)

// TestAgentKilled: PostgreSQL goes on without its agent for as long as a restart takes, and nobody takes over. How long that
// may be is the lease, and for the others agent_grace; both are long here, so that a slow machine does not decide the outcome.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t, "bootstrap.lease=30s", "bootstrap.agent_grace=30s")
	for _, n := range []*rig.Node{r.Others(primary)[0], primary} {
		t.Run(n.Name, func(t *testing.T) {
			s := beginOn(t, r, primary, term)
			before := n.Postmaster()
			must(t, n.Signal(rig.Agent, syscall.SIGKILL))
			<-n.Done()
			must(t, n.Start())
			s.unmoved()
			if after := n.Postmaster(); after != before || before == 0 {
				t.Errorf("the postmaster was process %d and is now %d: PostgreSQL must survive its agent", before, after)
			}
		})
	}
}
