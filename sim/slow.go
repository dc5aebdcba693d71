package sim

import (
	"slices"
	"time"

	"standfast/cluster"
)

// begins puts an action on the slow lane.
func (a *agent) begins(act cluster.Action) {
	a.w.tell(a, act)
	op := &slowOp{act: act}
	a.slow = op
	if a.w.mishap(a.w.plan.Die * 3) {
		a.w.after(a.w.between(0, 100*ms), func() { a.w.killAgent(a.h) })
	}
	switch x := act.(type) {
	case cluster.Start:
		a.start(op)
	case cluster.Restart:
		a.stop(op, func() { a.start(op) })
	case cluster.Stop:
		a.stop(op, func() { a.ends(op, "") })
	case cluster.Init:
		a.step1(op, a.w.between(100*ms, 500*ms), func() { a.init(op) })
	case cluster.Promote:
		a.promote(op, x)
	case cluster.Handover:
		a.handover(op, x.To)
	case cluster.Rewind:
		a.refresh(op, x.From, x.Term, func() {
			a.recover()
			a.step1(op, a.w.between(5*ms, 150*ms), func() { a.touch(op, x.From, x.Term, a.w.between(100*ms, 800*ms)) })
		})
	case cluster.Clone:
		a.refresh(op, x.From, x.Term, func() {
			a.w.truth.copies(a.h, x.Keep)
			a.step1(op, a.w.between(5*ms, 60*ms), func() { a.touch(op, x.From, x.Term, a.w.between(300*ms, 2*time.Second)) })
		})
	}
}

// step1 goes on after d unless the operation has ended or the agent died.
func (a *agent) step1(op *slowOp, d time.Duration, fn func()) {
	a.after(d, func() {
		if !op.over {
			fn()
		}
	})
}

// ends frees the slow lane, noting why it failed.
func (a *agent) ends(op *slowOp, why string) {
	if a.slow != op {
		return
	}
	a.slow, op.over = nil, true
	a.h.touching = false
	if op.cancelled {
		a.wake()
		return
	}
	if why != "" {
		a.w.trace(a.h.name, "failed to %s: %s", op.act, why)
		a.failed, a.failedAction, a.failedTerm = why, "", a.state.Term
		switch op.act.(type) {
		case cluster.Start, cluster.Restart:
			a.failedAction = "start"
		case cluster.Promote:
			a.failedAction = "promote"
		case cluster.Rewind:
			a.failedAction = "rewind"
		case cluster.Clone:
			a.failedAction = "clone"
		}
	} else {
		switch op.act.(type) {
		case cluster.Rewind, cluster.Clone:
			a.failed, a.failedAction, a.failedTerm = "", "", 0
		}
		if a.w.tracing() {
			a.w.trace(a.h.name, "done: %s", op.act)
		}
	}
	a.wake()
}

// start kills what is left of an earlier server, then starts a standby.
func (a *agent) start(op *slowOp) {
	h := a.h
	if h.pg != nil && !h.pg.dead && !h.pg.orphan {
		a.step1(op, ms, func() { a.ends(op, "") })
		return
	}
	h.kill()
	a.step1(op, a.w.between(20*ms, 120*ms), func() {
		switch {
		case h.zombie || h.stalled:
			a.step1(op, 50*ms, func() { a.start(op) })
		case h.disk.data != cluster.DataReady:
			a.ends(op, "no data")
		case a.w.mishap(a.w.plan.Refuse):
			a.step1(op, time.Second, func() { a.ends(op, "could not start server") })
		default:
			h.startStandby()
			a.step1(op, a.w.between(10*ms, 80*ms), func() { a.ends(op, "") })
		}
	})
}

// stop is a fast stop. It goes on though nobody waits for it any more.
func (a *agent) stop(op *slowOp, then func()) {
	s := a.h.pg
	if s == nil || s.dead {
		a.step1(op, ms, then)
		return
	}
	a.admitted = 0
	s.shutdown()
	var wait func()
	wait = func() {
		if s.dead {
			then()
			return
		}
		a.step1(op, 5*ms, wait)
	}
	wait()
}

// init makes a new cluster.
func (a *agent) init(op *slowOp) {
	h := a.h
	a.w.truth.touch(h)
	if h.disk.data != cluster.NoData {
		a.ends(op, "there is data")
		return
	}
	if st := a.w.store.snap.state; st != nil && st.SystemID != "" {
		// Another founder was faster: this one's empty cluster is foreign, and an operator has it removed.
		a.ends(op, "the cluster was founded by another member")
		return
	}
	br := &branch{tl: 1, system: h.name}
	h.disk.data, h.disk.wal, h.disk.highest, h.disk.names = cluster.DataReady, (*rec)(nil).after(br, 0), 1, cluster.NewRule(1)
	s := &server{h: h, up: true, br: br, insert: h.disk.wal, conf: h.disk.names, waits: true, term: 1}
	h.pg = s
	s.visible = h.disk.wal
	a.w.truth.promoted(s, false)
	a.ends(op, "")
	s.event()
}

