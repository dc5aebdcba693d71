package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"standfast/cluster"
	"standfast/postgres"
)

// listed reports whether this host is among the cluster's members, as far as is known here. Before the store has answered it is,
// by its own file.
func (n *Node) listed() bool { return lists(*n.members.Load(), n.cfg.Name) }

func lists(members []cluster.Member, name string) bool {
	return slices.ContainsFunc(members, func(m cluster.Member) bool { return m.Name == name })
}

// stopOut bounds how long a server that is nobody's standby may take to stop.
const stopOut = 30 * time.Second

// stayOut stops the server of a host that was removed. It follows nobody and nobody counts on it, but whoever still connects to it
// would read what gets older. A primary is none of its business: one that is deposed was ended by the agent, and one that reigns is a
// member.
func (n *Node) stayOut(ctx context.Context) {
	v := n.view.Load()
	if n.pg == nil || n.listed() || v == nil || v.State == nil || v.State.Primary == n.cfg.Name || v.Doing != nil || !v.Postgres.Running || !v.Postgres.Recovery {
		return
	}
	n.log.Warn("this host was removed from the cluster: its PostgreSQL stops; its data stays as it is", "data", n.cfg.Postgres.DataDir)
	ctx, cancel := context.WithTimeout(ctx, stopOut)
	defer cancel()
	if err := n.pg.Stop(ctx, postgres.Fast); err != nil {
		n.log.Warn("stop PostgreSQL on a removed host", "error", err)
	}
}

// outside says, on a host that is not a member, why it stays out and what to do; "" on a member.
func (n *Node) outside(v cluster.View) string {
	if v.State == nil || len(v.Members) == 0 || lists(v.Members, n.cfg.Name) {
		return ""
	}
	const in = "standfast node add, on the machine that the cluster was deployed from, takes it in"
	if v.Promised == 0 {
		return fmt.Sprintf("%s is not a member of this cluster yet: %s", n.cfg.Name, in)
	}
	return fmt.Sprintf("%s was removed from this cluster and stays out: its PostgreSQL is not run, its data is in %s; to end this service: standfast node stop, then systemctl disable standfast; %s again", n.cfg.Name, n.cfg.Postgres.DataDir, in)
}

// noteDeparted remembers the data members that have gone since.
func (n *Node) noteDeparted(before []cluster.Member) {
	if n.departed == nil {
		n.departed = map[string]bool{}
	}
	for _, m := range before {
		if m.Kind == cluster.Data {
			n.departed[m.Name] = true
		}
	}
	for _, m := range *n.members.Load() {
		delete(n.departed, m.Name)
	}
}

// dropSlots takes away the slots of members that have gone: they would keep WAL for nobody.
func (n *Node) dropSlots(ctx context.Context) {
	for name := range n.departed {
		if name == n.cfg.Name {
			continue
		}
		if err := n.pg.DropSlot(ctx, name); err != nil {
			n.log.Warn("take away the slot of a member that has gone", "member", name, "error", err)
			continue
		}
		delete(n.departed, name)
	}
}
