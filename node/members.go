package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/store"
	"standfast/store/embed"
)

// How long the steps of a change of the members may take.
const (
	settleTime = 30 * time.Second // etcd accepts no change before its members have been connected for five seconds
	joinTime   = 5 * time.Minute  // for the new host's etcd to start and to catch up
	leaveTime  = time.Minute      // for the commit rule to do without a member
)

// AddMember takes a host in. Its etcd comes first, without a vote until it has everything; then, by its record, its vote and its beats
// count, and the primary's commit rule takes it in when it streams, by the joint rule as ever (decide/rule.go).
func (n *Node) AddMember(ctx context.Context, r api.AddMemberRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	m := r.Member
	m.Leaving = false
	there, err := n.mayAdd(v, m)
	if err != nil {
		return err
	}
	if there = there && !n.changing(ctx, m.Name); there {
		progress(api.Progress{Step: api.StepNothing, Text: m.Name + " is a member already"})
		return nil
	}
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: fmt.Sprintf("%s would be added: more than half of %d members is %d then", m.Name, len(v.Members)+1, (len(v.Members)+1)/2+1)})
		return nil
	}
	ch, err := n.beginChange(ctx, store.Adding, m, r.Operator)
	if err != nil {
		return err
	}
	if n.etcd != nil {
		if err := n.enrol(ctx, m, progress); err != nil {
			return err
		}
	}
	if err := n.changeHBA(ctx, r.HBA, nil); err != nil {
		return err
	}
	err = n.within(ctx, "write the member", func(ctx context.Context) error {
		return errors.Join(n.store.PutMember(ctx, m), n.store.DeleteFormer(ctx, m.Name))
	})
	if err != nil {
		return err
	}
	if err := n.endChange(ctx, ch, "joined", m.Name+" was added"); err != nil {
		return err
	}
	progress(api.Progress{Member: m.Name, Step: "added", Text: m.Name + " is a member"})
	return nil
}

// mayAdd gives the reasons against adding a member, and reports whether it is one already.
func (n *Node) mayAdd(v cluster.View, m cluster.Member) (there bool, err error) {
	if v.State.Phase != cluster.Reigning {
		return false, api.Errorf(api.Conflict, "term %d is still %s: wait until a primary reigns", v.State.Term, v.State.Phase)
	}
	pg := n.agreed.get().PostgreSQL
	taken := slices.ContainsFunc(pg.Slots, func(s config.Slot) bool { return s.Name == m.Name })
	if m.Kind == cluster.Data && (taken || pg.Collision([]string{m.Name}) != "") {
		return false, api.Errorf(api.Conflict, "%q is the name of a replication slot of the site's (postgresql.slots, postgresql.replication_clients), and a member's slot has the member's: choose another", m.Name)
	}
	for _, o := range v.Members {
		same := o.Name == m.Name
		switch {
		case same && (o.Beat != m.Beat || o.Kind != m.Kind):
			return false, api.Errorf(api.Conflict, "%s is a member at %s, kind %s: to have another host in its place, standfast node replace %s", o.Name, o.Beat, o.Kind, o.Name)
		case !same && o.Beat == m.Beat:
			return false, api.Errorf(api.Conflict, "%s is at %s already", o.Name, o.Beat)
		case !same && !hears(v, o.Name):
			return false, api.Errorf(api.Conflict, "%s is not heard from: bring it back first, or remove it (standfast node remove %s)", o.Name, o.Name)
		}
		there = there || same && !o.Leaving
	}
	return there, nil
}

// changing reports whether a change of the member was begun and has not ended, as far as can be told: if not, it is gone on with.
func (n *Node) changing(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	ch, err := n.store.Change(ctx)
	return err == nil && ch.Member.Name == name || err != nil && !errors.Is(err, store.ErrNotFound)
}

// hears reports whether a member is here or was heard within the detection time.
func hears(v cluster.View, name string) bool {
	p, ok := v.Peers[name]
	return name == v.Self || ok && p.Heard > 0 && v.Now-p.Heard < v.Settings.Detect
}

