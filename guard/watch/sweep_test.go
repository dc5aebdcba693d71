package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cgroup2 makes a control group of version 2.
func cgroup2(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			dir := filepath.Join(f[1], fmt.Sprintf("standfast-test-%d", os.Getpid()))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Skipf("no control group can be made here: %v", err)
			}
			t.Cleanup(func() { os.Remove(dir) })
			return dir
		}
	}
	t.Skip("no control groups of version 2 are mounted here")
	return ""
}

// What works elsewhere and is called otherwise is killed too if it is in the control group.
func TestControlGroup(t *testing.T) {
	group := cgroup2(t)
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	go func() {
		sleep.Wait()
		close(dead)
	}()
	defer func() {
		sleep.Process.Kill()
		<-dead
	}()
	if err := writeTo(group+"/cgroup.procs", fmt.Sprint(sleep.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	var s sweeper
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	if _, left := s.look("/nowhere", group, false); left != 1 {
		t.Errorf("%d left before, want 1", left)
	}
	s.look("/nowhere", group, true)
	select {
	case <-dead:
	case <-time.After(5 * time.Second):
		t.Fatal("it was not killed")
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, left := s.look("/nowhere", group, true); left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the control group never became empty")
		}
	}
}
