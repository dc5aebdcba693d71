package sim

import (
	"slices"
	"time"

	"standfast/cluster"
)

// do carries out a fast action and tells whether it succeeded.
func (a *agent) do(act cluster.Action, done func(ok bool)) {
	w, h := a.w, a.h
	if w.mishap(w.plan.Break) && !urgent(act) {
		a.after(w.between(0, 30*ms), func() { done(false) })
		return
	}
	if w.mishap(w.plan.Die) {
		w.after(w.between(0, 10*ms), func() { w.killAgent(h) })
	}
	if w.mishap(w.plan.Hang) {
		w.after(w.between(0, 5*ms), func() { w.pauseAgent(h, w.between(50*ms, 6*time.Second)) })
	}
	switch x := act.(type) {
	case cluster.Fence:
		a.fence(done)
	case cluster.Promise:
		a.promise(x.Term, done)
	case cluster.SendReport:
		a.report(x.Report, done)
	case cluster.Write:
		a.write(x.Next, done)
	case cluster.SetNames:
		a.setNames(x.Rule, done)
	case cluster.WriteTermRow:
		a.writeTermRow(x.Term, done)
	case cluster.Admit:
		a.after(w.between(0, 3*ms), func() { done(a.admit(x.Term)) })
	case cluster.Expel:
		a.expel(done)
	case cluster.Attach:
		a.after(w.between(0, 2*ms), func() { done(a.attach(x.Term)) })
	case cluster.Probe:
		a.probe(x.Member, done)
	case cluster.Refuse:
		w.store.do(a, func(s *snap) bool {
			if s.request == nil || s.request.ID != x.Request.ID {
				return false
			}
			s.request = nil
			return true
		}, func(outcome, *snap) { done(true) })
	default:
		panic("sim: an action that it does not know: " + act.String())
	}
}

// fence cuts sessions at once and kills PostgreSQL a moment later; it waits for neither.
func (a *agent) fence(done func(bool)) {
	a.admitted = 0
	if s := a.h.pg; s != nil && !s.dead {
		s.hba = false
	}
	a.after(a.w.between(200*time.Microsecond, 4*ms), func() {
		a.h.kill()
		done(true)
	})
}

func (a *agent) promise(t cluster.Term, done func(bool)) {
	a.relay.raise(t)
	synced := func() {
		if t > a.h.disk.promised {
			a.h.disk.promised = t
		}
	}
	if a.w.flaw(PromiseUnsynced) {
		a.promised = max(a.promised, t)
		a.after(a.w.between(200*ms, 2*time.Second), synced)
		a.after(0, func() { done(true) })
		return
	}
	a.h.sync(a.after, func() {
		synced()
		a.promised = max(a.promised, t)
		done(true)
	})
}

func (a *agent) report(r cluster.Report, done func(bool)) {
	a.w.truth.reporting(a.h, r)
	a.w.store.do(a, func(s *snap) bool {
		if s.reports[a.h.id].Term > r.Term {
			return false
		}
		s.reports = slices.Clone(s.reports)
		s.reports[a.h.id] = r
		return true
	}, func(o outcome, s *snap) {
		if o == applied {
			a.learn(s)
		}
		done(o == applied)
	})
}

func (a *agent) write(next cluster.State, done func(bool)) {
	sent := a.h.clock()
	fn := write(next)
	if a.unsure && a.w.flaw(BlindRewrite) {
		fn = overwrite(next)
	}
	a.w.store.do(a, fn, func(o outcome, s *snap) {
		if o == unknown && a.w.flaw(UnknownIsSuccess) {
			mine := next
			mine.Revision = next.Revision + 1
			a.know(&mine)
			done(true)
			return
		}
		if o == unknown {
			a.unsure = true
			done(false)
			return
		}
		a.unsure = false
		a.learn(s)
		a.checked(sent)
		done(o == applied)
	})
}

// settle writes the record unchanged after a write of unknown outcome: either that one took effect, or it never will.
func (a *agent) settle(done func(bool)) {
	a.w.store.do(a, write(*a.state), func(o outcome, s *snap) {
		if o != unknown {
			a.unsure = false
			a.learn(s)
		}
		done(o != unknown)
	})
}

// setNames makes every process of PostgreSQL work by the rule.
func (a *agent) setNames(r cluster.Rule, done func(bool)) {
	s := a.h.pg
	if !s.accepting() {
		a.after(0, func() { done(false) })
		return
	}
	if r.K > len(r.Of) {
		r = cluster.NewRule(max(r.K, 1)) // nobody
	}
	alter := func(r cluster.Rule, then func()) {
		a.h.sync(a.after, func() {
			if s.dead || s != a.h.pg {
				done(false)
				return
			}
			a.h.disk.names = r
			s.reload()
			a.w.truth.covered()
			a.after(a.w.between(12*ms, 15*ms), then)
		})
	}
	// One that enters may have been away, its data touched, and its old sender not know of it.
	for _, x := range slices.Clone(s.senders) {
		if r.Has(x.name) && !a.h.disk.names.Has(x.name) && !a.w.flaw(StaleAck) {
			x.end(true)
		}
	}
	finish := func() {
		for _, x := range slices.Clone(s.senders) {
			if x.born < s.changes && !a.w.flaw(KeepOldSenders) {
				x.end(true)
			}
		}
		s.knowNames()
		done(true)
	}
	if a.h.disk.names.K == 0 && r.K > 0 && r.K <= len(r.Of) {
		// Leaving k = 0: first a name that nobody has, until a probe is seen to wait.
		alter(cluster.NewRule(1), func() { alter(r, finish) })
		return
	}
	alter(r, finish)
}

func (a *agent) writeTermRow(t cluster.Term, done func(bool)) {
	s := a.h.pg
	if !s.accepting() || s.recovery {
		a.after(0, func() { done(false) })
		return
	}
	row := s.write(nil)
	var wait func()
	wait = func() {
		switch {
		case s.dead:
			done(false)
		case row.in(a.h.disk.wal):
			a.h.disk.row, a.h.disk.rowTerm = row, t
			done(true)
		default:
			a.after(2*ms, wait)
		}
	}
	a.after(ms, wait)
}

func (a *agent) admit(t cluster.Term) bool {
	s := a.h.pg
	if !s.accepting() || s.recovery || a.state == nil || a.state.Term != t {
		return false
	}
	a.w.truth.admitting(a.h, t)
	s.hba, a.admitted = true, t
	a.sendBeats()
	return true
}

func (a *agent) expel(done func(bool)) {
	a.admitted = 0
	a.after(a.w.between(ms/2, 3*ms), func() {
		if s := a.h.pg; s != nil && !s.dead {
			s.hba = false
			s.cut()
		}
		done(true)
	})
}

func (a *agent) attach(t cluster.Term) bool {
	if a.state == nil || a.state.Term != t || a.state.Phase != cluster.Reigning || t < a.relay.floor {
		return false
	}
	a.relay.open(t, a.state.Primary, a.state.Timeline)
	return true
}

func (a *agent) probe(name string, done func(bool)) {
	to := a.w.host(name)
	var answered bool
	if a.w.both(a.h, to) && to.on && !to.paused && to.pg != nil && !to.pg.dead && !to.pg.orphan {
		answered = true
		a.after(a.w.between(ms, 10*ms), func() {
			a.relay.heard = a.h.clock()
			done(true)
		})
	}
	if !answered {
		a.after(200*ms, func() { done(true) })
	}
}
