package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/agent"
	"standfast/api"
	"standfast/cluster"
	"standfast/decide"
	"standfast/postgres"
	"standfast/recovery"
	"standfast/store"
	"standfast/store/embed"
)

// ErrOver says that the cluster was founded anew without this member.
var ErrOver = errors.New("the cluster was founded anew without this host")

const (
	overPace  = 250 * time.Millisecond // the status of a host that stays out, as api.Source wants it
	endServer = 30 * time.Second       // for PostgreSQL to stop
	knownPace = time.Second            // what is known is written so long after a change of it
	touchPace = 10 * time.Second       // that a majority answers is noted so often
)

// keepKnown keeps on disk what is agreed, for the day when a majority is lost for good. Nothing waits for it, and a failover's
// several changes are written once.
func (n *Node) keepKnown(ctx context.Context) error {
	snaps, touch := n.store.Watch(ctx), time.NewTicker(touchPace)
	defer touch.Stop()
	var known recovery.Known
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-snaps:
			if !ok {
				return nil
			}
			if s.State == nil || s.Config.Revision == 0 || n.elsewhere(s) {
				continue
			}
			known.Cluster, known.State, known.Members, known.Config = n.cfg.Cluster, *s.State, s.Members, string(s.Config.Value)
			due = time.After(knownPace)
		case <-due:
			due = nil
			if known.Authority == nil {
				known.Authority = n.sealedAuthority(ctx)
			}
			if err := known.Save(n.cfg.StateDir); err != nil {
				n.log.Warn("keep what is agreed, for a recovery", "error", err)
			}
		case <-touch.C:
			if v := n.view.Load(); v == nil || !v.StoreOK {
				continue
			}
			if known.Authority == nil && known.State.Term > 0 {
				due = time.After(0)
			}
			if err := recovery.Touch(n.cfg.StateDir, time.Now()); err != nil {
				n.log.Debug("note that a majority answers", "error", err)
			}
		}
	}
}

// elsewhere reports whether a snapshot is of another founding than the one that this member takes part in.
func (n *Node) elsewhere(s store.Snapshot) bool {
	v := n.view.Load()
	return v != nil && v.State != nil && s.State.Epoch != v.State.Epoch
}

// sealedAuthority is the certificate authority as the store has it, nil while that can't be told.
func (n *Node) sealedAuthority(ctx context.Context) []byte {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	kv, err := n.store.Authority(ctx)
	if err != nil {
		return nil
	}
	return kv.Value
}

// etcdToken is the same on all members of one founding, and of no other: etcd reckons its cluster's number from it, and answers
// nobody who has another.
func (n *Node) etcdToken() string {
	token := "standfast-" + n.cfg.Cluster
	if seed, err := recovery.LoadSeed(n.cfg.StateDir); err == nil {
		token += fmt.Sprintf("-%d", seed.State.Epoch)
	}
	return token
}

