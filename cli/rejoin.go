package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/ops"
	"standfast/packaging"
	"standfast/recovery"
)

type nodeRejoinCmd struct {
	DryRun bool `help:"Say what would be done, change nothing." name:"dry-run"`
}

func (nodeRejoinCmd) Help() string {
	return `For a host that comes back after the cluster was founded anew without it (standfast recover): makes it a member of the new cluster, as root, on that host. What PostgreSQL has here is moved into a directory beside, never erased, and the data is copied from the primary: the disk needs room for both.

Examples:

    sudo standfast node rejoin --dry-run
    sudo standfast node rejoin`
}

func (c *nodeRejoinCmd) Run(a *app) error {
	path, err := a.file()
	if err != nil {
		return err
	}
	n, err := a.node()
	if err != nil {
		return err
	}
	over, members, err := c.find(a.ctx, n)
	if err != nil {
		return err
	}
	suffix := fmt.Sprintf(".before-%d", over.Epoch)
	fmt.Fprintf(a.stdout, "%s becomes a member beside %s; what is in %s is kept in %s\n", n.Name, names(members), n.Postgres.DataDir, n.Postgres.DataDir+suffix)
	if c.DryRun {
		_, err := fmt.Fprintln(a.stdout, "nothing was changed")
		return err
	}
	if over.Text != "" {
		over.Rejoin = true
		if err := over.Save(n.StateDir); err != nil {
			return owned(err)
		}
	}
	if err := rewriteMembers(path, over.Epoch, append(slices.Clone(members), n.Self()), true); err != nil {
		return owned(err)
	}
	marks, _ := filepath.Glob(filepath.Join(n.StateDir, "over.json")) // the pattern is sound
	if err := give(n.Postgres.RunAs, append(marks, path)...); err != nil {
		return err
	}
	if isService(a.ctx) == nil && path == config.DefaultPath {
		if err := systemctl(a.ctx, "restart", packaging.Unit); err != nil {
			return err
		}
	} else {
		runNext(a, filepath.Dir(path), n)
	}
	next := n
	next.Members = members
	cl, err := ops.Connect(next)
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	err = cl.AddMember(a.ctx, api.AddMemberRequest{Member: n.Member()}, s.show)
	s.end()
	if err != nil {
		return fmt.Errorf("%w; once that is mended: standfast node rejoin again", err)
	}
	_, err = fmt.Fprintf(a.stdout, "%s is a member, and is cloned from the primary: see standfast status\n", n.Name)
	return err
}

// find returns what this host was told, and the members of the new cluster, from whichever of those that this host knows has them.
func (c *nodeRejoinCmd) find(ctx context.Context, n config.Node) (recovery.Over, []config.Member, error) {
	over, err := recovery.LoadOver(n.StateDir)
	begun := n.Join && errors.Is(err, recovery.ErrNothing) // a run before has begun it
	switch {
	case errors.Is(err, recovery.ErrNothing) && !begun:
		return over, nil, &coded{Unsafe, fmt.Errorf("%s has not been told that its cluster was founded anew: start it, and see standfast status here; a host that is no member is taken in by standfast node add", n.Name)}
	case err != nil && !begun:
		return over, nil, owned(err)
	}
	cl, err := ops.Connect(n)
	if err != nil {
		return over, nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var found []config.Member
	for _, r := range cl.Statuses(ctx) {
		if r.Err != nil || r.Status.Self == n.Name || r.Status.Term == 0 || r.Status.Epoch < max(over.Epoch, 1) {
			continue
		}
		over.Epoch = max(over.Epoch, r.Status.Epoch)
		found = nil
		for _, m := range r.Status.Members {
			if m.Name != n.Name {
				found = append(found, fileMember(m.Member))
			}
		}
	}
	if len(found) == 0 {
		return over, nil, &coded{Unreachable, fmt.Errorf("no member of the new cluster answers at the addresses that this host knows: is %s reachable from here?", names(n.Members))}
	}
	return over, found, nil
}

// fileMember is a member as a member's file names it.
func fileMember(m cluster.Member) config.Member {
	host := func(at string) string { h, _, _ := net.SplitHostPort(at); return h }
	port := func(at string) int {
		_, p, _ := net.SplitHostPort(at)
		v, _ := strconv.Atoi(p)
		return v
	}
	priority := m.Priority
	out := config.Member{Name: m.Name, Address: host(m.Beat), Kind: m.Kind, Location: m.Location, Ports: config.Ports{
		Postgres: port(m.Postgres), Write: port(m.Write), Read: port(m.Read), Health: port(m.API), Admin: port(m.Admin),
		Beat: port(m.Beat), EtcdClient: port(m.Etcd), EtcdPeer: port(m.EtcdPeer),
	}}
	if m.Kind == cluster.Data {
		out.Priority = &priority
	}
	return out
}

func names(members []config.Member) string {
	var out string
	for i, m := range members {
		if i > 0 {
			out += ", "
		}
		out += m.Name
	}
	return out
}
