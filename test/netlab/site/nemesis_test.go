//go:build e2e

package site_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// fault is what can befall any host.
type fault struct {
	name string
	// strike lets it befall a host. What it returns ends it; nil: Standfast has to deal with what it left.
	strike func(s *scene, h *netlab.Host) (end func() error, err error)
	fatal  bool // nobody may go on as the primary with it
}

// The faults that pairs and random runs are made of.
var (
	powerLoss = fault{"power loss", func(_ *scene, h *netlab.Host) (func() error, error) {
		return func() error { return h.Boot(all) }, h.PowerOff()
	}, true}
	pause = fault{"pause", func(_ *scene, h *netlab.Host) (func() error, error) {
		return func() error { return h.Resume(all) }, h.Pause(all)
	}, true}
	cableCut = fault{"cable cut", func(_ *scene, h *netlab.Host) (func() error, error) {
		return func() error { return cluster.Lab.Mend(all, h) }, cluster.Lab.Cut(all, h)
	}, true}
	cutFromOthers = fault{"cut from the others", cutEach((*netlab.Lab).CutPair), true} // clients reach it
	unheard       = fault{"unheard", cutEach((*netlab.Lab).CutOneWay), true}
	deaf          = fault{"deaf", cutEach(func(l *netlab.Lab, ctx context.Context, h, other *netlab.Host) error {
		return l.CutOneWay(ctx, other, h)
	}), true}
	frameLoss = fault{"5 % loss", func(_ *scene, h *netlab.Host) (func() error, error) {
		return heal, cluster.Lab.Loss(all, h, 0.05)
	}, false}
	frameDelay = fault{"30 ms delay", func(_ *scene, h *netlab.Host) (func() error, error) {
		return heal, cluster.Lab.Delay(h, 30*time.Millisecond, 20*time.Millisecond)
	}, false}
	fullDisk    = fault{"full disk", fillUp, true}
	stalledDisk = fault{"stalled disk", func(_ *scene, h *netlab.Host) (func() error, error) {
		return func() error { return h.ContinueDisk(all) }, h.StallDisk(all)
	}, true}
	overload         = fault{"overload", burn, false}
	killedAgent      = fault{"agent killed", signalled(unix.SIGKILL, site.Agent), false}
	stoppedAgent     = fault{"agent stopped", signalled(unix.SIGSTOP, site.Agent), true}
	killedEtcd       = fault{"etcd killed", signalled(unix.SIGKILL, site.Etcd), false}
	stoppedEtcd      = fault{"etcd stopped", signalled(unix.SIGSTOP, site.Etcd), false}
	killedGuard      = fault{"guard killed", signalled(unix.SIGKILL, site.Guard), false}
	killedPostmaster = fault{"postmaster killed", signalled(unix.SIGKILL, site.Postmaster), true}
	stoppedPostgres  = fault{"PostgreSQL stopped", signalled(unix.SIGSTOP, site.Postgres), true}
	reboot           = fault{"reboot", func(_ *scene, h *netlab.Host) (func() error, error) { return nil, h.Reboot(all) }, true}
)

var everyFault = []fault{
	powerLoss, pause, cableCut, cutFromOthers, unheard, deaf, frameLoss, frameDelay, fullDisk, stalledDisk, overload, killedAgent,
	stoppedAgent, killedEtcd, stoppedEtcd, killedGuard, killedPostmaster, stoppedPostgres, reboot,
}

// heal ends every fault of the network, others' too where several last at the same time.
func heal() error { return cluster.Lab.Heal(all) }

// cutEach cuts something between a host and each of the others.
func cutEach(cut func(l *netlab.Lab, ctx context.Context, h, other *netlab.Host) error) func(*scene, *netlab.Host) (func() error, error) {
	return func(_ *scene, h *netlab.Host) (func() error, error) {
		var err error
		for _, other := range cluster.Lab.Hosts {
			if other != h {
				err = errors.Join(err, cut(cluster.Lab, all, h, other))
			}
		}
		return heal, err
	}
}

// signalled sends a signal to a part, if it runs just now. What was stopped is continued in the end, unless it was replaced.
func signalled(signal unix.Signal, part site.Part) func(*scene, *netlab.Host) (func() error, error) {
	return func(s *scene, h *netlab.Host) (func() error, error) {
		pids, err := site.PIDs(h, part)
		if err != nil || len(pids) == 0 {
			s.t.Logf("no such process runs on %s now: %v", h.Name, err)
			return nil, err
		}
		struck := func(p netlab.Process) bool { return slices.Contains(pids, p.PID) }
		if signal != unix.SIGSTOP {
			return nil, h.Signal(signal, struck)
		}
		return func() error {
			_ = h.Signal(unix.SIGCONT, struck) // an error says that none of them is left
			return nil
		}, h.Signal(signal, struck)
	}
}

// fillUp leaves less than a WAL segment on a host's disk, and has whoever is the primary begin new ones.
func fillUp(s *scene, h *netlab.Host) (func() error, error) {
	if err := h.FillDisk(4 << 20); err != nil {
		return nil, err
	}
	stop := func() {}
	if at := s.reigning(); at != nil {
		stop = s.fill(at)
	}
	return func() error {
		stop()
		return h.FreeDisk()
	}, nil
}

