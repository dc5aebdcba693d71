package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/decide"
	"standfast/store"
)

// storeTime bounds one call of the store on an operator's behalf.
const storeTime = 5 * time.Second

// Switchover asks the primary to hand over and waits until the new one lets clients in. It implements api.Ops, as the
// methods below do.
func (n *Node) Switchover(ctx context.Context, r api.SwitchoverRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	s := v.State
	if r.Leader != "" && r.Leader != s.Primary {
		return api.Errorf(api.Precondition, "%s is not the primary, %s is", r.Leader, orNobody(s.Primary))
	}
	if s.Phase != cluster.Reigning {
		return api.Errorf(api.Conflict, "term %d is still %s: wait until a primary reigns", s.Term, s.Phase)
	}
	if r.Candidate == s.Primary {
		return api.Errorf(api.Conflict, "%s is the primary already", r.Candidate)
	}
	if err := n.knownCandidate(v, r.Candidate); err != nil {
		return err
	}
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: fmt.Sprintf("%s would hand over to %s: new connections wait, sessions of %s end, nothing is lost", s.Primary, orBest(r.Candidate), s.Primary)})
		return nil
	}
	return n.request(ctx, cluster.Request{Kind: cluster.Switchover, To: r.Candidate}, r.By, progress)
}

// CancelSwitchover withdraws a request that has not begun.
func (n *Node) CancelSwitchover(ctx context.Context, _ api.CancelRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if v.Request == nil {
		return api.Errorf(api.NotFound, "no switchover or failover is asked for")
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	switch err := n.store.WithdrawRequest(ctx, v.Request.ID); {
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(api.NotFound, "the %s is over already", v.Request.Kind)
	case err != nil:
		return n.noMajority("withdraw the request", err)
	}
	progress(api.Progress{Step: "withdrawn", Text: "the request is withdrawn"})
	return nil
}

// Failover begins an election now.
func (n *Node) Failover(ctx context.Context, r api.FailoverRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if err := n.knownCandidate(v, r.Candidate); err != nil {
		return err
	}
	kind := cluster.Failover
	if r.AcceptLoss {
		kind = cluster.Forced
	}
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: lossStatement(v, kind)})
		return nil
	}
	progress(api.Progress{Step: "loss", Text: lossStatement(v, kind)})
	return n.request(ctx, cluster.Request{Kind: kind, To: r.Candidate}, r.By, progress)
}

// lossStatement says what an election begun now may lose.
func lossStatement(v cluster.View, kind cluster.RequestKind) string {
	s := v.State
	switch {
	case kind == cluster.Forced:
		who := s.Last // while nobody reigns it is still whose commits are at stake
		if s.Primary != "" {
			who = s.Primary
		}
		return fmt.Sprintf("a forced election is decided by the members that are there: commits that only %s holds, or others that are not there, may be lost, acknowledged ones included", orNobody(who))
	case s.Rule.K == 0:
		return fmt.Sprintf("commits need no standby now (%s): what has not reached one is lost unless %s reports", s.Rule, orNobody(s.Primary))
	}
	return fmt.Sprintf("nothing acknowledged is lost: the election waits for %d of %s, or for the last primary itself", s.Rule.Electors(), s.Rule)
}

// Reload makes this member read the agreed configuration again.
func (n *Node) Reload(ctx context.Context, r api.ReloadRequest, progress func(api.Progress)) error {
	if err := n.concernsMe(r.Member); err != nil {
		return err
	}
	if err := n.applyConfig(ctx); err != nil {
		return api.Errorf(api.Conflict, "reload: %w", err)
	}
	progress(api.Progress{Member: n.cfg.Name, Step: "reload", Text: n.cfg.Name + " has read its configuration again"})
	return nil
}

// Reinitialize replaces this member's data by a copy of the primary's.
func (n *Node) Reinitialize(ctx context.Context, r api.ReinitializeRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if err := n.concernsMe(r.Member); err != nil {
		return err
	}
	if v.State.Primary == n.cfg.Name {
		return api.Errorf(api.Conflict, "%s is the primary, its data is the cluster's: switch over first (standfast switchover)", n.cfg.Name)
	}
	if _, busy := v.Doing.(cluster.Clone); busy && !r.Force {
		return api.Errorf(api.Conflict, "%s is being cloned already", n.cfg.Name)
	}
	n.agent.Reclone(r.Operator + " asked for a new copy")
	progress(api.Progress{Member: n.cfg.Name, Step: "clone", Text: n.cfg.Name + " leaves the commit rule and is cloned from " + v.State.Primary})
	begun := false
	return n.await(ctx, n.cfg.Name+" follows again", progress, func(v cluster.View) (bool, error) {
		begun = begun || decide.NeedsOut(v)
		return begun && !decide.NeedsOut(v) && v.Relay.Term == v.State.Term && v.Postgres.Up, nil
	})
}

// current is the newest view, with a record in it.
func (n *Node) current() (cluster.View, error) {
	if n.over != nil {
		return cluster.View{}, api.Errorf(api.Conflict, "%s", n.over.Text)
	}
	v := n.view.Load()
	if v == nil || v.State == nil {
		return cluster.View{}, api.Errorf(api.Unavailable, "%s does not know the cluster's state yet: is a majority of the members running?", n.cfg.Name)
	}
	return *v, nil
}

func (n *Node) concernsMe(member string) error {
	if member != "" && member != n.cfg.Name {
		return api.Errorf(api.Conflict, "this is %s, not %s: ask %s itself", n.cfg.Name, member, member)
	}
	return nil
}

func (n *Node) knownCandidate(v cluster.View, name string) error {
	if name == "" {
		return nil
	}
	for _, m := range v.Members {
		if m.Name == name {
			if !m.Electable() {
				return api.Errorf(api.Conflict, "%s is not a candidate: a witness, or priority 0", name)
			}
			return nil
		}
	}
	return api.Errorf(api.Invalid, "%s is not a member of this cluster", name)
}

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}
