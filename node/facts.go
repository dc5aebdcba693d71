package node

import (
	"context"
	"fmt"

	"standfast/cluster"
	"standfast/doctor/dossier"
	"standfast/doctor/facts"
	"standfast/doctor/gather"
)

// examiner finds out how this host and its PostgreSQL are, when an operator asks. It works beside the agent: it uses sessions of its own
// and waits for nothing that the agent holds.
func (n *Node) examiner() *gather.Gatherer {
	c := gather.Config{
		Node: n.cfg, Version: n.version, Members: func() []cluster.Member { return *n.members.Load() },
		Watchdog: func() string { return n.guard.watchdog() },
	}
	if n.pg != nil {
		c.Inspect, c.Probe = n.pg.Inspect, n.pg.WriteProbe
	}
	if n.etcd != nil {
		c.Etcd = n.etcdFacts
	}
	return gather.New(c)
}

// Told says where the member's file lies and how its own last lines are read, for supporters. It must come before Run.
func (n *Node) Told(file string, log func() string) { n.file, n.lastLines = file, log }

// dossier is what this host gives to a supporter.
func (n *Node) dossier(ctx context.Context) any {
	return dossier.Host{Node: n.cfg, File: n.file, Version: n.version, Log: n.lastLines}.Collect(ctx)
}

// etcdFacts asks this member's own etcd.
func (n *Node) etcdFacts(ctx context.Context) (*facts.Etcd, error) {
	s, err := n.etcd.admin.Own(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask etcd: %w", err)
	}
	return &facts.Etcd{Size: s.Size, Quota: s.Quota, Alarms: s.Alarms, Learner: s.Learner, Leader: s.Leader}, nil
}
