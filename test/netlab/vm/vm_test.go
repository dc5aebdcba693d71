//go:build e2e

package vm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/test/netlab"
	"standfast/test/netlab/vm"
)

var machine *vm.Machine

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := vm.Missing(); err != nil {
		fmt.Println("SKIP: no machine with a kernel of its own can be booted here:", err)
		return 0
	}
	dir, err := os.MkdirTemp("", "standfast-vm-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "inside")
	build := exec.Command("go", "build", "-o", program, "standfast/test/netlab/vm/inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Printf("build the machine's program: %v: %s\n", err, out)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	machine, err = vm.New(ctx, dir, program, netlab.CacheDir())
	switch {
	case errors.Is(err, vm.ErrNoKernel):
		fmt.Println("SKIP: no machine with a kernel of its own can be booted here:", err)
		return 0
	case err != nil:
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// boot runs a story and returns what it said.
func boot(t *testing.T, story string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	console, took, err := machine.Boot(ctx, story)
	if err != nil {
		t.Fatalf("%v after %.1f s: %s", err, took.Seconds(), console)
	}
	t.Logf("off after %.1f s: %s", took.Seconds(), console)
	return console
}

// TestWatchdogIsFed: a machine whose guard works is not reset, nor one whose guard was disarmed.
func TestWatchdogIsFed(t *testing.T) {
	if console := boot(t, "fed"); !strings.Contains(console, "END fed: <nil>") {
		t.Error("it did not live")
	}
}

// TestWatchdogResets: a guard that hangs or dies while it is armed leaves nobody who could end PostgreSQL, so the machine goes.
func TestWatchdogResets(t *testing.T) {
	for _, story := range []string{"hung", "killed"} {
		t.Run(story, func(t *testing.T) {
			if console := boot(t, story); !strings.Contains(console, "STRIKE") || strings.Contains(console, "END") {
				t.Error("it was not reset")
			}
		})
	}
}

// TestClockIsSet: a day forward, two days back.
func TestClockIsSet(t *testing.T) {
	if console := boot(t, "clock"); !strings.Contains(console, "END clock: <nil>") {
		t.Error("the lease depends on the time of day")
	}
}
