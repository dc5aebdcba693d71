package sim

import (
	"slices"
	"time"

	"standfast/cluster"
)

// wake makes the agent decide soon.
func (a *agent) wake() {
	if !a.woken {
		a.woken = true
		a.after(a.w.between(0, 500*time.Microsecond), a.step)
	}
}

// step is one look: build the view, decide, carry on.
func (a *agent) step() {
	a.woken = false
	if a.w.flaw(RestartInPlace) {
		a.restartInPlace()
	}
	v := a.view()
	a.w.steps++
	acts := a.w.cfg.Brain.Decide(v)
	a.reroute(v)
	a.reconcile(acts)
	switch {
	case a.running == nil:
		a.list = acts
		a.next()
	case len(acts) > 0 && urgent(acts[0]) && !same(acts[0], a.running):
		a.run++ // whatever it waits for
		a.list = acts
		a.next()
	default:
		a.again = true
	}
	if b := a.w.cfg.Brain.Beat(a.view()); told(b, a.beat) {
		a.sendBeats()
	}
}

// told reports whether the beat has news that must not wait for the next tick.
func told(b, o cluster.Beat) bool {
	return b.Term != o.Term || b.Admitted != o.Admitted || b.Attached != o.Attached || b.Up != o.Up ||
		b.NeedsOut != o.NeedsOut || b.Asked != o.Asked || len(b.Suspects) != len(o.Suspects)
}

func urgent(x cluster.Action) bool {
	switch x.(type) {
	case cluster.Fence, cluster.Promise:
		return true
	}
	return false
}

func isSlow(x cluster.Action) bool {
	switch x.(type) {
	case cluster.Start, cluster.Restart, cluster.Stop, cluster.Init, cluster.Promote, cluster.Rewind, cluster.Clone, cluster.Handover:
		return true
	}
	return false
}

// same reports whether both actions are one and the same to do. Writes are never: they carry a whole record.
func same(x, y cluster.Action) bool {
	switch x := x.(type) {
	case cluster.Fence:
		_, ok := y.(cluster.Fence)
		return ok
	case cluster.Write, cluster.Refuse, cluster.SendReport, cluster.SetNames:
		return false
	case cluster.Promote:
		y, ok := y.(cluster.Promote)
		return ok && x.Term == y.Term && x.Timeline == y.Timeline && x.Rule.Equal(y.Rule)
	case cluster.Clone:
		y, ok := y.(cluster.Clone)
		return ok && x.From == y.From && x.Term == y.Term
	default:
		return y != nil && isSlow(x) == isSlow(y) && x.String() == y.String()
	}
}

// reconcile cancels a long action that is no longer wanted.
func (a *agent) reconcile(acts []cluster.Action) {
	if a.slow == nil {
		return
	}
	switch a.slow.act.(type) {
	case cluster.Rewind, cluster.Clone, cluster.Handover:
		if !slices.ContainsFunc(acts, func(x cluster.Action) bool { return same(a.slow.act, x) }) {
			a.cancelSlow()
		}
	}
}

// cancelSlow tells the slow action to end. A rewind or clone does so in its own time, and is shown as under way meanwhile; so is
// a promotion that PostgreSQL has been told of, and that is ended by ending the server.
func (a *agent) cancelSlow() {
	if a.slow == nil || a.slow.cancelled {
		return
	}
	op := a.slow
	a.w.trace(a.h.name, "cancels %s", op.act)
	op.cancelled = true
	if s := a.h.pg; s != nil && s.unkept() && !a.w.flaw(PromotionLeft) {
		a.after(a.w.between(0, 20*ms), func() {
			if a.slow == op {
				a.endPromotion()
				a.dropSlow()
				a.wake()
			}
		})
		return
	}
	if !touches(op.act) {
		a.dropSlow()
		return
	}
	a.after(a.w.between(0, 80*ms), func() {
		if a.slow == op {
			a.dropSlow()
			a.wake()
		}
	})
}

// endPromotion kills a server that has been told to promote itself and has not yet.
func (a *agent) endPromotion() {
	if s := a.h.pg; s != nil && s.unkept() && !a.w.flaw(PromotionLeft) {
		a.w.trace(a.h.name, "kills the server that was told to promote itself")
		a.h.kill()
	}
}

// unkept reports whether the server was told to promote itself and has not yet.
func (s *server) unkept() bool { return s.told && s.recovery && !s.dead }

// dropSlow is the end of the slow action, wherever it stands.
func (a *agent) dropSlow() {
	if a.slow != nil {
		a.slow.cancelled, a.slow.over = true, true
		a.slow = nil
		a.h.touching = false
		if s := a.h.pg; s != nil {
			s.holding = false
		}
	}
}

func touches(x cluster.Action) bool {
	switch x.(type) {
	case cluster.Rewind, cluster.Clone:
		return true
	}
	return false
}

// next carries out the next action of the list.
func (a *agent) next() {
	a.running = nil
	if len(a.list) == 0 {
		return
	}
	act := a.list[0]
	a.list = a.list[1:]
	if isSlow(act) && !(a.unsure && a.state != nil && !a.w.flaw(Unsettled)) {
		a.list = nil
		if a.slow == nil {
			a.begins(act)
		}
		return
	}
	if urgent(act) {
		a.cancelSlow()
	}
	a.w.tell(a, act)
	a.running, a.again = act, false
	a.run++
	n := a.run
	if _, ok := act.(cluster.Write); a.unsure && !ok && !urgent(act) && a.state != nil && !a.w.flaw(Unsettled) {
		a.settle(func(ok bool) {
			if a.run == n {
				a.list = nil // it was decided without knowing
				a.done(act, ok)
			}
		})
		return
	}
	a.do(act, func(ok bool) {
		if a.run == n {
			a.done(act, ok)
		}
	})
}

// done is the end of a fast action: the next one, or another look.
func (a *agent) done(act cluster.Action, ok bool) {
	switch {
	case !ok:
		a.list, a.running = nil, nil
		a.after(a.w.between(5*ms, 20*ms), a.wake)
	case len(a.list) > 0 && (!a.again || a.w.chance(0.5)):
		a.next()
	default:
		a.list, a.running = nil, nil
		pause := time.Duration(0)
		if name := act.String(); name == a.prev {
			pause = 20 * ms // doing the same over and over is no reason to do it faster
		} else {
			a.prev = name
		}
		a.after(pause, a.wake)
	}
}

func (w *world) tell(a *agent, act cluster.Action) {
	if !w.tracing() {
		return
	}
	if x, ok := act.(cluster.Write); ok {
		n := x.Next
		w.trace(a.h.name, "→ %s (term %d %s, primary %q, timeline %d, %s, over revision %d)", act, n.Term, n.Phase, n.Primary, n.Timeline, n.Rule, n.Revision)
		return
	}
	w.trace(a.h.name, "→ %s", act)
}

// reroute asks where clients go now, checks it, and cuts the sessions that went elsewhere.
func (a *agent) reroute(v cluster.View) {
	r := a.w.cfg.Brain.Route(v)
	if a.route.Write != r.Write && a.w.tracing() {
		a.w.trace(a.h.name, "routes to %q (term %d)", r.Write, r.Term)
	}
	a.route = r
	a.w.truth.routed(a, v, r)
	for _, c := range a.w.clients {
		if s := c.session; s != nil && s.router == a && s.to.h.name != r.Write {
			s.close()
		}
	}
}
