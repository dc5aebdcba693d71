package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/postgres"
)

// receiverPace is how often replication clients are looked after. A failover finds their slots on the new primary as far on as
// they were at the last look, and what they have received since is not kept for them but is there all the same.
const receiverPace = 5 * time.Second

// receivers is what was seen of the replication clients at the last look.
type receivers struct {
	slots   []postgres.ClientSlot // on the primary
	lacking []string              // clients that could not go on with this member
}

func replicationClients(c config.Cluster) []postgres.ReplicationClient {
	out := make([]postgres.ReplicationClient, 0, len(c.PostgreSQL.ReplicationClients))
	for _, r := range c.PostgreSQL.ReplicationClients {
		out = append(out, postgres.ReplicationClient{Name: r.Name, Role: r.LoginRole()})
	}
	return out
}

// keepReceivers keeps the slots of those who receive WAL and are no members, and ends whoever receives under a member's name.
func (n *Node) keepReceivers(ctx context.Context) error {
	if n.pg == nil {
		return nil
	}
	look := time.NewTicker(receiverPace)
	defer look.Stop()
	said := ""
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-n.impostors:
			err = n.endImpostors(ctx)
		case <-look.C:
			err = n.lookAfterReceivers(ctx)
		}
		if err != nil && err.Error() != said && ctx.Err() == nil { // the same thing is said once
			said = err.Error()
			n.log.Warn("replication clients", "error", err)
		}
	}
}

func (n *Node) lookAfterReceivers(ctx context.Context) error {
	v, primary := n.reigning()
	if v == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	var r receivers
	var err error
	if primary {
		var dropped []string
		r.slots, dropped, err = n.pg.KeepClientSlots(ctx)
		if len(dropped) > 0 {
			n.log.Error("PostgreSQL gave up the WAL of replication clients that had not received for long (max_slot_wal_keep_size); their slots begin anew, take a base backup for them",
				"clients", dropped)
		}
	} else if i := slices.IndexFunc(v.Members, func(m cluster.Member) bool { return m.Name == v.State.Primary }); i >= 0 {
		var from postgres.Source
		if from, err = postgres.ParseSource(v.Members[i].Postgres); err == nil {
			r.slots, r.lacking, err = n.pg.FollowClientSlots(ctx, from)
		}
	}
	if err == nil {
		n.receivers.Store(&r)
	}
	return err
}

// lookForImpostors has them ended if the agent's last look at PostgreSQL, which is twice a second at least, has seen any.
func (n *Node) lookForImpostors() {
	if n.agent == nil || !n.agent.Observation().Impostors {
		return
	}
	select {
	case n.impostors <- struct{}{}:
	default:
	}
}

func (n *Node) endImpostors(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	roles, err := n.pg.EndImpostors(ctx)
	if len(roles) > 0 {
		n.log.Error("ended WAL senders that bore a member's name and were not the member's: PostgreSQL counts them as the member; have them use an application_name of their own",
			"roles", roles)
	}
	return err
}

// receiverStatus tells of the replication clients, and what is unusual about them.
func (n *Node) receiverStatus() (out []api.ReplicationClient, warnings []string) {
	r := n.receivers.Load()
	if r == nil {
		return nil, nil
	}
	for _, s := range r.slots {
		out = append(out, api.ReplicationClient{Name: s.Name, Receiving: s.Active, From: s.Restart, Held: s.Held, WALStatus: s.Status})
		if s.Status == "unreserved" || s.Status == "lost" {
			warnings = append(warnings, fmt.Sprintf("the replication client %s has fallen so far behind that PostgreSQL gives up its WAL (max_slot_wal_keep_size): have it receive now, or take a new base backup for it", s.Name))
		}
	}
	for _, name := range r.lacking {
		warnings = append(warnings, fmt.Sprintf("%s does not have all the WAL that the replication client %s has yet to receive: were it the primary, %s could not go on without a new base backup; that passes once it has received more", n.cfg.Name, name, name))
	}
	return out, warnings
}
