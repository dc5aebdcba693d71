package ops

import (
	"context"
	"slices"
	"strings"
	"time"

	"standfast/api"
)

// Restart restarts PostgreSQL on the named members, or on all: one after another, standbys first and the primary last, so
// that each finds the others well. With onlyPending each is asked itself, when its turn comes, whether changed parameters
// wait for it. It returns the members that were restarted, in order.
//
// What a standby must not have less of than its primary (max_connections and its like) is raised by that order; lowered it
// is on the primary first, so the standbys are asked once more after the primary. A member that can't be asked
// is an error, never passed over; so is one that does not follow again within the time.
func (c *Cluster) Restart(ctx context.Context, members []string, onlyPending bool, within time.Duration, progress func(api.Progress)) ([]string, error) {
	if err := c.changeable(); err != nil {
		return nil, err
	}
	return c.round(ctx, within, progress).all(members, onlyPending)
}

// RestartRolling is Restart that hands the primary's role over instead of restarting the primary in place: a standby that was
// restarted before takes over, and the old primary begins anew as its standby. Clients wait for a switchover, which is shorter. Who
// is primary has changed then, unless the primary had nothing to restart for.
func (c *Cluster) RestartRolling(ctx context.Context, members []string, onlyPending bool, within time.Duration, progress func(api.Progress)) ([]string, error) {
	if err := c.changeable(); err != nil {
		return nil, err
	}
	return c.round(ctx, within, progress).rolling(members, onlyPending)
}

func (c *Cluster) round(ctx context.Context, within time.Duration, progress func(api.Progress)) *round {
	return &round{
		status: func() (*api.Status, error) {
			st, _, err := c.Status(ctx)
			return st, err
		},
		handOver: func() error {
			_, err := c.Switchover(ctx, "", false, progress)
			return err
		},
		restart: func(r api.RestartRequest, quiet bool) (restarted bool, err error) {
			r.Timeout, restarted = within, true
			err = c.Client.Restart(ctx, r, func(p api.Progress) {
				if p.Step == api.StepNothing {
					restarted = false
					if quiet {
						return
					}
				}
				if progress != nil {
					progress(p)
				}
			})
			return restarted, err
		},
	}
}

// round is a restart of several members, over what it needs of the cluster.
type round struct {
	status   func() (*api.Status, error)
	handOver func() error // the primary's role, to the best standby
	restart  func(r api.RestartRequest, quiet bool) (restarted bool, err error)

	restarted []string
	asked     []string
}

func (w *round) all(members []string, onlyPending bool) ([]string, error) {
	chosen, err := w.standbys(members, onlyPending)
	if err == nil {
		err = w.last(chosen, onlyPending)
	}
	return w.restarted, err
}

// rolling asks everybody once more at the end, for what is lowered on the primary first: that is restarted for in place.
func (w *round) rolling(members []string, onlyPending bool) ([]string, error) {
	chosen, err := w.standbys(members, onlyPending)
	if err == nil {
		err = w.moveOn(chosen, onlyPending)
	}
	if err == nil {
		err = w.last(chosen, onlyPending)
	}
	return w.restarted, err
}

// standbys restarts those of the chosen, and returns all of the chosen.
func (w *round) standbys(members []string, onlyPending bool) (chosen []string, err error) {
	st, err := w.status()
	if err != nil {
		return nil, err
	}
	if chosen, err = toRestart(st, members); err != nil {
		return nil, err
	}
	for _, name := range chosen {
		if name == st.Primary {
			continue
		}
		if err := w.one(name, api.Standby, onlyPending); err != nil {
			return nil, err
		}
	}
	return chosen, nil
}

// moveOn has another take the primary's role, if the primary is to be restarted and has not been as a standby. The handover
// itself starts its PostgreSQL anew.
func (w *round) moveOn(chosen []string, onlyPending bool) error {
	st, err := w.status()
	if err != nil {
		return err
	}
	m := st.Member(st.Primary)
	if m == nil || !slices.Contains(chosen, m.Name) || slices.Contains(w.asked, m.Name) || onlyPending && !m.PendingRestart {
		return nil
	}
	old := m.Name
	if err := w.handOver(); err != nil {
		return err
	}
	w.asked, w.restarted = append(w.asked, old), append(w.restarted, old)
	return nil
}

// last restarts the primary, if it is one of the chosen, and then asks the others.
func (w *round) last(chosen []string, onlyPending bool) error {
	st, err := w.status() // it may be another by now
	if err != nil {
		return err
	}
	if !slices.Contains(chosen, st.Primary) {
		return nil
	}
	if err := w.one(st.Primary, api.Primary, onlyPending); err != nil {
		return err
	}
	for _, name := range chosen {
		if name == st.Primary {
			continue
		}
		if err := w.one(name, api.Standby, onlyPending); err != nil {
			return err
		}
	}
	return nil
}

// one restarts a member, or asks it to if it needs it: so from the second time on.
func (w *round) one(name string, role api.Role, onlyPending bool) error {
	again := slices.Contains(w.asked, name)
	did, err := w.restart(api.RestartRequest{Member: name, Role: role, OnlyPending: onlyPending || again}, again)
	if err != nil {
		return err // it names the member
	}
	w.asked = append(w.asked, name)
	if did && !slices.Contains(w.restarted, name) {
		w.restarted = append(w.restarted, name)
	}
	return nil
}

// toRestart lists the members that were named, or all that hold data, in the status' order.
func toRestart(st *api.Status, members []string) ([]string, error) {
	for _, name := range members {
		m := st.Member(name)
		switch {
		case m == nil:
			return nil, refuse("there is no member %s; there are %s", name, strings.Join(Names(st), ", "))
		case m.Role == api.Witness:
			return nil, refuse("%s is a witness and has no PostgreSQL to restart", name)
		}
	}
	if st.Primary == "" {
		return nil, refuse("nobody is primary now: wait until somebody is, or see standfast status")
	}
	var out []string
	for _, m := range st.Members {
		switch {
		case m.Role == api.Witness, len(members) > 0 && !slices.Contains(members, m.Name):
		case m.State == api.Unreachable:
			return nil, refuse("%s is not heard from; bring it back first, or name the members to restart", m.Name)
		default:
			out = append(out, m.Name)
		}
	}
	return out, nil
}
