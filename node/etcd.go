package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"standfast/store/embed"
)

// etcd is this member's own etcd: a child process, and the calls that maintain the cluster it is part of.
//
// A founder starts it with the list of founders. A member that was added later starts it only when etcd's other members have it on
// their list, and never have run it: with no data and no such place on the list it would vote as somebody who has forgotten what it
// has voted for. One that was removed stops it, and waits to be added again.
type etcd struct {
	node   *Node
	config string // path of the child's configuration
	conf   embed.Config
	admin  *embed.Admin
	others *embed.Admin // without this member's own; nil: there are none
	waits  bool         // it is started only when the others have it on their list
}

// placePace is how often the others are asked for this member's place.
const placePace = time.Second

// open prepares the calls, and decides whether the process may be started at once. This member's endpoint is the first.
func (e *etcd) open(endpoints []string) (err error) {
	if e.admin, err = embed.NewAdmin(e.node.tls.client, endpoints...); err != nil {
		return err
	}
	if len(endpoints) > 1 {
		if e.others, err = embed.NewAdmin(e.node.tls.client, endpoints[1:]...); err != nil {
			return err
		}
	}
	if !e.node.cfg.Join {
		return e.conf.Save(e.config)
	}
	if e.others == nil {
		return errors.New("join: true in the member's file, and it names no other member: list those of the cluster under members")
	}
	if was, err := embed.Load(e.config); err == nil && was.Added != "" && was.PeerURL == e.conf.PeerURL {
		e.conf.Added, e.conf.State, e.conf.InitialCluster = was.Added, was.State, was.InitialCluster
	}
	if e.waits = e.conf.Added == "" || !e.hasData(); e.waits {
		return nil
	}
	return e.conf.Save(e.config)
}

func (e *etcd) close() error {
	err := e.admin.Close()
	if e.others != nil {
		err = errors.Join(err, e.others.Close())
	}
	return err
}

func (e *etcd) hasData() bool {
	_, err := os.Stat(filepath.Join(e.conf.DataDir, "member"))
	return err == nil
}

// run keeps the child process running until ctx ends, while this member is one of etcd's.
func (e *etcd) run(ctx context.Context) {
	for e.admitted(ctx) {
		e.serve(ctx)
	}
}

// serve keeps the process running until ctx ends or this member is one of etcd's no more.
func (e *etcd) serve(ctx context.Context) {
	// Not by its path: that may lie where this user may not look, or hold another version by now.
	child := embed.Start(ctx, e.node.log.With("part", "etcd", "see", filepath.Join(e.node.cfg.StateDir, "log", "etcd.log")), "/proc/self/exe", embed.Command, e.config)
	defer child.Stop()
	for ctx.Err() == nil {
		changed := e.node.membersChanged.wait()
		var again <-chan time.Time // nil while it is a member: then nothing is asked
		if !e.node.listed() {
			if e.removed(ctx) {
				e.node.log.Warn("this member was removed from the cluster: its etcd stops")
				e.waits = true
				return
			}
			again = time.After(placePace)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
	}
}

// removed reports whether the others have this member no more, or have it under another number, as one that never ran.
func (e *etcd) removed(ctx context.Context) bool {
	if e.others == nil {
		return false
	}
	p, err := e.place(ctx)
	return err == nil && (p.Number == "" || !p.Started && p.Number != e.conf.Added)
}

func (e *etcd) place(ctx context.Context) (embed.Place, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return e.others.Place(ctx, e.conf.Name, e.conf.PeerURL)
}

// admitted waits until the process may be started; false: ctx has ended.
func (e *etcd) admitted(ctx context.Context) bool {
	said := ""
	for e.waits && ctx.Err() == nil {
		why, err := e.ask(ctx)
		if err != nil {
			why = err.Error()
		}
		if why == "" {
			break
		}
		if why != said {
			said = why
			e.node.log.Warn("etcd is not started here yet", "reason", why)
		}
		select {
		case <-ctx.Done():
		case <-time.After(placePace):
		}
	}
	return ctx.Err() == nil
}

// ask says why the process may not be started yet; "": it may.
func (e *etcd) ask(ctx context.Context) (why string, err error) {
	p, err := e.place(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("the other members' etcd does not answer: %w", err)
	case p.Number == "":
		return "this host is not a member: standfast node add, on the machine that the cluster was deployed from, takes it in", nil
	case p.Started && !e.hasData():
		return fmt.Sprintf("this member has run before, and %s is gone: standfast node replace %s makes it a new one", e.conf.DataDir, e.conf.Name), nil
	case p.Started:
		e.waits = false
		return "", e.conf.Save(e.config)
	}
	return "", e.begin(p)
}

// begin prepares the first start of a member that was added. What an earlier membership has left is of no use to anybody: the
// others have forgotten its number for good.
func (e *etcd) begin(p embed.Place) error {
	if e.conf.Added != p.Number {
		if err := os.RemoveAll(e.conf.DataDir); err != nil {
			return fmt.Errorf("take away the etcd of an earlier membership: %w", err)
		}
	}
	e.conf.Added, e.conf.State, e.conf.InitialCluster = p.Number, embed.StateExisting, p.Initial
	if err := e.conf.Save(e.config); err != nil {
		return err
	}
	e.waits = false
	return nil
}

// leaveLeadership moves etcd's leadership to another member if this one has it.
func (e *etcd) leaveLeadership(ctx context.Context) error {
	to, err := e.admin.MoveLeaderAway(ctx, e.node.cfg.Name)
	if err == nil && to != "" {
		e.node.log.Info("moved etcd's leadership off the primary's host", "to", to)
	}
	return err
}

// maintain is done by the primary's node alone: one place for the whole etcd cluster.
func (e *etcd) maintain(ctx context.Context) error {
	v := e.node.view.Load()
	if v == nil || v.State == nil || v.State.Primary != e.node.cfg.Name {
		return nil
	}
	_, err := e.admin.Maintain(ctx)
	return err
}
