package ops

import (
	"context"
	"errors"
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
	st, err := patiently(ctx, func() (*api.Status, error) { return c.look(ctx) }, func(st *api.Status) error { return mayHandOver(st, to) })
	if err != nil {
		return Moved{}, err
	}
	began := time.Now()
	r := api.SwitchoverRequest{Leader: st.Primary, Candidate: to, DryRun: dryRun}
	if err := c.Client.Switchover(ctx, r, progress); err != nil || dryRun {
		return Moved{From: st.Primary, To: to}, err
	}
	return c.moved(ctx, st, began)
}

// patience is how long a reason against a switchover may last that passes by itself: what one member says of another is up to
// a third of a second old, and a server that was just restarted takes a moment to follow.
const patience = 5 * time.Second

// patiently looks until nothing speaks against what is wanted, or the reason is not one that passes, or patience ends.
func patiently(ctx context.Context, look func() (*api.Status, error), may func(*api.Status) error) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := look()
		if err != nil {
			return nil, err
		}
		err = may(st)
		var passing *passingError
		if !errors.As(err, &passing) {
			return st, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, passing.Refused
		}
	}
}

// passingError is a refusal whose reason may pass by itself.
type passingError struct{ *Refused }

func (e *passingError) Unwrap() error { return e.Refused }

func notYet(format string, args ...any) error {
	return &passingError{&Refused{fmt.Sprintf(format, args...)}}
}

// mayHandOver gives the reasons against a switchover that can be seen from here; the primary looks again for itself.
func mayHandOver(st *api.Status, to string) error {
	switch {
	case st.Phase != cluster.Reigning || st.Primary == "":
		return notYet("nobody is primary now, so there is nobody to hand over; wait, or see standfast status")
	case to == st.Primary:
		return refuse("%s is the primary already", to)
	case to == "" && ready(st) == "":
		return notYet("no standby is ready to take over; see standfast status")
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
		return notYet("%s does not follow %s now (%s), so it can't take over without loss; wait until it is running", to, st.Primary, m.State)
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

// RemoveMember takes a member out of the cluster.
func (c *Cluster) RemoveMember(ctx context.Context, r api.RemoveMemberRequest, progress func(api.Progress)) error {
	if err := c.changeable(); err != nil {
		return err
	}
	return c.Client.RemoveMember(ctx, r, progress)
}

// AddMember takes a host into the cluster.
func (c *Cluster) AddMember(ctx context.Context, r api.AddMemberRequest, progress func(api.Progress)) error {
	if err := c.changeable(); err != nil {
		return err
	}
	return c.Client.AddMember(ctx, r, progress)
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