// burn lets twice as many processes as there are processors compute on a host. Each is in a session of its own, or the kernel
// would give all of them no more time together than it gives to one service (sched(7), "The autogroup feature").
func burn(_ *scene, h *netlab.Host) (func() error, error) {
	const mark = "lab-burn"
	script := fmt.Sprintf("for i in $(seq %d); do setsid sh -c 'while :; do :; done' %s </dev/null >/dev/null 2>&1 & done", 2*runtime.NumCPU(), mark)
	_, err := h.Shell(all, script)
	return func() error {
		return h.Signal(unix.SIGKILL, func(p netlab.Process) bool { return slices.Contains(p.Args, mark) })
	}, err
}

// role is which host is struck.
type role string

const (
	thePrimary role = "the primary"
	aStandby   role = "a standby"
	theLeader  role = "the store's leader" // kept off the primary's host
	theSame    role = "the same host"      // as before
	theThird   role = "the third host"     // neither the primary nor the one before
)

// reigning is the primary's host by the newest account, nil if there is no primary.
func (s *scene) reigning() *netlab.Host {
	st, err := cluster.Newest(all)
	if err != nil {
		return nil // none answers, as it may be between two faults
	}
	return cluster.Lab.Host(st.Primary)
}

// whose finds the host that has a role now; before is the one that was struck last. Where nobody reigns it is the host
// that reigned at the beginning.
func (s *scene) whose(r role, before *netlab.Host) *netlab.Host {
	primary := s.reigning()
	if primary == nil {
		primary = s.primary
	}
	switch r {
	case theSame:
		return before
	case aStandby, theThird:
		return cluster.Lab.Hosts[slices.IndexFunc(cluster.Lab.Hosts, func(h *netlab.Host) bool { return h != primary && h != before })]
	case theLeader:
		if st, err := cluster.Newest(all); err == nil && cluster.Lab.Host(st.Store.Leader) != nil {
			return cluster.Lab.Host(st.Store.Leader)
		}
	}
	return primary
}

// strike lets a fault befall a host.
func (s *scene) strike(f fault, h *netlab.Host) (end func()) {
	s.t.Helper()
	s.t.Logf("%s: %s", h.Name, f.name)
	undo, err := f.strike(s, h)
	if err != nil {
		s.t.Fatalf("%s of %s: %v", f.name, h.Name, err)
	}
	return func() {
		s.t.Helper()
		if undo != nil {
			ok(s.t, undo())
		}
	}
}

// single strikes a host that is not the primary's: nobody takes over, and clients go on meanwhile.
func single(t *testing.T, r role, faults ...fault) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := begin(t)
			end := s.strike(f, s.whose(r, nil))
			s.last(8 * time.Second) // longer than the lease
			s.flow(s.anywhere...)
			end()
			s.unmoved()
		})
	}
}

// TestStruckStandby: what befalls a standby moves nothing.
func TestStruckStandby(t *testing.T) {
	single(t, aStandby, cableCut, unheard, deaf, fullDisk, stalledDisk)
}

// TestStruckLeader: neither does what befalls the host whose etcd leads the store, which is not the primary's.
func TestStruckLeader(t *testing.T) {
	single(t, theLeader, powerLoss, pause, cableCut, stoppedEtcd)
}

// TestPairs: a fault of the primary's host, which ends, and another at once, while the cluster is not whole yet. "make e2e" tries the
// first few, "make lab" all.
func TestPairs(t *testing.T) {
	pairs := []struct {
		first, second fault
		on            role
	}{
		{powerLoss, powerLoss, thePrimary},
		{pause, killedPostmaster, thePrimary},
		{cableCut, powerLoss, thePrimary},
		{deaf, cableCut, thePrimary},
		{stoppedAgent, powerLoss, thePrimary},
		{powerLoss, pause, thePrimary},
		{powerLoss, powerLoss, theThird},
		{powerLoss, cableCut, theSame},
		{pause, powerLoss, theSame},
		{cutFromOthers, pause, thePrimary},
		{unheard, killedPostmaster, thePrimary},
		{killedPostmaster, powerLoss, thePrimary},
		{fullDisk, cutFromOthers, thePrimary},
		{stalledDisk, cableCut, thePrimary},
		{killedAgent, powerLoss, theLeader},
	}
	if few := 5; os.Getenv("STANDFAST_NETLAB_LONG") == "" {
		t.Logf("make lab tries %d pairs more", len(pairs)-few)
		pairs = pairs[:few]
	}
	for _, p := range pairs {
		t.Run(fmt.Sprintf("%s, then %s of %s", p.first.name, p.second.name, p.on), func(t *testing.T) {
			s := begin(t)
			struck := s.primary
			end := s.strike(p.first, struck)
			if p.first.fatal {
				s.reign(soon)
			}
			end()
			end = s.strike(p.second, s.whose(p.on, struck))
			s.last(5 * time.Second)
			end()
			s.end()
		})
	}
}