// promote sets the names, skips the timelines below, and promotes. Once signalled, PostgreSQL goes on without us.
func (a *agent) promote(op *slowOp, x cluster.Promote) {
	w, h := a.w, a.h
	s := h.pg
	legit := func() bool {
		return s.accepting() && s.recovery && a.state.Term == x.Term && a.state.Phase == cluster.Elected && a.state.Primary == h.name
	}
	switch {
	case !legit():
		a.step1(op, ms, func() { a.ends(op, "not to be promoted") })
		return
	case h.disk.highest >= x.Timeline && !w.flaw(TimelineUnskipped):
		// It was promoted before and came back as a standby: PostgreSQL would take the next number.
		a.step1(op, ms, func() { a.ends(op, "the reserved timeline is already known here") })
		return
	}
	s.cut()
	h.sync(func(d time.Duration, fn func()) { a.step1(op, d, fn) }, func() {
		names := x.Rule
		if names.K > len(names.Of) {
			names = cluster.NewRule(max(names.K, 1))
		}
		if w.flaw(EmptyNames) {
			names = cluster.Rule{}
		}
		h.disk.names = names
		s.conf = names
		s.changes++
		if !w.flaw(TimelineUnskipped) {
			h.disk.highest = max(h.disk.highest, x.Timeline-1)
		}
		a.step1(op, w.between(ms, 20*ms), func() {
			if !legit() {
				a.ends(op, "the term is over")
				return
			}
			if w.mishap(0.03) {
				a.ends(op, "promotion did not take place")
				return
			}
			force := a.state.Force
			s.told = true
			takes := w.between(10*ms, 60*ms)
			if w.mishap(0.05) {
				takes += w.between(0, 2*time.Second)
			}
			s.after(takes, func() {
				s.promote(x.Term, force)
				s.named = s.insert.end()
			})
			a.step1(op, takes+w.between(2*ms, 30*ms), func() { a.ends(op, "") })
		})
	})
}

// handover prepares a switchover and ends with the primary stopped, or as it was.
func (a *agent) handover(op *slowOp, to string) {
	w, s := a.w, a.h.pg
	if !s.accepting() || s.recovery {
		a.step1(op, ms, func() { a.ends(op, "not serving") })
		return
	}
	id := ""
	if r := a.snap.request; r != nil {
		id = r.ID
	}
	s.holding = true
	tries := 0
	var wait func()
	wait = func() {
		tries++
		caught := to == a.h.name || slices.ContainsFunc(s.senders, func(x *sender) bool {
			return x.name == to && x.live && x.flush+2048 >= a.h.disk.wal.lsn
		})
		switch {
		case s.dead:
			a.ends(op, "the server is gone")
		case caught:
			a.w.store.do(a, begun(id, to), func(o outcome, _ *snap) {
				switch {
				case op.over:
				case o != applied:
					s.holding = false
					a.ends(op, "the request was withdrawn")
				default:
					a.stop(op, func() { a.ends(op, "") })
				}
			})
		case tries > 100:
			s.holding = false
			a.ends(op, to+" does not catch up")
		default:
			a.step1(op, 10*ms, wait)
		}
	}
	a.step1(op, w.between(10*ms, 50*ms), wait)
}

// begun notes in the request that the target has caught up: from now on new connections wait.
func begun(id, to string) func(*snap) bool {
	return func(s *snap) bool {
		if s.request == nil || s.request.ID != id {
			return false
		}
		r := *s.request
		r.Begun, r.To, r.Revision = true, to, s.rev
		s.request = &r
		return true
	}
}

// refresh reads the record linearizably right before data is touched, and gives up unless the term is the same and the
// rule leaves this member out.
func (a *agent) refresh(op *slowOp, from string, term cluster.Term, then func()) {
	a.w.store.do(a, read, func(o outcome, sn *snap) {
		if op.over {
			return
		}
		if o != unknown {
			a.learn(sn)
		}
		s := a.state
		fit := o != unknown && s.Term == term && s.Phase == cluster.Reigning && s.Primary == from && !s.Rule.Has(a.h.name)
		if !fit && !a.w.flaw(TouchUnchecked) {
			a.slow, op.over = nil, true
			a.after(20*ms, a.wake)
			return
		}
		a.relay.term = 0
		if a.relay.st != nil {
			a.relay.st.close()
		}
		then()
	})
}

// recover runs what has crashed as a standby for a moment, as pg_rewind wants it: it may be asked, and seen at its end of
// WAL, before it is touched.
func (a *agent) recover() {
	if h := a.h; (h.pg == nil || h.pg.dead) && !h.zombie && !h.stalled && h.disk.data == cluster.DataReady {
		h.startStandby()
	}
}

// touch replaces the data by the primary's, under the marker. That is written only while nothing above the term has been
// promised: under one lock with the promise.
func (a *agent) touch(op *slowOp, from string, term cluster.Term, d time.Duration) {
	h, w := a.h, a.w
	h.kill()
	if (op.cancelled || a.relay.floor > term) && !w.flaw(TouchLate) {
		a.slow, op.over = nil, true
		a.wake()
		return
	}
	src := w.host(from).pg
	if !src.accepting() || src.recovery || !w.both(h, src.h) {
		a.ends(op, "the source does not answer") // found out before anything is touched
		return
	}
	w.truth.touch(h)
	w.truth.touchIn(h, term)
	w.trace(h.name, "data is partial from now on")
	h.touching, h.disk.garbage = true, true
	if !w.flaw(NoMarker) {
		h.disk.data = cluster.DataPartial
	}
	left := 8
	var step func()
	step = func() {
		switch {
		case !src.accepting() || src.recovery || src != w.host(from).pg || !w.both(h, src.h) || w.mishap(0.01):
			a.ends(op, "the source is gone")
		case h.stalled:
			a.step1(op, 50*ms, step)
		case left > 0:
			left--
			a.step1(op, d/8, step)
		default:
			h.disk.garbage = false
			h.disk.data, h.disk.wal, h.disk.highest = cluster.DataReady, src.h.disk.wal, max(h.disk.highest, src.br.tl)
			h.disk.row, h.disk.rowTerm = src.h.disk.row, src.h.disk.rowTerm
			a.ends(op, "")
		}
	}
	step()
}
