package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"standfast/guard"
)

// guarded feeds the guard for the agent, which looks far more often than the guard needs to hear, and starts another one
// when it has ended.
type guarded struct {
	start  func(context.Context) (*guard.Guard, error)
	log    *slog.Logger
	data   string               // PostgreSQL's data directory, as configured
	pace   func() time.Duration // least time between two feeds
	lease  func() time.Duration
	held   func() []guard.Address // floating addresses that are here
	group  func() string          // PostgreSQL's own control group, "": none
	device string                 // the watchdog that the guard feeds, "": none

	mu       sync.Mutex
	guard    *guard.Guard
	real     string // data, without symbolic links
	armed    bool
	disarmed bool // disarming was repeated, so that the guard has surely heard it
	leaving  bool // the agent is about to stop: every feed goes out, for each may be the last
	fed      time.Time
	target   guard.Target // as fed last
	missing  error        // why there is no guard now; nil: there is one
}

// startGuard starts the process that ends PostgreSQL when the agent falls silent. It takes over from the guard of an
// earlier agent of this member, with the deadline that one was holding.
func (n *Node) startGuard(ctx context.Context) (*guarded, error) {
	if n.pg == nil {
		return nil, nil
	}
	device, err := n.watchdog()
	if err != nil {
		return nil, err
	}
	lease := func() time.Duration { return time.Duration(n.agreed.get().Lease) }
	log := n.log.With("part", "guard")
	g := &guarded{
		log: log, data: n.cfg.Postgres.DataDir, device: device, group: n.pg.Cgroup, lease: lease, held: n.addresses.guarded, pace: func() time.Duration { return lease() / 8 },
		start: func(ctx context.Context) (*guard.Guard, error) {
			return guard.Start(ctx, guard.Config{Name: n.cfg.StateDir, Watchdog: device, WatchdogTimeout: lease() / 2, Log: log})
		},
	}
	if g.guard, err = g.start(ctx); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return g, nil
}

// Pauses before a guard that has ended is replaced. Mostly somebody has killed it; one that can't be started, or ends again
// and again, needs a person.
const (
	firstGuardPause = 50 * time.Millisecond // doubles
	lastGuardPause  = 5 * time.Second       // up to this
	steadyGuard     = 10 * time.Second      // one that lived this long begins with firstGuardPause again
)

// run replaces a guard that has ended, until ctx ends. The next one is fed at the agent's next look.
func (g *guarded) run(ctx context.Context) {
	pause := firstGuardPause
	for {
		began := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-g.now().Done():
		}
		if time.Since(began) > steadyGuard {
			pause = firstGuardPause
		}
		for err := guard.ErrEnded; err != nil; err = g.replace(ctx) {
			g.miss(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, lastGuardPause)
		}
	}
}

func (g *guarded) now() *guard.Guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.guard
}

// miss notes that there is no guard, and why.
func (g *guarded) miss(err error) {
	g.log.Error("no guard is running, starting another", "error", err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.missing = err
}

func (g *guarded) replace(ctx context.Context) error {
	next, err := g.start(ctx)
	if err != nil {
		return err
	}
	g.mu.Lock()
	old := g.guard
	g.guard, g.missing, g.armed, g.disarmed, g.fed = next, nil, false, false, time.Time{}
	g.mu.Unlock()
	g.log.Info("another guard is running", "pid", next.Status().PID)
	if err := old.Close(); err != nil {
		g.log.Debug("close the guard that has ended", "error", err)
	}
	return nil
}

// warning is a sentence for the status while there is no guard, "" otherwise.
func (g *guarded) warning() string {
	if g == nil {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.missing == nil {
		return ""
	}
	return fmt.Sprintf("no guard is running here (%s): if the agent fell silent now, nobody would end PostgreSQL; another is being started", g.missing)
}

// watchdog is the device that the guard feeds, "": none.
func (g *guarded) watchdog() string {
	if g == nil {
		return ""
	}
	return g.device
}

// leave is called when the agent is about to stop, so that its successor finds as much of the last deadline as can be.
func (g *guarded) leave() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaving = true
}

// left is how much time the guard still gives, 0 if it is not armed or there is none.
func (g *guarded) left() time.Duration {
	if g == nil {
		return 0
	}
	if s := g.now().Status(); s.Alive {
		return s.Left
	}
	return 0
}

func (g *guarded) close() error {
	if g == nil {
		return nil
	}
	return g.now().Close() // an armed one keeps its deadline: the next agent has until then to take over
}

// Feed answers for PostgreSQL, and the floating addresses that are here, for that long from now on. After the guard has
// fired, which is only when this agent was silent for too long, it fails until Disarm: whatever ran then is dead. Without a
// guard, which run sees to and tells of, it does nothing.
func (g *guarded) Feed(within time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.real == "" && g.missing == nil { // once: a hung disk must not stop the loop that this is called from
		data, err := filepath.EvalSymlinks(g.data)
		if err != nil {
			return fmt.Errorf("feed the guard: %w", err)
		}
		g.real = data
	}
	return g.feed(within, guard.Target{Data: g.real, Cgroup: g.group(), Addresses: g.held()})
}

// feed answers for the target, at once if it is another than the last, else at its pace.
func (g *guarded) feed(within time.Duration, t guard.Target) error {
	same := t.Data == g.target.Data && t.Cgroup == g.target.Cgroup && slices.Equal(t.Addresses, g.target.Addresses)
	if g.missing != nil || g.armed && same && !g.leaving && time.Since(g.fed) < min(g.pace(), within/4) {
		return nil
	}
	g.fed, g.target = time.Now(), t
	err := g.guard.Feed(within, t)
	if err == nil || errors.Is(err, guard.ErrFired) {
		g.armed = true // one that has fired goes on killing until it is disarmed
	}
	return err
}

// Disarm is for a server that is no primary. The addresses that are here, a reader's for instance, stay guarded.
func (g *guarded) Disarm() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if held := g.held(); len(held) > 0 {
		err := g.feed(g.lease(), guard.Target{Addresses: held})
		if !errors.Is(err, guard.ErrFired) {
			return err
		}
	}
	st := g.guard.Status()
	if g.missing != nil || !g.armed && st.Left <= 0 && st.AckedSeq == st.LastSeq && g.disarmed || time.Since(g.fed) < disarmPace && !g.armed {
		return nil
	}
	g.fed, g.target = time.Now(), guard.Target{}
	err := g.guard.Disarm()
	if err == nil {
		// Repeated until the guard has acknowledged it: one that had not yet told of its firing would ignore this.
		g.disarmed = !g.armed
		g.armed = false
	}
	return err
}

// disarmPace is the least time between two attempts to disarm.
const disarmPace = 200 * time.Millisecond
