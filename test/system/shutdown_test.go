//go:build e2e

package system

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"standfast/cli"
)

// TestShutdownAll: the whole cluster is shut down under load and started again, the primary of before last. It is the primary again, no
// commit is lost, and nobody else was elected.
func TestShutdownAll(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t)
	s := beginOn(t, r, primary, term)
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	command(t, int(cli.Usage), "--all", primary, "shutdown")
	command(t, 0, "would stop in order", primary, "shutdown", "--dry-run")
	began := time.Now()
	command(t, 0, "the cluster is shut down", primary, "shutdown", "--all")
	t.Logf("shut down in %.1f s", time.Since(began).Seconds())
	for _, n := range r.Nodes {
		select {
		case <-n.Done():
		case <-ctx.Done():
			t.Fatalf("%s has not ended", n.Name)
		}
		if left := n.Processes(); len(left) > 0 {
			t.Errorf("%s has left %v", n.Name, left)
		}
		var exit *exec.ExitError
		if err := n.Ended(); !errors.As(err, &exit) || exit.ExitCode() != int(cli.ShutDown) {
			t.Errorf("%s ended with %v, want exit code %d", n.Name, err, cli.ShutDown)
		}
	}
	for _, n := range r.Others(primary) {
		must(t, n.Start())
	}
	must(t, primary.Start())
	// The primary of before wins where it is there in time; the others do not wait for it, and nothing is lost by that.
	now, newTerm := s.end()
	t.Logf("%s reigns in term %d, %s did in term %d", now.Name, newTerm, primary.Name, term)
	if newTerm != term+1 {
		t.Errorf("there was more than one election")
	}
}
