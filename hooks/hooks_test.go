package hooks

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal collects log lines.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// begin runs hooks until the test ends.
func begin(t *testing.T, cfg Config) (*Hooks, *journal) {
	t.Helper()
	j := &journal{}
	cfg.Cluster, cfg.Member, cfg.Log = "main", "pg1", slog.New(slog.NewTextHandler(j, nil))
	h := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h, j
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestWhatACommandGets(t *testing.T) {
	t.Setenv("PGPASSWORD", "secret")
	h, j := begin(t, Config{OnRole: "env | sort | grep -v ^PWD; echo oops >&2; exit 3", OnAddress: "env | grep STANDFAST_[AHIE] | sort"})
	h.Tell(Event{Kind: Role, Term: 7, Primary: "pg1", Role: "primary"})
	within(t, "the first run", func() bool { return strings.Contains(j.String(), "exit status 3") })
	h.Tell(Event{Kind: Role, Term: 8, Role: "standby"})
	within(t, "the second run", func() bool { return strings.Count(j.String(), "exit status 3") == 2 })
	h.Tell(Event{Kind: Address, Term: 8, Role: "standby", Address: "10.0.1.50", Interface: "eth0", Held: true})
	within(t, "the third run", func() bool { return strings.Contains(j.String(), "STANDFAST_INTERFACE") })
	var got []string
	for line := range strings.Lines(j.String()) {
		if _, said, ok := strings.Cut(line, " line="); ok {
			got = append(got, strings.Trim(strings.TrimSpace(said), `"`))
		}
	}
	role := func(old, role, term, primary string) []string {
		return []string{"HOME=/", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "STANDFAST_CLUSTER=main",
			"STANDFAST_EVENT=role", "STANDFAST_MEMBER=pg1", "STANDFAST_OLD_ROLE=" + old, "STANDFAST_PRIMARY=" + primary, "STANDFAST_ROLE=" + role, "STANDFAST_TERM=" + term, "oops"}
	}
	want := slices.Concat(role("", "primary", "7", "pg1"), role("primary", "standby", "8", ""),
		[]string{"STANDFAST_ADDRESS=10.0.1.50", "STANDFAST_EVENT=address", "STANDFAST_HELD=yes", "STANDFAST_INTERFACE=eth0"})
	got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "_=") || strings.HasPrefix(s, "SHLVL=") })
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestOnlyTheNewestWaits, of each address; and nothing blocks.
func TestOnlyTheNewestWaits(t *testing.T) {
	dir := t.TempDir()
	gate, told := filepath.Join(dir, "gate"), filepath.Join(dir, "told")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	h, _ := begin(t, Config{OnAddress: fmt.Sprintf(`echo "$STANDFAST_ADDRESS $STANDFAST_TERM" >>%s; cat %s`, told, gate)})
	read := func() string { b, _ := os.ReadFile(told); return string(b) }
	h.Tell(Event{Kind: Address, Address: "a", Term: 1})
	within(t, "the first begins", func() bool { return read() == "a 1\n" })
	for term := uint64(2); term < 1000; term++ {
		h.Tell(Event{Kind: Address, Address: "a", Term: term})
		h.Tell(Event{Kind: Address, Address: "b", Term: term})
		h.Tell(Event{Kind: Role, Term: term}) // nobody has asked for it
	}
	for range 3 { // each of three runs reads up to the end of the file
		f, err := os.OpenFile(gate, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		n := strings.Count(read(), "\n")
		f.Close()
		within(t, "the next begins", func() bool { return strings.Count(read(), "\n") > n || strings.Count(read(), "\n") == 3 })
	}
	if got := read(); got != "a 1\na 999\nb 999\n" {
		t.Errorf("told:\n%s", got)
	}
}

// TestTimeout: when its time is over a command is killed with all that it has started.
func TestTimeout(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	h, j := begin(t, Config{OnRole: fmt.Sprintf(`trap "" TERM; sleep 1000 & echo $$ $! >%s; wait; sleep 1000`, pids), Timeout: 300 * time.Millisecond})
	h.Tell(Event{Kind: Role})
	within(t, "its end", func() bool { return strings.Contains(j.String(), "killed after 300ms") })
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		within(t, "the end of process "+s, func() bool { return gone(pid) })
	}
}

// gone reports whether the process has ended; a zombie, which its new parent has not taken in yet, has.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(rest, "Z")
}

// TestEndsWithItsOwner: what runs is killed when Run is told to end, which the cleanup of begin waits for.
func TestEndsWithItsOwner(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	h, _ := begin(t, Config{OnRole: "touch " + started + "; sleep 1000", Timeout: time.Hour})
	h.Tell(Event{Kind: Role})
	within(t, "its beginning", func() bool { _, err := os.Stat(started); return err == nil })
}

// TestNoCapabilities: a command has none of the member's ambient capabilities.
func TestNoCapabilities(t *testing.T) {
	if os.Getenv("HOOKS_TEST_CHILD") == "" {
		if os.Getuid() != 0 {
			t.Skip("only root can give itself ambient capabilities")
		}
		// Once more, as a user who has nothing but one ambient capability.
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoCapabilities$", "-test.v")
		cmd.Env = append(os.Environ(), "HOOKS_TEST_CHILD=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: []uintptr{unix.CAP_NET_RAW}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestNoCapabilities") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if own, err := os.ReadFile("/proc/thread-self/status"); err != nil || !strings.Contains(string(own), "CapAmb:\t0000000000002000") {
		t.Fatalf("this test has no ambient capability, so it shows nothing: %v\n%s", err, own)
	}
	h, j := begin(t, Config{OnRole: "grep Cap[PEA] /proc/self/status"})
	h.Tell(Event{Kind: Role})
	within(t, "its end", func() bool { return strings.Contains(j.String(), "hook ended") })
	for _, set := range []string{"CapPrm", "CapEff", "CapAmb"} {
		if !strings.Contains(j.String(), set+`:\t0000000000000000`) {
			t.Errorf("%s is not empty:\n%s", set, j)
		}
	}
}

// TestMuchOutput is not logged whole, and does not hold the command up.
func TestMuchOutput(t *testing.T) {
	h, j := begin(t, Config{OnRole: "seq 1 5000; head -c 1000000 /dev/zero; echo; echo end"})
	h.Tell(Event{Kind: Role})
	within(t, "its end", func() bool { return strings.Contains(j.String(), "hook ended") })
	if n := strings.Count(j.String(), "hook says"); n > mostLines+1 || !strings.Contains(j.String(), "hook says more") || strings.Contains(j.String(), "error=") {
		t.Errorf("%d lines:\n%.2000s", n, j)
	}
}
