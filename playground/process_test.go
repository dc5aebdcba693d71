package playground

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"standfast/guard"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guard" { // a guard is this program itself where the small one was not built
		os.Exit(guard.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestGuardBelongsToItsMember, although it works in no directory of it: it is frozen and ended with it.
func TestGuardBelongsToItsMember(t *testing.T) {
	all := t.TempDir()
	h, other := &Host{Dir: filepath.Join(all, "pg1")}, &Host{Dir: filepath.Join(all, "pg2")}
	for _, dir := range []string{h.StateDir(), other.StateDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	g, err := guard.Start(t.Context(), guard.Config{Name: h.StateDir(), WatchdogTimeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	pid := g.Status().PID
	is := func(p Process) bool { return p.PID == pid }
	if got := h.Processes(); len(got) != 1 || !is(got[0]) {
		t.Errorf("the member's processes: %v, want its guard, %d", got, pid)
	}
	if got := processesIn(all); !slices.ContainsFunc(got, is) {
		t.Errorf("the playground's processes: %v, want the guard, %d", got, pid)
	}
	if got := other.Processes(); len(got) != 0 {
		t.Errorf("another member's processes: %v", got)
	}
	if err := h.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.Done():
	case <-time.After(10 * time.Second):
		t.Error("the guard has survived its host")
	}
}
