//go:build e2e

package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/test/checker"
	"standfast/test/netlab"
	"standfast/test/netlab/peers"
	"standfast/test/netlab/site"
)

// keepVar names a directory for the verdicts, as JSON.
const keepVar = "STANDFAST_PEERS_KEEP"

// TestCheckerFindsWhatTheGuideLoses runs standfast-checker against the hand-built stack, which replicates asynchronously and fences
// nobody. A checker that finds nothing there would find nothing anywhere. Whether a power loss costs anything is a matter
// of a millisecond, and of where new sessions go once the old primary is back beside the new one; that is only told.
func TestCheckerFindsWhatTheGuideLoses(t *testing.T) {
	if err := netlab.Missing(); err != nil {
		t.Skip("no whole machines can be booted here: ", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program := build(ctx, t)
	s, err := peers.Starters["guide"](ctx, peers.Config{Logf: t.Logf})
	ok(t, err)
	t.Cleanup(func() { ok(t, s.Close()) })
	t.Log(s.With())
	for _, f := range []struct {
		name         string
		broken       bool // certainly
		strike, undo func(primary *netlab.Host) error
	}{
		{"cut", true, func(h *netlab.Host) error { return cut(ctx, s, h) }, func(*netlab.Host) error { return s.Lab().Heal(ctx) }},
		{"pause", true, func(h *netlab.Host) error { return h.Pause(ctx) }, func(h *netlab.Host) error { return h.Resume(ctx) }},
		{"power", false, func(h *netlab.Host) error { return h.PowerOff() }, func(h *netlab.Host) error { return h.Boot(ctx) }},
	} {
		t.Run(f.name, func(t *testing.T) {
			primary, err := s.Whole(ctx)
			ok(t, err)
			v := judge(ctx, t, s, program, func() {
				ok(t, f.strike(primary))
				replaced(ctx, t, s, primary)
				ok(t, f.undo(primary))
				pause(ctx, t, 10*time.Second) // in which there are two primaries
				// An administrator ends it. Else HAProxy would lead who reads in the end to either of them, in turn.
				ok(t, primary.Signal(unix.SIGKILL, site.Postmaster))
				pause(ctx, t, 10*time.Second) // until HAProxy has noticed
			})
			keep(t, f.name, v)
			if f.broken && (v.Whole || len(v.Lost) == 0 && len(v.Overlaps) == 0) {
				t.Errorf("the checker found nothing wrong:\n%s", v)
			}
		})
	}
}

func build(ctx context.Context, t *testing.T) string {
	program := filepath.Join(t.TempDir(), "standfast-checker")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "standfast/test/checker/standfast-checker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the checker: %v: %s", err, out)
	}
	return program
}

func cut(ctx context.Context, s peers.Stack, h *netlab.Host) error {
	var errs []error
	for _, other := range s.Lab().Hosts {
		if other != h {
			errs = append(errs, s.Lab().CutPair(ctx, h, other))
		}
	}
	return errors.Join(errs...)
}

// judge runs the checker on the client while something happens, and returns its verdict.
func judge(ctx context.Context, t *testing.T, s peers.Stack, program string, happen func()) *checker.Verdict {
	t.Helper()
	args := []string{"-for", "0", "-clients", "1", "-think", "100ms", "-write", peers.FloatingDSN(), "-read", peers.DSN(site.Floating.String(), site.ReadPort)}
	for _, h := range s.Lab().Hosts {
		args = append(args, "-write", peers.DSN(h.Addr.String(), site.WritePort))
	}
	t.Logf("standfast-checker '%s'", strings.Join(args, "' '"))
	cmd := s.Lab().Command(ctx, program, args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	ok(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }() // an error says that it has ended
	pause(ctx, t, 3*time.Second)
	happen()
	ok(t, cmd.Process.Signal(os.Interrupt))
	if err := <-ended; cmd.ProcessState.ExitCode() > 1 {
		t.Errorf("the checker ended with %v", err)
	}
	t.Logf("%s", &words)
	v := &checker.Verdict{}
	if err := json.Unmarshal(out.Bytes(), v); err != nil {
		t.Fatalf("no verdict: %v: %s", err, &out)
	}
	return v
}

// replaced waits until another server takes writes. The guide's settings take about 25 s.
func replaced(ctx context.Context, t *testing.T, s peers.Stack, old *netlab.Host) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 2*time.Minute; {
		if h, err := s.Primary(ctx); err == nil && h != old {
			t.Logf("%s is primary, %.0f s after the fault", h.Name, time.Since(began).Seconds())
			return
		}
		pause(ctx, t, 500*time.Millisecond)
	}
	t.Fatal("nobody took over")
}

func pause(ctx context.Context, t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal("interrupted")
	case <-time.After(d):
	}
}

// keep writes the verdict where it is asked for.
func keep(t *testing.T, name string, v *checker.Verdict) {
	t.Helper()
	dir := os.Getenv(keepVar)
	if dir == "" {
		return
	}
	b, err := json.Marshal(v)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("checker-guide-%s.json", name)), append(b, '\n'), 0o644))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
