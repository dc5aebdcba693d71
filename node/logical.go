package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/postgres"
)

// Paces of what keeps logical replication going, and a bound on one round of it: a standby may restart in it.
const (
	decodingPace = time.Second     // members that subscribers wait for looked at
	logicalPace  = 5 * time.Second // logical slots made, copied and moved forward
	logicalBound = time.Minute
)

// slots are the logical slots that the cluster declares.
func slots(c config.Cluster) []postgres.Slot {
	out := make([]postgres.Slot, 0, len(c.PostgreSQL.Slots))
	for _, s := range c.PostgreSQL.Slots {
		out = append(out, postgres.Slot(s))
	}
	return out
}

// keepLogical keeps what logical subscribers rely on: slots on the primary and on standbys, and that nothing is sent to
// them before it is safe. It has a goroutine of its own, for it may restart this member's server.
func (n *Node) keepLogical(ctx context.Context) error {
	if n.pg == nil {
		return nil
	}
	decoding, logical := time.NewTicker(decodingPace), time.NewTicker(logicalPace)
	defer decoding.Stop()
	defer logical.Stop()
	said := ""
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-decoding.C:
			err = n.keepDecoding(ctx)
		case <-logical.C:
			err = n.keepLogicalSlots(ctx)
		}
		if err != nil && err.Error() != said && ctx.Err() == nil { // the same thing is said once
			said = err.Error()
			n.log.Warn("logical replication", "error", err)
		}
	}
}

// reigning is what this member saw last, if a primary reigns that has admitted clients or that this member is attached to.
func (n *Node) reigning() (v *cluster.View, primary bool) {
	v = n.view.Load()
	if v == nil || v.State == nil || v.State.Phase != cluster.Reigning || !v.Postgres.Up {
		return nil, false
	}
	primary = v.State.Primary == n.cfg.Name && !v.Postgres.Recovery && v.Admitted == v.State.Term
	attached := v.State.Primary != n.cfg.Name && v.Postgres.Recovery && v.Relay.Term == v.State.Term
	if !primary && !attached {
		return nil, false
	}
	return v, primary
}

func (n *Node) keepDecoding(ctx context.Context) error {
	if _, primary := n.reigning(); !primary {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return n.pg.KeepDecoding(ctx)
}

func (n *Node) keepLogicalSlots(ctx context.Context) error {
	v, primary := n.reigning()
	if !primary {
		n.lostSlots.Store(nil)
	}
	if v == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, logicalBound)
	defer cancel()
	if primary {
		err := n.pg.KeepLogicalSlots(ctx)
		n.noteLostSlots(err)
		return err
	}
	i := slices.IndexFunc(v.Members, func(m cluster.Member) bool { return m.Name == v.State.Primary })
	if i < 0 {
		return nil // it is leaving
	}
	from, err := postgres.ParseSource(v.Members[i].Postgres)
	if err != nil {
		return err
	}
	return n.pg.FollowLogicalSlots(ctx, postgres.Follow{
		From: from, K: v.State.Rule.K,
		Others:  slices.DeleteFunc(slices.Clone(v.State.Rule.Of), func(m string) bool { return m == n.cfg.Name }),
		Restart: func(ctx context.Context) error { return n.agent.Restart(ctx, "to load logical slots") },
	})
}

// slotsLost begins the note of a primary that does not have logical slots which its subscribers rely on.
const slotsLost = "logical slots lost: "

// noteLostSlots takes note of which logical slots a primary's look has found to be gone. A look that failed in another way
// tells nothing of them.
func (n *Node) noteLostSlots(err error) {
	var lost *postgres.SlotLostError
	switch {
	case errors.As(err, &lost):
		n.lostSlots.Store(&lost.Names)
	case err == nil:
		n.lostSlots.Store(nil)
	}
}

// slotNote tells every member of logical slots that are lost, by this one's note; "" if none are.
func (n *Node) slotNote() string {
	lost := n.lostSlots.Load()
	if lost == nil {
		return ""
	}
	return slotsLost + strings.Join(*lost, ", ")
}
