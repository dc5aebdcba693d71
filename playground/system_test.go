package playground_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"standfast/postgres"
)

// The tests here run the real program with real PostgreSQL, on addresses of their own.
const floating = "127.0.79.10"

// program builds standfast where every user may run it.
func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a playground takes half a minute")
	}
	if _, _, err := postgres.FindBinDir(""); err != nil {
		t.Skip(err)
	}
	bin := filepath.Join(t.TempDir(), "standfast")
	if out, err := exec.Command("go", "build", "-o", bin, "standfast/cmd/standfast").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// stateDir is a name for a playground's directory; it must not exist yet, for it may become another user's.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "standfast-playground-test-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// left lists the processes that work in dir.
func left(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		if at, err := os.Readlink(l); err == nil && strings.HasPrefix(at, dir) {
			out = append(out, l+" "+at)
		}
	}
	return out
}

// TestDemoInAPipe is what "make demo | cat" does: plain lines, a verdict, code 0, and nothing left behind.
func TestDemoInAPipe(t *testing.T) {
	bin, dir := program(t), stateDir(t)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "playground", "--demo", "--floating", floating, "--dir", dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stderr.String(), stdout.String())
	}
	if !regexp.MustCompile(`(?m)^writes were out for \d+ ms, 0 acknowledged commits lost$`).Match(stdout.Bytes()) {
		t.Errorf("no verdict:\n%s", stdout.String())
	}
	if bytes.Contains(stdout.Bytes(), []byte("\x1b")) {
		t.Errorf("escape sequences in a pipe: %q", stdout.String())
	}
	if p := left(t, dir); len(p) > 0 {
		t.Errorf("left running: %v", p)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state is left: %v", err)
	}
}

// TestKilledPlaygroundLeavesNothing: the members hold a pipe of the playground's, and must end with it.
func TestKilledPlaygroundLeavesNothing(t *testing.T) {
	bin, dir := program(t), stateDir(t)
	cmd := exec.Command(bin, "playground", "--floating", floating, "--dir", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 2*time.Minute, "PostgreSQL to run in the playground", func() bool {
		return strings.Contains(strings.Join(left(t, dir), "\n"), "/data")
	})
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as meant
	waitFor(t, 30*time.Second, "all processes to end", func() bool { return len(left(t, dir)) == 0 })
}

func waitFor(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s in vain", within, what)
		}
	}
}
