package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/store"
)

// RemoveMember takes a member out. First nothing may rely on what it holds: it is no candidate any more, and the commit rule does
// without it, proven by the flushes of others (decide/rule.go). Then its vote in etcd goes, and last its record, and with it its vote
// among the members. Asked again after an interruption, it goes on.
func (n *Node) RemoveMember(ctx context.Context, r api.RemoveMemberRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	m, err := n.toRemove(ctx, r.Name)
	if err != nil {
		return err
	}
	if m.Name == "" && slices.ContainsFunc(n.formers(), func(f cluster.Member) bool { return f.Name == r.Name }) {
		return n.forgetFormer(ctx, r, progress)
	}
	if m.Name == "" {
		progress(api.Progress{Step: api.StepNothing, Text: r.Name + " is not a member"})
		return nil
	}
	if err := n.mayRemove(v, m.Name); err != nil {
		return err
	}
	if left := len(without(v.Members, m.Name)); left == 2 {
		progress(api.Progress{Step: "warning", Text: "of the two members that are left neither may fail: writing stops then"})
	}
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: fmt.Sprintf("%s would be removed; %s stay", m.Name, strings.Join(without(v.Members, m.Name), ", "))})
		return nil
	}
	ch, err := n.beginChange(ctx, store.Removing, m, r.Operator)
	if err != nil {
		return err
	}
	if err := n.release(ctx, m, progress); err != nil {
		return errors.Join(err, n.takeBack(ctx, ch))
	}
	if err := n.strike(ctx, m, progress); err != nil {
		return err
	}
	if err := n.changeHBA(ctx, nil, r.HBA); err != nil {
		return err
	}
	if err := n.endChange(ctx, ch, "left", m.Name+" was removed"); err != nil {
		return err
	}
	progress(api.Progress{Member: m.Name, Step: "removed", Text: m.Name + " is no member any more"})
	return nil
}

// toRemove finds the member by its record, or by a change that was begun and not ended; none: its name is empty.
func (n *Node) toRemove(ctx context.Context, name string) (cluster.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	all, err := n.store.Members(ctx)
	if err != nil {
		return cluster.Member{}, n.noMajority("read the members", err)
	}
	for _, m := range all {
		if m.Name == name {
			return m, nil
		}
	}
	ch, err := n.store.Change(ctx)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && ch.Member.Name != name:
		return cluster.Member{}, nil
	case err != nil:
		return cluster.Member{}, n.noMajority("look for a change of the members", err)
	}
	return ch.Member, nil
}

func without(members []cluster.Member, name string) []string {
	var out []string
	for _, m := range members {
		if m.Name != name {
			out = append(out, m.Name)
		}
	}
	return out
}

// mayRemove gives the reasons against removing a member.
func (n *Node) mayRemove(v cluster.View, name string) error {
	s, left := v.State, without(v.Members, name)
	switch {
	case name == n.cfg.Name:
		return api.Errorf(api.Conflict, "%s can't carry out its own removal: ask another member", name)
	case s.Phase != cluster.Reigning:
		return api.Errorf(api.Conflict, "term %d is still %s: wait until a primary reigns", s.Term, s.Phase)
	case s.Primary == name:
		return api.Errorf(api.Conflict, "%s is the primary: hand its role over first (standfast switchover), or have that done with standfast node remove --switchover %s", name, name)
	case v.Request != nil && v.Request.To == name:
		return api.Errorf(api.Conflict, "a %s to %s is asked for: wait for its end", v.Request.Kind, name)
	}
	silent := slices.DeleteFunc(slices.Clone(left), func(o string) bool { return hears(v, o) })
	if heard := len(left) - len(silent); heard < len(left)/2+1 {
		return api.Errorf(api.Conflict, "without %s there are %s, of which more than half have to run, and %s is not heard from: bring it back first", name, strings.Join(left, ", "), strings.Join(silent, ", "))
	}
	return enoughCopies(v, name)
}

