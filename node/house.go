package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/internal/grid"
	"standfast/store"
)

// Paces of what nobody waits for.
const (
	slotPace   = 10 * time.Second // slots made and advanced, PostgreSQL's log bounded
	leaderPace = 2 * time.Second  // etcd's leadership moved off the primary's host, parameters made to fit a new role
	upkeepPace = 10 * time.Minute // etcd compacted and defragmented
)

// seed puts this member and, if nobody has, the first configuration into the store. It tries until it succeeds: a new
// cluster's store has no majority before its second member runs.
func (n *Node) seed(ctx context.Context) error {
	for ctx.Err() == nil {
		err := n.seedOnce(ctx)
		if err == nil {
			return nil
		}
		n.log.Debug("waiting for the store", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// seedOnce writes the founders first and the configuration last: until there is one nobody decides anything, so that no
// majority is ever counted of a part of the founders.
func (n *Node) seedOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err := n.store.Config(ctx)
	if errors.Is(err, store.ErrNotFound) {
		if anew, err := n.foundAnew(ctx); anew || err != nil {
			return err
		}
		if !n.cfg.Join {
			if err := n.found(ctx); err != nil {
				return err
			}
			return n.plant(ctx)
		}
	}
	if err != nil {
		return err
	}
	if err := n.plant(ctx); err != nil { // another founder was faster with the configuration, or an earlier attempt came this far
		return err
	}
	me := n.cfg.Member()
	err = n.store.AlterMember(ctx, me.Name, func(m *cluster.Member) bool {
		me.Leaving = m.Leaving
		changed := *m != me
		*m = me
		return changed
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // not a member, or not yet: it is not for this host to change that
	}
	return err
}

func (n *Node) found(ctx context.Context) error {
	for _, m := range n.cfg.Members {
		if err := n.store.PutMember(ctx, m.Member()); err != nil {
			return err
		}
	}
	text, err := n.cfg.Bootstrap.Render()
	if err != nil {
		return err
	}
	if _, err := n.store.PutConfig(ctx, text, 0); err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// keepHouse follows the agreed configuration and members, and does what nobody waits for.
func (n *Node) keepHouse(ctx context.Context) error {
	snaps := n.store.Watch(ctx)
	slots, upkeep := time.NewTicker(slotPace), time.NewTicker(upkeepPace)
	leader := time.NewTimer(leaderPace)
	defer slots.Stop()
	defer leader.Stop()
	defer upkeep.Stop()
	var history cluster.Term
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-snaps:
			if !ok {
				return nil
			}
			n.follows(ctx, s)
			if s.State != nil && s.State.Phase == cluster.Reigning && s.State.Term != history {
				history = s.State.Term
				n.keepSlots(ctx)
				n.moveLeader(ctx)
			}
			n.readHistory(ctx)
		case <-slots.C:
			n.boundLog()
			n.stayOut(ctx)
			n.keepSlots(ctx)
			n.readHistory(ctx)
			n.lookForLess(ctx)
		case <-n.kick:
			n.keepSlots(ctx)
		case <-leader.C:
			if n.findLeader(ctx) == n.cfg.Name {
				n.moveLeader(ctx)
			}
			n.lookAfterParameters(ctx)
			leader.Reset(grid.Until(time.Now(), leaderPace))
		case <-upkeep.C:
			n.maintainStore(ctx)
		}
	}
}

// follows takes over members and configuration as agreed.
func (n *Node) follows(ctx context.Context, s store.Snapshot) {
	n.grants.Store(&s.Grants)
	if s.Config.Revision == 0 {
		return // being founded
	}
	if !slices.Equal(n.formers(), s.Former) {
		former := s.Former
		n.former.Store(&former)
	}
	known := n.members.Load()
	changed := len(s.Members) > 0 && !slices.Equal(*known, s.Members)
	if changed {
		members := s.Members
		n.members.Store(&members)
		n.noteDeparted(*known)
		n.membersChanged.broadcast()
	}
	n.stayOut(ctx)
	if n.agreed.take(s.Config) || changed {
		if err := n.applyConfig(ctx); err != nil {
			n.log.Error("apply the agreed configuration", "error", err)
		}
		n.agent.Wake()
	}
}

// applyConfig makes all parts work by the agreed configuration. The agent and the guard's feeding read it themselves.
func (n *Node) applyConfig(ctx context.Context) error {
	c := n.agreed.get()
	err := n.router.SetLimits(routerLimits(c))
	n.api.SetStale(time.Duration(c.Lease))
	n.outward.Set(outwardOf(c.Notify))
	if n.pg == nil {
		return err
	}
	return errors.Join(err, n.applyPostgres(ctx))
}

// keepSlots has a slot for every other data member here, and on a standby moves each on to where that member is, so
// that after a promotion nothing a sibling needs has been recycled, and nothing more than that is kept.
func (n *Node) keepSlots(ctx context.Context) {
	v := n.view.Load()
	if n.pg == nil || v == nil || v.State == nil || v.State.Phase != cluster.Reigning || !v.Postgres.Up {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var others []string
	to := map[string]cluster.LSN{}
	for _, name := range n.dataMembers() {
		if name == n.cfg.Name {
			continue
		}
		others = append(others, name)
		if b := v.Peers[name].Beat; b.Replayed > 0 {
			to[name] = min(b.Replayed, v.Postgres.Replayed)
		} else if name == v.State.Primary {
			to[name] = v.Postgres.Replayed
		}
	}
	if err := n.pg.EnsureSlots(ctx, others); err != nil {
		n.log.Warn("keep replication slots", "error", err)
		return
	}
	if v.Postgres.Recovery {
		if err := n.pg.AdvanceSlots(ctx, to); err != nil {
			n.log.Warn("advance replication slots", "error", err)
		}
	}
	n.dropSlots(ctx)
}

// moveLeader keeps etcd's leadership off the primary's host, so that losing that host does not cost an election of
// etcd's on top.
func (n *Node) moveLeader(ctx context.Context) {
	v := n.view.Load()
	if n.etcd == nil || v == nil || v.State == nil || v.State.Primary != n.cfg.Name || len(v.Members) < 3 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := n.etcd.leaveLeadership(ctx); err != nil {
		n.log.Debug("move etcd's leadership", "error", err)
	}
}

// boundLog keeps PostgreSQL's log from filling the disk.
func (n *Node) boundLog() {
	if n.pg == nil {
		return
	}
	if err := n.pg.BoundLog(); err != nil {
		n.log.Warn("keep house", "error", err)
	}
}

// kickHouse has the slots looked after now: PostgreSQL has just begun to answer.
func (n *Node) kickHouse() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// findLeader notes whose etcd leads, for the status too. It returns "" where that is not known.
func (n *Node) findLeader(ctx context.Context) string {
	if n.etcd == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	name, err := n.etcd.admin.Leader(ctx)
	if err != nil {
		return ""
	}
	n.leader.Store(&name)
	return name
}

func (n *Node) storeLeader() string {
	if p := n.leader.Load(); p != nil {
		return *p
	}
	return ""
}

func (n *Node) maintainStore(ctx context.Context) {
	if n.etcd == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := n.etcd.maintain(ctx); err != nil {
		n.log.Warn("maintain the store", "error", err)
	}
}

// readHistory refreshes what /history answers.
func (n *Node) readHistory(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	es, err := n.store.History(ctx)
	if err != nil {
		return // the one before stays; whether the store answers is told elsewhere
	}
	out := make([]api.Entry, 0, len(es))
	for _, e := range es {
		out = append(out, api.Entry(e))
	}
	complete(out)
	n.changes.count(out)
	n.entries.Store(&out)
}

// complete says who was primary before each term, which the one that writes the entry does not know, and tells a restart
// of the primary, which is a switchover to itself, by that.
func complete(entries []api.Entry) {
	for i := 1; i < len(entries); i++ {
		e, before := &entries[i], entries[i-1].Primary
		if e.Old == "" {
			e.Old = before
		}
		if e.Kind == "switchover" && e.Old == e.Primary {
			e.Kind = "restart"
		}
	}
}

func (n *Node) history() []api.Entry {
	if h := n.entries.Load(); h != nil {
		return *h
	}
	return nil
}
