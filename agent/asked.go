package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"standfast/cluster"
)

// asked is an operator's request that concerns this member alone and needs nobody's consent.
type asked struct {
	action cluster.Action
	answer chan error
}

// Restart restarts PostgreSQL as a standby and returns when it has been started again. A primary is restarted through
// the cluster instead, by a request for a switchover to itself.
func (a *Agent) Restart(ctx context.Context, reason string) error {
	q := asked{cluster.Restart{Reason: reason}, make(chan error, 1)}
	select {
	case a.asked <- q:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-q.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reclone has the member's data replaced by a copy of the primary's: it counts as having failed to follow, so it asks to
// leave the commit rule and is cloned once it has.
func (a *Agent) Reclone(reason string) {
	a.mu.Lock()
	a.recloneWhy = reason
	a.mu.Unlock()
	a.Wake()
}

// carryOutAsked starts what an operator asked for, unless the slow lane is taken or the member is a primary by now.
func (a *Agent) carryOutAsked(ctx context.Context, v cluster.View, q asked) {
	switch {
	case v.State == nil || !v.Postgres.Recovery || !v.Postgres.Running:
		q.answer <- errors.New("PostgreSQL is not running as a standby")
		return
	case a.slow != nil && !a.slow.ended():
		q.answer <- fmt.Errorf("busy: %s", a.slow.action)
		return
	}
	a.slow = nil
	a.startSlow(ctx, v, q.action)
	if a.slow == nil {
		q.answer <- errors.New("the last attempt failed a moment ago")
		return
	}
	j := a.slow
	a.aside.Go(func() {
		<-j.done
		q.answer <- j.err
	})
}

// takeReclone turns an operator's wish for a new copy into the reason to leave the rule.
func (a *Agent) takeReclone() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.recloneWhy == "" || a.state == nil || a.state.Phase != cluster.Reigning {
		return
	}
	a.failed, a.failedKind, a.failedTerm, a.failedAt = a.recloneWhy, "follow", a.state.Term, time.Now()
	a.recloneWhy = ""
}

// takeStarved makes a primary that no longer has the WAL which this member needs the reason to leave the rule: it would ask
// for it for ever. A new copy is the only way on.
func (a *Agent) takeStarved() {
	if a.cfg.Relay == nil || a.state == nil || a.state.Phase != cluster.Reigning {
		return
	}
	st := a.cfg.Relay.Status()
	if st.Starved == "" || st.Term != a.state.Term {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failedTerm == a.state.Term && a.failedKind != "" {
		return // known
	}
	a.log.Warn("the primary no longer has the WAL that this member needs: a new copy has to be made", "term", st.Term, "err", st.Starved)
	a.failed, a.failedKind, a.failedTerm, a.failedAt = st.Starved, "follow", a.state.Term, time.Now()
}
