// Package rig is a playground to do harm in: it starts one from a freshly built binary, strikes single processes or whole
// nodes, waits with a deadline until the cluster is as it should be, and keeps the logs when it is not. The system tests and
// the benchmarks share it.
package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/api/client"
	"standfast/playground"
)

// Rig is a playground that runs.
type Rig struct {
	*playground.Playground
	Nodes []*Node // by name
	dir   string
}

// Node is one member with all its processes.
type Node struct{ *playground.Host }

// floatingVar moves the playground to other addresses of 127.0.0.0/8, to run beside one that has the usual ones.
const floatingVar = "STANDFAST_RIG_FLOATING"

// Floating is the address at which a rig's own begin, unless it is told another.
func Floating() string { return cmp.Or(os.Getenv(floatingVar), "127.0.0.10") }

// Start runs a playground of the binary in a fresh directory, with more settings of the members' files ("key=value").
func Start(ctx context.Context, binary string, settings ...string) (*Rig, error) {
	return Found(ctx, playground.Config{Binary: binary, Settings: settings})
}

// Found runs a playground of another shape; the directory is the rig's, and the addresses are if none is given.
func Found(ctx context.Context, cfg playground.Config) (*Rig, error) {
	dir, err := os.MkdirTemp("", "standfast-rig-")
	if err != nil {
		return nil, err
	}
	r := &Rig{dir: dir}
	cfg.Dir, cfg.Floating = filepath.Join(dir, "p"), cmp.Or(cfg.Floating, Floating())
	cfg.Keep = true // the logs outlive the run; Stop removes all
	r.Playground, err = playground.Start(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, r.keepLogs(), os.RemoveAll(dir))
	}
	for _, h := range r.Hosts {
		r.Nodes = append(r.Nodes, &Node{h})
	}
	return r, nil
}

