package slack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSet: in a process of its own, whose threads it is to change.
func TestSet(t *testing.T) {
	if os.Getenv("SLACK_TEST_CHILD") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestSet$", "-test.v")
		cmd.Env = append(os.Environ(), "SLACK_TEST_CHILD=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const d = 3 * time.Millisecond
	if err := Set(d); errors.Is(err, unix.ENOTSUP) {
		t.Logf("not in a program linked with C: %v", err)
	} else if err != nil {
		t.Fatal(err)
	} else {
		for _, got := range ofThreads(t) {
			if got != d {
				t.Errorf("a thread has a slack of %s", got)
			}
		}
	}
	if got := ofChild(t); got != Default {
		t.Errorf("the child of a thread with the default has a slack of %s", got)
	}
}

// ofThreads is what PR_GET_TIMERSLACK says on sixteen threads, most of which the runtime starts for it.
func ofThreads(t *testing.T) (all []time.Duration) {
	t.Helper()
	got, leave := make(chan time.Duration), make(chan bool)
	defer close(leave)
	for range 16 {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
			if err != nil {
				ns = -1
			}
			got <- time.Duration(ns)
			<-leave
		}()
	}
	for range 16 {
		all = append(all, <-got)
	}
	return all
}

func ofChild(t *testing.T) time.Duration {
	t.Helper()
	out := filepath.Join(t.TempDir(), "slack")
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		err := SetThread(Default)
		if err == nil {
			err = exec.Command("sh", "-c", "cat /proc/$$/timerslack_ns >"+out).Run()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ns)
}
