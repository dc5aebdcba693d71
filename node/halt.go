package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/decide"
)

// ErrHalted says that the cluster was shut down by an operator: this member has stopped its server and is not to be started again by
// itself.
var ErrHalted = errors.New("the cluster was shut down")

// haltTime is how long a member waits for the others' servers to stop before it ends.
const haltTime = time.Minute

// Shutdown stops the whole cluster in order: the primary hands over to itself, so that the standbys have received its last checkpoint
// before they stop, and the election that follows waits until the cluster is started again.
func (n *Node) Shutdown(ctx context.Context, r api.ShutdownRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	s := v.State
	if s.Phase != cluster.Reigning {
		return api.Errorf(api.Conflict, "term %d is still %s: wait until a primary reigns", s.Term, s.Phase)
	}
	var away []string
	for _, m := range v.Members {
		if !hears(v, m.Name) {
			away = append(away, m.Name)
		}
	}
	if len(away) > 0 {
		progress(api.Progress{Step: "warning", Text: strings.Join(away, ", ") + " is not heard from, and can't be stopped from here"})
	}
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: fmt.Sprintf("new connections would be held; %s would stop in order, its last checkpoint on the standbys; then the standbys; then standfast on each host. Started again, %s is the primary where it can be", s.Primary, s.Primary)})
		return nil
	}
	return n.request(ctx, cluster.Request{Kind: cluster.Switchover, To: s.Primary, Halt: true}, r.By, progress)
}

// followHalt watches a shutdown until it is agreed, or refused.
func (n *Node) followHalt(ctx context.Context, req cluster.Request, progress func(api.Progress)) error {
	return n.await(ctx, "", progress, func(v cluster.View) (bool, error) {
		s := v.State
		switch {
		case s.Term == req.Term && (v.Request == nil || v.Request.ID != req.ID):
			return false, n.refusal(ctx, req, s.Term)
		case s.Term == req.Term:
			return false, nil
		case !s.Halt:
			return false, api.Errorf(api.Conflict, "the cluster was not shut down: %s", s.Reason)
		}
		progress(api.Progress{Member: s.Last, Step: "done", Text: s.Last + " has stopped in order; the others stop"})
		return true, nil
	})
}

// endHalted waits until the cluster is shut down and there is nothing left to do here.
func (n *Node) endHalted(ctx context.Context) error {
	var since time.Time
	for {
		changed := n.viewChanged.wait()
		if v := n.view.Load(); v != nil && v.State != nil && v.State.Halt && !v.Resumes {
			if since.IsZero() {
				since = time.Now()
			}
			if decide.Ended(*v) || time.Since(since) > haltTime {
				return fmt.Errorf("%w: %s", ErrHalted, v.State.Reason)
			}
		} else {
			since = time.Time{}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
