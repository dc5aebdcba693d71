package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/decide"
	"standfast/postgres"
)

// startWait is how long a start waits for the agreed configuration, which arrives together with the record that brings the
// start about.
const startWait = 5 * time.Second

// applied is what came of putting a revision of the agreed configuration in force.
type applied struct {
	revision int64
	waiting  postgres.Waiting
	err      error
}

// waiting says what waits on this member, as of the last look.
func (n *Node) waiting() postgres.Waiting {
	if a := n.applied.Load(); a != nil {
		return a.waiting
	}
	return postgres.Waiting{}
}

func (n *Node) setApplied(a applied) {
	n.applied.Store(&a)
	n.viewChanged.broadcast()
	if n.agent != nil {
		n.agent.Wake() // the others and the status are told
	}
}

// applyPostgres makes PostgreSQL work by the agreed configuration.
func (n *Node) applyPostgres(ctx context.Context) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	rev := n.agreed.at()
	w, err := n.putInForce(ctx)
	n.setApplied(applied{rev, w, err})
	return err
}

func (n *Node) putInForce(ctx context.Context) (postgres.Waiting, error) {
	n.pg.SetConfig(n.postgresConfig())
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if d, _, err := n.pg.Data(ctx); err != nil || d != cluster.DataReady {
		return postgres.Waiting{}, err // Init and Clone begin with what is agreed
	}
	return n.pg.ApplyParameters(ctx, parameters(n.agreed.get()))
}

// refreshParameters asks anew what waits, now that PostgreSQL's role or what it has replayed may allow something else.
func (n *Node) refreshParameters(ctx context.Context) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	last := n.applied.Load()
	if last == nil {
		return nil // applyPostgres has yet to come
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	w, err := n.pg.RefreshParameters(ctx)
	if err != nil {
		return err
	}
	n.setApplied(applied{last.revision, w, last.err})
	return nil
}

// lookAfterParameters refreshes them once PostgreSQL has settled in a new role, and restarts a standby whose primary has
// come to have more than it: its replay stands still.
func (n *Node) lookAfterParameters(ctx context.Context) {
	v := n.view.Load()
	if n.pg == nil || v == nil || !v.Postgres.Up {
		return
	}
	if settled(*v) && n.stale.Swap(false) {
		if err := n.refreshParameters(ctx); err != nil {
			n.stale.Store(true)
			n.log.Warn("look after PostgreSQL's parameters", "error", err)
		}
	}
	n.grow(ctx, *v)
}

// lookForLess tries again what was refused or could not be tried, and finds out whether the primary has less by now.
func (n *Node) lookForLess(ctx context.Context) {
	v, last := n.view.Load(), n.applied.Load()
	if n.pg == nil || v == nil || last == nil || !v.Postgres.Up {
		return
	}
	var err error
	switch {
	case last.err != nil:
		err = n.applyPostgres(ctx)
	case len(last.waiting.Primary) > 0:
		err = n.refreshParameters(ctx)
	}
	if err != nil {
		n.log.Warn("look after PostgreSQL's parameters", "error", err)
	}
}

// settled reports whether a term's changes of this server are over: nothing is to be slowed down by looking.
func settled(v cluster.View) bool {
	if v.State == nil || v.State.Phase != cluster.Reigning {
		return false
	}
	if v.State.Primary == v.Self {
		return v.Admitted == v.State.Term
	}
	return decide.Readable(v)
}

// grow restarts a standby that has less than its primary of what it must have as much of. PostgreSQL pauses replay then and
// waits for the administrator ("Hot Standby", section "Administrator's Overview"); meanwhile it goes on flushing, but reads
// grow old and it can't be promoted. This happens when a failover, or a restart by name, comes in between a change and the
// restarts for it. The restart takes what is needed, whatever is configured.
func (n *Node) grow(ctx context.Context, v cluster.View) {
	p := v.Postgres
	behind := p.Recovery && p.Replayed < p.Position.LSN
	stuck := behind && p.Replayed == n.lastReplay
	n.lastReplay = 0
	if behind {
		n.lastReplay = p.Replayed
	}
	if !stuck {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	short, err := n.pg.Outgrown(ctx)
	if err == nil && len(short) > 0 {
		why := fmt.Sprintf("its primary has more of %s, so that its replay has paused", strings.Join(short, ", "))
		n.log.Info("restart the standby", "reason", why)
		err = n.agent.Restart(ctx, why)
	}
	if err != nil {
		n.log.Warn("look after PostgreSQL's parameters", "error", err)
	}
}

// starter starts PostgreSQL with the newest parameters that are agreed. An agent that has just been started sees the record,
// and acts by it, at the same time as it learns of the configuration.
type starter struct {
	*postgres.Server
	n *Node
}

// StartStandby starts the server as a standby once the agreed configuration is known.
func (s starter) StartStandby(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for s.n.agreed.at() == 0 && wait.Err() == nil {
		select {
		case <-s.n.viewChanged.wait(): // comes several times a second
		case <-wait.Done():
			s.n.log.Warn("the agreed configuration is not known yet: PostgreSQL starts with what the member's file says")
		}
	}
	s.SetConfig(s.n.postgresConfig())
	return s.Server.StartStandby(ctx)
}

// checkParameters asks PostgreSQL itself whether it would accept the parameters.
func (n *Node) checkParameters(ctx context.Context, c config.Cluster) error {
	if n.pg == nil {
		return nil
	}
	return n.pg.CheckParameters(ctx, parameters(c))
}

func parameters(c config.Cluster) map[string]string {
	out := make(map[string]string, len(c.PostgreSQL.Parameters))
	for k, v := range c.PostgreSQL.Parameters {
		out[k] = string(v)
	}
	return out
}
