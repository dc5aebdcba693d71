package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/pgconf"
	"standfast/postgres"
)

// declared is what the cluster knows slots to be for.
type declared struct {
	members []string
	clients []config.ReplicationClient
	logical []config.Slot
	made    []string // slots that were made here for clients or logical subscribers, declared still or not
}

// purpose says what a slot is for, and whose it is. A member's name comes first: safety rests on these.
func (d declared) purpose(s postgres.ListedSlot) (api.SlotFor, string) {
	if i := slices.IndexFunc(d.members, func(m string) bool { return pgconf.SlotName(m) == s.Name }); i >= 0 {
		return api.ForMember, d.members[i]
	}
	logical := s.Type == "logical"
	switch {
	case s.Temporary:
		return api.ForSession, ""
	case !logical && slices.ContainsFunc(d.clients, func(r config.ReplicationClient) bool { return r.Name == s.Name }):
		return api.ForClient, s.Name
	case logical && slices.ContainsFunc(d.logical, func(l config.Slot) bool { return l.Name == s.Name }):
		return api.ForLogical, s.Name
	case s.Synced:
		return api.ForCopy, ""
	case slices.Contains(d.made, s.Name):
		return api.ForNobody, ""
	}
	return api.ForStrangers, ""
}

// notDropped says why a slot is not for an operator to drop; nil: it is a stranger's.
func notDropped(s api.Slot) error {
	why := ""
	switch s.For {
	case api.ForStrangers:
		if !s.Active {
			return nil
		}
		who := "somebody"
		if s.Client != "" {
			who = s.Client
		}
		why = who + " receives from it now: stop that first"
	case api.ForMember:
		why = fmt.Sprintf("it is the member %s's: WAL that it has yet to receive is kept by it; standfast node remove %s takes the member out, and the slot with it", s.Whose, s.Whose)
	case api.ForClient:
		why = "it is a declared replication client's: take the client out of postgresql.replication_clients (standfast config edit), and the slot goes by itself on every member"
	case api.ForLogical:
		why = "it is declared: take it out of postgresql.slots (standfast config edit), and it goes by itself on every member"
	case api.ForCopy:
		why = "it is PostgreSQL's copy of one on the primary: drop that, and this one goes with it"
	case api.ForNobody:
		why = "it was declared once and goes by itself within seconds, as soon as nobody receives from it"
	case api.ForSession:
		why = "it is temporary and goes with the session that made it"
	}
	return api.Errorf(api.Conflict, "the slot %s on %s is not dropped: %s", s.Name, s.Member, why)
}

// slotLister lists this member's slots for operators; nil on a witness.
func (n *Node) slotLister() func(context.Context) ([]api.Slot, error) {
	if n.pg == nil {
		return nil
	}
	return func(ctx context.Context) ([]api.Slot, error) { return n.listSlots(ctx, n.agreed.get()) }
}

// listSlots tells of all slots here, by the configuration given.
func (n *Node) listSlots(ctx context.Context, c config.Cluster) ([]api.Slot, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	listed, err := n.pg.ListSlots(ctx)
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "PostgreSQL of %s does not tell its slots: %w", n.cfg.Name, err)
	}
	d, err := n.declared(ctx, c)
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "what the slots of %s were made for is not known: %w", n.cfg.Name, err)
	}
	out := make([]api.Slot, 0, len(listed))
	for _, l := range listed {
		s := api.Slot{Member: n.cfg.Name, Name: l.Name, Kind: l.Type, Database: l.Database, Plugin: l.Plugin, Failover: l.Failover, Active: l.Active, Client: l.Client, From: l.Restart, Held: l.Held, Status: l.Status}
		s.For, s.Whose = d.purpose(l)
		out = append(out, s)
	}
	return out, nil
}

// declared gathers what slots may be for. Members are all that anybody here takes for one: by the store, and by the record that this member
// acts on.
func (n *Node) declared(ctx context.Context, c config.Cluster) (declared, error) {
	d := declared{clients: c.PostgreSQL.ReplicationClients, logical: c.PostgreSQL.Slots, members: []string{n.cfg.Name}}
	add := func(all []cluster.Member) {
		for _, m := range all {
			d.members = append(d.members, m.Name)
		}
	}
	add(*n.members.Load())
	if v := n.view.Load(); v != nil {
		add(v.Members)
		if v.State != nil {
			d.members = append(append(d.members, v.State.Rule.Of...), v.State.Primary, v.State.Last)
		}
	}
	d.members = slices.DeleteFunc(d.members, func(m string) bool { return m == "" })
	clients, err := n.pg.MadeForClients()
	if err != nil {
		return d, err
	}
	logical, err := n.pg.MadeLogical(ctx)
	d.made = append(clients, logical...)
	return d, err
}

// DropSlot drops a stranger's slot on this member. What is declared is read anew from the store, so that what was declared a moment ago is not
// taken for a stranger's; without a majority nothing is dropped.
func (n *Node) DropSlot(ctx context.Context, r api.DropSlotRequest, progress func(api.Progress)) error {
	if err := n.concernsMe(r.Member); err != nil {
		return err
	}
	if n.pg == nil {
		return api.Errorf(api.NotFound, "%s is a witness and holds no data", n.cfg.Name)
	}
	kv, err := n.readConfig(ctx)
	if err != nil {
		return err
	}
	c, err := config.ParseCluster("the agreed configuration", kv.Value)
	if err != nil {
		return err
	}
	slots, err := n.listSlots(ctx, c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(slots, func(s api.Slot) bool { return s.Name == r.Name })
	if i < 0 {
		return api.Errorf(api.NotFound, "there is no slot %s on %s; standfast slots lists all", r.Name, n.cfg.Name)
	}
	s := slots[i]
	if err := notDropped(s); err != nil {
		return err
	}
	if r.DryRun {
		progress(api.Progress{Member: n.cfg.Name, Step: "dry run", Text: fmt.Sprintf("the slot %s on %s would be dropped, and %d bytes of WAL would be kept for it no longer; whoever received from it would have to begin anew", s.Name, s.Member, s.Held), Bytes: s.Held})
		return nil
	}
	if err := n.pg.DropStranger(ctx, s.Name); errors.Is(err, postgres.ErrSlotInUse) {
		s.Active = true
		return notDropped(s)
	} else if err != nil {
		return err
	}
	progress(api.Progress{Member: n.cfg.Name, Step: "dropped", Text: fmt.Sprintf("the slot %s on %s is dropped", s.Name, s.Member)})
	return nil
}