// enrol makes the new host's etcd a voting member.
func (n *Node) enrol(ctx context.Context, m cluster.Member, progress func(api.Progress)) error {
	url := "https://" + m.EtcdPeer
	err := n.patiently(ctx, settleTime, func(ctx context.Context) error {
		_, err := n.etcd.admin.AddLearner(ctx, m.Name, url)
		return err
	})
	if err != nil {
		return n.noChange("add "+m.Name+" to etcd", err)
	}
	progress(api.Progress{Member: m.Name, Step: "learner", Text: m.Name + " is in etcd, and has no vote before it has everything; waiting for it to start"})
	err = n.patiently(ctx, joinTime, func(ctx context.Context) error { return n.etcd.admin.PromoteLearner(ctx, url) })
	if errors.Is(err, embed.ErrNotInSync) {
		return api.Errorf(api.Unavailable, "the etcd of %s has not caught up within %s: does standfast run there, with join: true in its file, and does it reach the others? See journalctl -u standfast there; then ask again, or take it back with standfast node remove %s", m.Name, joinTime, m.Name)
	}
	if err != nil {
		return n.noChange("give "+m.Name+" a vote in etcd", err)
	}
	progress(api.Progress{Member: m.Name, Step: "voter", Text: "the etcd of " + m.Name + " votes"})
	return nil
}

// patiently repeats a call that may be repeated until it ends well or is given no more time: etcd's members are at odds for moments
// after each change, and while they elect.
func (n *Node) patiently(ctx context.Context, within time.Duration, call func(context.Context) error) error {
	end := time.Now().Add(within)
	for {
		one, cancel := context.WithTimeout(ctx, storeTime)
		err := call(one)
		cancel()
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// noChange says why etcd's members are not changed.
func (n *Node) noChange(what string, err error) error {
	if errors.Is(err, embed.ErrNotSettled) {
		return api.Errorf(api.Conflict, "%s: %w", what, err)
	}
	return n.noMajority(what, err)
}

// within bounds one call of the store, whose failure is told in the operator's words.
func (n *Node) within(ctx context.Context, what string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := call(ctx); err != nil {
		return n.noMajority(what, err)
	}
	return nil
}

// beginChange sees to it that no other member is added or removed at the same time.
func (n *Node) beginChange(ctx context.Context, kind store.ChangeKind, m cluster.Member, by string) (store.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	ch, err := n.store.BeginChange(ctx, store.Change{Kind: kind, Member: m, By: by, At: time.Now().UnixMilli()})
	switch {
	case errors.Is(err, store.ErrBusy):
		return ch, api.Errorf(api.Conflict, "%s is under way for %s (standfast node %s, asked by %s): one change at a time; wait for its end; if it was interrupted, ask for it again, or end it with standfast node remove %s", ch.Kind, ch.Member.Name, ch.Kind, ch.By, ch.Member.Name)
	case err != nil:
		return ch, n.noMajority("begin to change the members", err)
	}
	return ch, nil
}

func (n *Node) endChange(ctx context.Context, ch store.Change, kind, text string) error {
	return n.within(ctx, "end the change of the members", func(ctx context.Context) error {
		note := store.Note{At: time.Now().UnixMilli(), Member: n.cfg.Name, Kind: kind, About: ch.Member.Name, By: ch.By, Text: text}
		return errors.Join(n.store.EndChange(ctx, ch), n.store.PutNote(ctx, note))
	})
}

// changeHBA adds and takes away lines of pg_hba.conf. Where the site has none everybody who has a password may come, and it stays so.
func (n *Node) changeHBA(ctx context.Context, add, drop []string) error {
	for {
		kv, err := n.readConfig(ctx)
		if err != nil {
			return err
		}
		c, err := config.ParseCluster("configuration", kv.Value)
		if err != nil {
			return api.Errorf(api.Invalid, "%w", err)
		}
		lines := slices.DeleteFunc(slices.Clone(c.PostgreSQL.HBA), func(l string) bool { return slices.Contains(drop, l) })
		for _, l := range add {
			if len(c.PostgreSQL.HBA) > 0 && !slices.Contains(lines, l) {
				lines = append(lines, l)
			}
		}
		if slices.Equal(lines, c.PostgreSQL.HBA) {
			return nil
		}
		text, err := config.Set(kv.Value, "postgresql.hba", flowList(lines))
		if err != nil {
			return api.Errorf(api.Invalid, "%w", err)
		}
		switch err := n.putConfig(ctx, text, kv.Revision); {
		case err == nil:
			return nil
		case !errors.Is(err, store.ErrConflict):
			return n.noMajority("write the configuration", err)
		}
	}
}

// flowList is a list of texts in YAML's flow style.
func flowList(lines []string) string {
	quoted := make([]string, len(lines))
	for i, l := range lines {
		quoted[i] = strconv.Quote(l)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
