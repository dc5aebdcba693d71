package node

import (
	"context"
	"fmt"

	"standfast/cluster"
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

// etcdFacts asks this member's own etcd.
func (n *Node) etcdFacts(ctx context.Context) (*facts.Etcd, error) {
	s, err := n.etcd.admin.Own(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask etcd: %w", err)
	}
	return &facts.Etcd{Size: s.Size, Quota: s.Quota, Alarms: s.Alarms, Learner: s.Learner, Leader: s.Leader}, nil
}
