package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

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

// File says where the member's file lies, for supporters. It must come before Run.
func (n *Node) File(path string) { n.file = path }

// lastLogged is how many bytes of its own log a member gives to a supporter.
const lastLogged = 512 << 10

// lastLines is the end of what this member has logged since it was started.
func (n *Node) lastLines() string {
	lines, _ := n.lines.After(0)
	var out []string
	for size, i := 0, len(lines)-1; i >= 0 && size < lastLogged; i-- {
		l := lines[i]
		out = append(out, fmt.Sprintf("%s %-5s %s\n", l.At.UTC().Format("2006-01-02T15:04:05.000Z"), l.Level, l.Text))
		size += len(out[len(out)-1])
	}
	slices.Reverse(out)
	return strings.Join(out, "")
}

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
