package node

import (
	"context"
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

	mu    sync.Mutex
	armed bool
	fed   time.Time
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
// silent for too long, it is disarmed first: whatever ran then is dead.
func (g *guarded) Feed(within time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.armed && time.Since(g.fed) < min(g.pace, within/4) {
		return nil
	}
	data, err := filepath.EvalSymlinks(g.data)
	if err != nil {
		return fmt.Errorf("feed the guard: %w", err)
	}
	err = g.guard.Feed(within, guard.Target{Data: data})
	g.armed, g.fed = err == nil, time.Now()
	return err
}

// Disarm is for a server that is no primary.
func (g *guarded) Disarm() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.armed && !g.fed.IsZero() {
		return nil
	}
	g.armed, g.fed = false, time.Now()
	return g.guard.Disarm()
}
