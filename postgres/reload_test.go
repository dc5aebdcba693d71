package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReloadSparesAServerThatStarts: until a postmaster has said in its lock file that it has begun, it may not have
// installed its signal handlers, and a SIGHUP would end it without a word.
func TestReloadSparesAServerThatStarts(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := watchProcess(child.Process.Pid, child)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill() // it may have ended
		<-w.ended
	})
	s := New(Config{DataDir: dir})
	s.setWatch(w)
	for name, lock := range map[string]string{
		"no lock file":           "",
		"an older server's":      "1\n/d\n0\n5432\n/s\n*\n0\nready\n",
		"it has not begun":       fmt.Sprintf("%d\n/d\n0\n5432\n/s\n*\n0\n", w.pid),
		"its address comes next": fmt.Sprintf("%d\n/d\n0\n5432\n", w.pid),
	} {
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(lock), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "only just been started") {
			t.Errorf("%s: %v", name, err)
		}
		if !w.alive() {
			t.Fatalf("%s: it was signalled and has died", name)
		}
	}
}
