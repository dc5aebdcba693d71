package ops

import (
	"context"
	"fmt"
	"time"

	"standfast/api"
	"standfast/cluster"
)

// Moved is the outcome of a switchover or failover.
type Moved struct {
	From, To string
	Term     cluster.Term
	Took     time.Duration // from asking to the answer
	Outage   time.Duration // for which nobody took writes, as the members saw it; 0: not known
}

// Switchover hands the primary's role over, to the named member or the best. With dryRun nothing changes, and the steps say
// what would.
func (c *Cluster) Switchover(ctx context.Context, to string, dryRun bool, progress func(api.Progress)) (Moved, error) {
	st, err := c.look(ctx)
	if err != nil {
		return Moved{}, err
	}
	if err := mayHandOver(st, to); err != nil {
		return Moved{}, err
	}
	began := time.Now()
	r := api.SwitchoverRequest{Leader: st.Primary, Candidate: to, DryRun: dryRun}
	if err := c.Client.Switchover(ctx, r, progress); err != nil || dryRun {
		return Moved{From: st.Primary, To: to}, err
	}
	return c.moved(ctx, st, began)
}

// mayHandOver gives the reasons against a switchover that can be seen from here; the primary looks again for itself.
func mayHandOver(st *api.Status, to string) error {
	switch {
	case st.Phase != cluster.Reigning || st.Primary == "":
		return refuse("nobody is primary now, so there is nobody to hand over; wait, or see standfast status")
	case to == st.Primary:
		return refuse("%s is the primary already", to)
	case to == "" && ready(st) == "":
		return refuse("no standby is ready to take over; see standfast status")
	case to == "":
		return nil
	}
	m, err := candidate(st, to)
	switch {
	case err != nil:
		return err
	case m.State == api.Unreachable:
		return refuse("%s is not heard from; choose another or bring it back first", to)
	case m.State != api.Running || !m.Attached:
		return refuse("%s does not follow %s now (%s), so it can't take over without loss; wait until it is running", to, st.Primary, m.State)
	}
	return nil
}

// ready names a standby that could take over, if any.
func ready(st *api.Status) string {
	for _, m := range st.Members {
		if m.Role == api.Standby && m.Priority > 0 && m.State == api.Running && m.Attached {
			return m.Name
		}
	}
	return ""
}

// Failover begins an election now. With acceptLoss a majority's reports are enough, though acknowledged commits may be
// lost. The steps of a dry run say what may be.
func (c *Cluster) Failover(ctx context.Context, to string, acceptLoss, dryRun bool, progress func(api.Progress)) (Moved, error) {
	st, err := c.look(ctx)
	if err != nil {
		return Moved{}, err
	}
	if to != "" {
		if _, err := candidate(st, to); err != nil {
			return Moved{}, err
		}
	}
	began := time.Now()
	r := api.FailoverRequest{Candidate: to, AcceptLoss: acceptLoss, DryRun: dryRun}
	if err := c.Client.Failover(ctx, r, progress); err != nil || dryRun {
		return Moved{From: st.Primary, To: to}, err
	}
	return c.moved(ctx, st, began)
}

// moved finds out who reigns now.
func (c *Cluster) moved(ctx context.Context, before *api.Status, began time.Time) (Moved, error) {
	m := Moved{From: before.Primary, Took: time.Since(began)}
	after, _, err := c.Status(ctx)
	if err != nil {
		return m, fmt.Errorf("it was done, but who is primary now can't be asked: %w", err)
	}
	m.To, m.Term = after.Primary, after.Term
	history, err := c.History(ctx)
	if err != nil {
		return m, nil // the history is a nicety here
	}
	for _, e := range history {
		if e.Term == m.Term {
			m.Outage = time.Duration(e.OutageMS) * time.Millisecond
		}
	}
	return m, nil
}
