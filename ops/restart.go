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
	w := round{
		status: func() (*api.Status, error) {
			st, _, err := c.Status(ctx)
			return st, err
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
	return w.all(members, onlyPending)
}

// round is a restart of several members, over what it needs of the cluster.
type round struct {
	status  func() (*api.Status, error)
	restart func(r api.RestartRequest, quiet bool) (restarted bool, err error)

	restarted []string
	asked     []string
}

func (w *round) all(members []string, onlyPending bool) ([]string, error) {
	st, err := w.status()
	if err != nil {
		return nil, err
	}
	chosen, err := toRestart(st, members)
	if err != nil {
		return nil, err
	}
	for _, name := range chosen {
		if name == st.Primary {
			continue
		}
		if err := w.one(name, api.Standby, onlyPending); err != nil {
			return w.restarted, err
		}
	}
	if st, err = w.status(); err != nil { // it may be another by now
		return w.restarted, err
	}
	if !slices.Contains(chosen, st.Primary) {
		return w.restarted, nil
	}
	if err := w.one(st.Primary, api.Primary, onlyPending); err != nil {
		return w.restarted, err
	}
	for _, name := range chosen {
		if name == st.Primary {
			continue
		}
		if err := w.one(name, api.Standby, onlyPending); err != nil {
			return w.restarted, err
		}
	}
	return w.restarted, nil
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
