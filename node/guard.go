package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"standfast/guard"
)

// guarded feeds the guard for the agent, which looks far more often than the guard needs to hear.
type guarded struct {
	guard *guard.Guard
	data  string        // PostgreSQL's data directory, as configured
	pace  time.Duration // least time between two feeds

	mu       sync.Mutex
	real     string // data, without symbolic links
	armed    bool
	disarmed bool // disarming was repeated, so that the guard has surely heard it
	fed      time.Time
}

// startGuard starts the process that ends PostgreSQL when the agent falls silent. It takes over from the guard of an
// earlier agent of this member, with the deadline that one was holding.
func (n *Node) startGuard(ctx context.Context) (*guarded, error) {
	if n.pg == nil {
		return nil, nil
	}
	g, err := guard.Start(ctx, guard.Config{
		Name: n.cfg.StateDir, WatchdogTimeout: time.Duration(n.agreed.get().Lease) / 2, Log: n.log.With("part", "guard"),
	})
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return &guarded{guard: g, data: n.cfg.Postgres.DataDir, pace: time.Duration(n.agreed.get().Lease) / 8}, nil
}

// Feed answers for PostgreSQL for that long from now on. After the guard has fired, which is only when this agent was
// silent for too long, it fails until Disarm: whatever ran then is dead.
func (g *guarded) Feed(within time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.armed && time.Since(g.fed) < min(g.pace, within/4) {
		return nil
	}
	if g.real == "" { // once: a hung disk must not stop the loop that this is called from
		data, err := filepath.EvalSymlinks(g.data)
		if err != nil {
			return fmt.Errorf("feed the guard: %w", err)
		}
		g.real = data
	}
	g.fed = time.Now()
	err := g.guard.Feed(within, guard.Target{Data: g.real})
	if err == nil || errors.Is(err, guard.ErrFired) {
		g.armed = true // one that has fired goes on killing until it is disarmed
	}
	return err
}

// Disarm is for a server that is no primary.
func (g *guarded) Disarm() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := g.guard.Status()
	if !g.armed && st.Left <= 0 && st.AckedSeq == st.LastSeq && g.disarmed || time.Since(g.fed) < disarmPace && !g.armed {
		return nil
	}
	g.fed = time.Now()
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
