package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLaunchTakesItsFileAway: a second start without the agent must start nothing.
func TestLaunchTakesItsFileAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postgres.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Launch(path); err == nil || !strings.Contains(err.Error(), "read "+path) {
		t.Errorf("a file cut short: %v", err)
	}
	if err := Launch(path); err == nil || !strings.Contains(err.Error(), "only the agent starts") {
		t.Errorf("the second start: %v", err)
	}
}

func TestGroupOfThisProcess(t *testing.T) {
	dir, err := groupOf(os.Getpid())
	if err == nil && !strings.HasPrefix(dir, cgroupRoot) {
		t.Errorf("control group %q", dir)
	}
	if _, err := groupOf(-1); err == nil {
		t.Error("a process that can't be has a control group")
	}
}