// enoughCopies refuses what would leave commits waiting for copies that are not to be had.
func enoughCopies(v cluster.View, name string) error {
	set := v.Settings
	if set.Durability == cluster.Async || set.AllowSingleCopy {
		return nil
	}
	var follow []string
	for _, m := range v.Members {
		attached := v.Peers[m.Name].Beat.Attached
		if m.Name == v.Self {
			attached = v.Relay.Term
		}
		if m.Name != name && m.Name != v.State.Primary && m.Electable() && hears(v, m.Name) && attached == v.State.Term {
			follow = append(follow, m.Name)
		}
	}
	if len(follow) < set.Copies {
		who := "nobody"
		if len(follow) > 0 {
			who = strings.Join(follow, ", ")
		}
		return api.Errorf(api.Conflict, "each commit waits for %d copies beside the primary's, and without %s only %s could hold one: add a member first, or ask for fewer copies (standfast config set copies=…)", set.Copies, name, who)
	}
	return nil
}

// release brings the commit rule to do without the member. In the end the record is written anew as it stands: whoever still knows
// the member as a candidate knows an older record, and can't take it into the rule again over this one.
func (n *Node) release(ctx context.Context, m cluster.Member, progress func(api.Progress)) error {
	err := n.within(ctx, "mark the member as leaving", func(ctx context.Context) error {
		err := n.store.AlterMember(ctx, m.Name, func(m *cluster.Member) bool {
			was := m.Leaving
			m.Leaving = true
			return !was
		})
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	progress(api.Progress{Member: m.Name, Step: "leaving", Text: m.Name + " is no candidate any more; the commit rule comes to do without it"})
	for end := time.Now().Add(leaveTime); ; {
		why, err := n.released(ctx, m.Name)
		switch {
		case why == "" && err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Now().After(end):
			return errors.Join(api.Errorf(api.Conflict, "%s is not removed: after %s %s", m.Name, leaveTime, why), err)
		}
		select {
		case <-ctx.Done():
		case <-n.viewChanged.wait():
		case <-time.After(time.Second):
		}
	}
}

// released says what keeps the member from being let go; "": nothing.
func (n *Node) released(ctx context.Context, name string) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	s, err := n.store.State(ctx)
	switch {
	case err != nil:
		return "the store does not answer", n.noMajority("read the agreed record", err)
	case s.Phase != cluster.Reigning:
		return fmt.Sprintf("term %d is %s", s.Term, s.Phase), nil
	case s.Primary == name || s.Last == name:
		return name + " is the primary", nil
	case s.Rule.Has(name):
		return fmt.Sprintf("acknowledged commits still count on it (%s)", s.Rule), nil
	}
	if _, err := n.store.WriteState(ctx, s); err != nil {
		return "the agreed record changes", nil // or that is not known; looked at again in either case
	}
	return "", nil
}

// takeBack makes a member that can't be let go one like the others again.
func (n *Node) takeBack(ctx context.Context, ch store.Change) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	err := n.store.AlterMember(ctx, ch.Member.Name, func(m *cluster.Member) bool {
		was := m.Leaving
		m.Leaving = false
		return was
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return n.noMajority("take the removal back (ask for it again, or add the member again)", err)
	}
	if err := n.store.EndChange(ctx, ch); err != nil {
		return n.noMajority("take the removal back (ask for it again, or add the member again)", err)
	}
	return nil
}

// strike takes the member's votes away: in etcd, then among the members.
func (n *Node) strike(ctx context.Context, m cluster.Member, progress func(api.Progress)) error {
	if n.etcd != nil {
		err := n.patiently(ctx, settleTime, func(ctx context.Context) error {
			if _, err := n.etcd.admin.MoveLeaderAway(ctx, m.Name); err != nil {
				n.log.Debug("move etcd's leadership", "error", err) // then its removal brings an election of etcd's
			}
			return n.etcd.admin.Remove(ctx, "https://"+m.EtcdPeer)
		})
		if err != nil {
			return n.noChange("take "+m.Name+" out of etcd", err)
		}
		progress(api.Progress{Member: m.Name, Step: "etcd", Text: m.Name + " has no vote in etcd any more"})
	}
	return n.within(ctx, "remove the member", func(ctx context.Context) error { return n.store.DeleteMember(ctx, m.Name) })
}