// Stop ends everything and removes it, but for the logs if they are wanted.
func (r *Rig) Stop(logs bool) error {
	for _, n := range r.Nodes {
		n.Thaw()
	}
	err := r.Playground.Stop()
	if logs {
		err = errors.Join(err, r.keepLogs())
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// keepLogs copies what the members and their servers wrote beside the directory, and says where.
func (r *Rig) keepLogs() error {
	to, err := os.MkdirTemp("", "standfast-logs-")
	if err != nil {
		return err
	}
	for _, pattern := range []string{"p/*/*.log", "p/*/state/log/*.log"} {
		logs, _ := filepath.Glob(filepath.Join(r.dir, pattern)) // the pattern is sound
		for _, log := range logs {
			rel, _ := filepath.Rel(filepath.Join(r.dir, "p"), log) // it lies below
			b, err := os.ReadFile(log)
			if err == nil {
				err = os.WriteFile(filepath.Join(to, strings.ReplaceAll(rel, "/", "-")), b, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the logs are in %s", to)
}

// Node finds one by its name.
func (r *Rig) Node(name string) *Node {
	for _, n := range r.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// DataNodes are the nodes that hold data.
func (r *Rig) DataNodes() []*Node {
	return slices.DeleteFunc(slices.Clone(r.Nodes), func(n *Node) bool { return n.Witness })
}

// Others are all nodes but the given ones.
func (r *Rig) Others(not ...*Node) []*Node {
	return slices.DeleteFunc(slices.Clone(r.Nodes), func(n *Node) bool { return slices.Contains(not, n) })
}

// Condition looks at what every member says and returns what is missing yet, "" if nothing.
type Condition func(all map[string]*api.Status) string

// Await looks again and again until the condition holds or ctx ends; the error tells what was missing last.
func (r *Rig) Await(ctx context.Context, what string, c Condition) error {
	return Await(ctx, r.Client().Client, what, c)
}

// Await is that of any cluster.
func Await(ctx context.Context, cl *client.Client, what string, c Condition) error {
	began := time.Now()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	missing, seen := "no look yet", ""
	for {
		replies := cl.Statuses(ctx)
		if ctx.Err() == nil { // what was cut short says nothing
			if missing = c(byMember(replies)); missing == "" {
				return nil
			}
			seen = Describe(replies)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w after %.1f s: %s\n%s", what, context.Cause(ctx), time.Since(began).Seconds(), missing, seen)
		case <-tick.C:
		}
	}
}

func byMember(replies []client.Reply) map[string]*api.Status {
	all := map[string]*api.Status{}
	for _, reply := range replies {
		if reply.Err == nil {
			all[reply.Status.Self] = reply.Status
		}
	}
	return all
}

// Whole is the condition that every node answers and they agree: one primary that takes writes, and all others attached to it,
// readable and in the commit rule. A node that was frozen answers at first with what it saw before, hence everybody.
func (r *Rig) Whole(all map[string]*api.Status) string {
	var names []string
	for _, n := range r.Nodes {
		names = append(names, n.Name)
	}
	return WholeOf(names)(all)
}

// WholeOf is the condition Whole of the members of these names.
func WholeOf(names []string) Condition {
	return func(all map[string]*api.Status) string {
		var newest *api.Status
		for _, n := range names {
			st := all[n]
			if st == nil {
				return n + " does not answer"
			}
			if newest == nil || st.Term > newest.Term {
				newest = st
			}
		}
		for _, n := range names {
			switch st := all[n]; {
			case st.Term != newest.Term || st.Primary != newest.Primary:
				return fmt.Sprintf("%s is in term %d of %s, others in term %d of %s", n, st.Term, st.Primary, newest.Term, newest.Primary)
			case !st.Store.OK:
				return n + " does not reach the store"
			}
		}
		return lacking(all[newest.Primary], all)
	}
}

// lacking asks the primary about everybody, and the others about themselves.
func lacking(st *api.Status, all map[string]*api.Status) string {
	if st == nil || st.Me() == nil || !st.Me().Writable {
		return "no primary takes writes"
	}
	for _, m := range st.Members {
		me := all[m.Name].Me()
		switch {
		case m.Name == st.Primary, m.Role == api.Witness && m.State == api.Watching:
		case me == nil:
			return m.Name + " is not a member by its own account"
		case !m.InRule || !m.Readable || !m.Attached || !me.Attached || me.State != api.Running:
			return fmt.Sprintf("%s is %s (in the rule: %v, readable: %v, attached: %v) %s", m.Name, me.State, m.InRule, m.Readable, me.Attached, me.Note)
		}
	}
	return ""
}

// Reigns is the condition that a primary takes writes in a term above the given one, by its own account.
func Reigns(above uint64) Condition {
	return func(all map[string]*api.Status) string {
		for name, st := range all {
			if uint64(st.Term) > above && st.Primary == name && st.Me() != nil && st.Me().Writable {
				return ""
			}
		}
		return fmt.Sprintf("no primary in a term above %d takes writes", above)
	}
}

// Describe puts each member's account of itself on a line.
func Describe(replies []client.Reply) string {
	var b strings.Builder
	for _, reply := range replies {
		if reply.Err != nil {
			fmt.Fprintf(&b, "  %v\n", reply.Err)
			continue
		}
		st := reply.Status
		fmt.Fprintf(&b, "  %s: term %d %s, primary %q, store %v", st.Self, st.Term, st.Phase, st.Primary, st.Store.OK)
		if me := st.Me(); me != nil {
			fmt.Fprintf(&b, "; %s %s, timeline %d, attached %v, in the rule %v, %s", me.Role, me.State, me.Timeline, me.Attached, me.InRule, me.Note)
		}
		fmt.Fprintf(&b, "; %s\n", strings.Join(st.Warnings, " | "))
	}
	return b.String()
}

// AwaitWhole waits until the cluster is whole and returns its primary and term.
func (r *Rig) AwaitWhole(ctx context.Context, within time.Duration) (*Node, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var primary string
	var term uint64
	err := r.Await(ctx, "the cluster is whole", func(all map[string]*api.Status) string {
		missing := r.Whole(all)
		if missing == "" {
			st := all[r.Nodes[0].Name]
			primary, term = st.Primary, uint64(st.Term)
		}
		return missing
	})
	return r.Node(primary), term, err
}

// AwaitReign waits until a primary takes writes in a term above the given one.
func (r *Rig) AwaitReign(ctx context.Context, above uint64, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return r.Await(ctx, "a new primary reigns", Reigns(above))
}

// WriteThrough leads to the primary through the node's own router, ReadThrough to a standby.
func (r *Rig) WriteThrough(n *Node) string { return r.DSN(n.Address, r.Ports().Write) }

// ReadThrough leads to a standby through the node's own router.
func (r *Rig) ReadThrough(n *Node) string { return r.DSN(n.Address, r.Ports().Read) }
