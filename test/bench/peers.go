package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"standfast/test/netlab"
	"standfast/test/netlab/peers"
	"standfast/test/netlab/site"
)

// stacks in the order in which they are measured and shown.
var stacks = []string{"standfast", "guide", "patroni"}

// stackNames are what the tables call them.
var stackNames = map[string]string{"standfast": "Standfast", "guide": "repmgr, HAProxy, Keepalived", "patroni": "Patroni, etcd, HAProxy, Keepalived"}

// ownSettings are of Standfast's members: the detection profile that figures are published for, and no minute's wait between two
// replacements of a primary that lives, or each run would have to wait it out.
var ownSettings = []string{"bootstrap.detection=fast", "bootstrap.anti_flap=1s"}

// blow is one fault that is tried on every stack.
type blow struct {
	name   string
	goal   time.Duration // Standfast's, for the median of the outages
	most   time.Duration // and for the longest
	hold   time.Duration // from strike to undo
	strike func(ctx context.Context, s peers.Stack, primary *netlab.Host) error
	undo   func(ctx context.Context, s peers.Stack, primary *netlab.Host) error
}

var blows = []blow{
	{"power loss of the primary's host", time.Second, 2 * time.Second, 0, powerLoss, nothing},
	{"postmaster SIGKILL", 300 * time.Millisecond, time.Second, 0, killServer, nothing},
	{"host paused for 30 s", 1500 * time.Millisecond, 3 * time.Second, 30 * time.Second, pauseHost, resumeHost},
	{"primary cut from both standbys for 30 s", 1500 * time.Millisecond, 3 * time.Second, 30 * time.Second, cutFromStandbys, heal},
	{"switchover", 300 * time.Millisecond, 600 * time.Millisecond, 0, moveAway, nothing},
}

func powerLoss(_ context.Context, _ peers.Stack, h *netlab.Host) error { return h.PowerOff() }

func killServer(_ context.Context, _ peers.Stack, h *netlab.Host) error {
	return h.Signal(unix.SIGKILL, site.Postmaster)
}

func pauseHost(ctx context.Context, _ peers.Stack, h *netlab.Host) error { return h.Pause(ctx) }

func resumeHost(ctx context.Context, _ peers.Stack, h *netlab.Host) error { return h.Resume(ctx) }

// cutFromStandbys leaves the clients' way to every host open.
func cutFromStandbys(ctx context.Context, s peers.Stack, h *netlab.Host) error {
	var errs []error
	for _, other := range others(s, h) {
		errs = append(errs, s.Lab().CutPair(ctx, h, other))
	}
	return errors.Join(errs...)
}

func heal(ctx context.Context, s peers.Stack, _ *netlab.Host) error { return s.Lab().Heal(ctx) }

func moveAway(ctx context.Context, s peers.Stack, h *netlab.Host) error {
	return s.Switchover(ctx, h, others(s, h)[0])
}

func nothing(context.Context, peers.Stack, *netlab.Host) error { return nil }

func others(s peers.Stack, h *netlab.Host) []*netlab.Host {
	return slices.DeleteFunc(slices.Clone(s.Lab().Hosts), func(o *netlab.Host) bool { return o == h })
}

// besidePeers measures what is not there yet, one stack after the other, each on machines that are booted once for it.
func besidePeers(ctx context.Context, l limits, to *results) error {
	for _, name := range l.stacks {
		todo := l.missing(name, parseDone(to.done()))
		if len(todo) == 0 {
			continue
		}
		if err := measureStack(ctx, name, todo, to); err != nil {
			return fmt.Errorf("measure %s: %w", name, err)
		}
	}
	return nil
}

// missing lists the faults that are to be tried on a stack, as often as they are lacking, each once before any twice.
func (l limits) missing(stack string, done map[string]int) []blow {
	runs := l.peerRuns
	if stack == "standfast" {
		runs = l.runs
	}
	var out []blow
	for round := range runs {
		for _, b := range blows {
			if l.wantsFault(b.name) && round >= done["peers/"+stack+"/"+b.name] {
				out = append(out, b)
			}
		}
	}
	return out
}

func (l limits) wantsFault(name string) bool {
	return l.faults == "" || slices.ContainsFunc(strings.Split(l.faults, ","), func(part string) bool { return strings.Contains(name, part) })
}

func measureStack(ctx context.Context, name string, todo []blow, to *results) (err error) {
	s, err := startStack(ctx, name, ownSettings...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	to.with = s.With()
	for i, b := range todo {
		r, err := onePeerRun(ctx, s, b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		r.Stack = name
		fmt.Fprintf(os.Stderr, "%s %d/%d, %s: writes out for %.0f ms (open sessions %.0f ms), %d lost, %d overlaps\n", name, i+1, len(todo), b.name, r.Outage, r.Sessions, r.Lost, r.Overlaps)
		if err := to.add("peers", r); err != nil {
			return err
		}
	}
	return nil
}

// startStack boots the machines. The settings are of Standfast's members.
func startStack(ctx context.Context, name string, settings ...string) (peers.Stack, error) {
	binary, err := filepath.Abs("bin/standfast")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w (make build)", err)
	}
	logf := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	fmt.Fprintf(os.Stderr, "booting three machines with %s\n", stackNames[name])
	return peers.Starters[name](ctx, peers.Config{Binary: binary, Settings: settings, Logf: logf})
}