// foundAnew puts into a new, empty store what a recovery has left for it; false: there was none. The configuration comes last, as
// in found.
func (n *Node) foundAnew(ctx context.Context) (bool, error) {
	seed, err := recovery.LoadSeed(n.cfg.StateDir)
	if errors.Is(err, recovery.ErrNothing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := n.store.PutMember(ctx, n.cfg.Member()); err != nil {
		return true, err
	}
	for _, m := range seed.Former {
		if err := n.store.PutFormer(ctx, m); err != nil {
			return true, err
		}
	}
	if len(seed.Authority) > 0 {
		if err := n.store.PutAuthority(ctx, seed.Authority, 0); err != nil && !errors.Is(err, store.ErrConflict) {
			return true, err
		}
	}
	if _, err := n.store.WriteState(ctx, seed.State); err != nil && !errors.Is(err, store.ErrConflict) {
		return true, err
	}
	note := store.Note{At: seed.At.UnixMilli(), Member: n.cfg.Name, Kind: "founded anew", Text: seed.State.Reason}
	if err := n.store.PutNote(ctx, note); err != nil {
		return true, err
	}
	if _, err := n.store.PutConfig(ctx, []byte(seed.Config), 0); err != nil && !errors.Is(err, store.ErrConflict) {
		return true, err
	}
	n.log.Warn("founded the cluster anew", "epoch", seed.State.Epoch, "reason", seed.State.Reason)
	return true, nil
}

// endOver waits until this member learns that its founding is over. Then it marks that, for good, lets PostgreSQL be ended by the
// agent, and ends the node with ErrOver.
func (n *Node) endOver(ctx context.Context) error {
	var since time.Time
	for {
		changed := n.viewChanged.wait()
		if v := n.view.Load(); v != nil && v.Superseded > v.Epoch {
			if since.IsZero() {
				since = time.Now()
				over := recovery.Over{Epoch: v.Superseded, Joined: n.cfg.Join, By: n.others(), Text: decide.Over(*v) + "; its data is untouched, and its PostgreSQL is not run: standfast node rejoin, on this host, makes it a member of the new cluster and keeps the old data beside the new"}
				if err := over.Save(n.cfg.StateDir); err != nil {
					n.log.Error("mark that this member stays out", "error", err)
				}
			}
			if !v.Postgres.Running || time.Since(since) > endServer {
				return ErrOver
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// formers are the members of the founding before that are told that it is over.
func (n *Node) formers() []cluster.Member {
	if f := n.former.Load(); f != nil {
		return *f
	}
	return nil
}

// others are the members but this one.
func (n *Node) others() []cluster.Member {
	var out []cluster.Member
	for _, m := range *n.members.Load() {
		if m.Name != n.cfg.Name {
			out = append(out, m)
		}
	}
	return out
}

// openOver looks whether this host's cluster was founded anew elsewhere. Where an operator wants it (recovery.Over.Again) it becomes a
// new member of that one, and keeps its data beside; otherwise it stays out, and only tells so.
func (n *Node) openOver() error {
	over, err := recovery.LoadOver(n.cfg.StateDir)
	if errors.Is(err, recovery.ErrNothing) {
		return nil
	}
	if err != nil {
		return err
	}
	if over.Again(n.cfg.Join) {
		return n.startAnew(over)
	}
	n.over = &over
	n.log.Error(over.Text)
	n.tellOver()
	return n.openAPI()
}

// startAnew makes a host without a past of this one. Each step may be repeated, and the mark goes last.
func (n *Node) startAnew(over recovery.Over) error {
	suffix := fmt.Sprintf(".before-%d", over.Epoch)
	if n.data() {
		bin, _, err := postgres.FindBinDir(n.cfg.Postgres.BinDir)
		if err != nil {
			return err
		}
		n.cfg.Postgres.BinDir = bin
		kept, err := postgres.New(n.postgresConfig()).SetAside(suffix)
		if err != nil {
			return fmt.Errorf("keep the data of before: %w", err)
		}
		for _, dir := range kept {
			n.log.Warn("the data of before is kept; remove it when nobody needs it", "directory", dir)
		}
	}
	etcd := filepath.Join(n.cfg.StateDir, "etcd")
	if err := os.Rename(etcd, etcd+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep the etcd of before: %w", err)
	}
	if err := os.Remove(embed.File(n.cfg.StateDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the etcd of before: %w", err)
	}
	if err := agent.Forget(n.cfg.StateDir); err != nil {
		return err
	}
	return recovery.Clear(n.cfg.StateDir)
}

// tellOver makes the status of a host that stays out.
func (n *Node) tellOver() {
	n.status.Store(&api.Status{
		Schema: api.Schema, Version: n.version, Cluster: n.cfg.Cluster, Self: n.cfg.Name, Observed: time.Now(), Epoch: n.over.Epoch,
		Warnings: []string{n.over.Text},
		Members:  []api.Member{{Member: n.cfg.Member(), Role: api.Standby, State: api.Stopped, Note: "of the cluster before"}},
		Store:    api.Store{Kind: "none"},
	})
}

// stayOver answers whoever asks, and does nothing else.
func (n *Node) stayOver(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.api.Run(ctx) }()
	tick := time.NewTicker(overPace)
	defer tick.Stop()
	n.notify("READY=1\nSTATUS=" + n.over.Text)
	for {
		select {
		case err := <-done:
			return unlessCancelled(named("api", err))
		case <-tick.C:
			n.tellOver()
			n.notify("WATCHDOG=1")
		}
	}
}

// formerWarning tells of those that were members before the cluster was founded anew.
func (n *Node) formerWarning() []string {
	former := n.formers()
	if len(former) == 0 {
		return nil
	}
	var names []string
	for _, m := range former {
		names = append(names, m.Name)
	}
	return []string{fmt.Sprintf("%s stay out since the cluster was founded anew: on each that is back, standfast node rejoin; of one that never comes back, standfast node remove %s", strings.Join(names, ", "), names[0])}
}

// forgetFormer has a member of the founding before told no more that it is over.
func (n *Node) forgetFormer(ctx context.Context, r api.RemoveMemberRequest, progress func(api.Progress)) error {
	text := fmt.Sprintf("%s, of the cluster before it was founded anew, is forgotten: should that host start again after all, nobody tells it that it is no member", r.Name)
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: text})
		return nil
	}
	if err := n.within(ctx, "forget a former member", func(ctx context.Context) error { return n.store.DeleteFormer(ctx, r.Name) }); err != nil {
		return err
	}
	progress(api.Progress{Member: r.Name, Step: "removed", Text: text})
	return nil
}
