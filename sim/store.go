package sim

import (
	"time"

	"standfast/cluster"
)

// snap is everything that the store holds, at one revision. It is never changed, only followed by another.
type snap struct {
	rev      int64
	state    *cluster.State
	reports  []cluster.Report // by host
	request  *cluster.Request
	members  []cluster.Member
	settings cluster.Settings
}

func (s *snap) term() cluster.Term {
	if s.state == nil {
		return 0
	}
	return s.state.Term
}

// store is the linearizable store that runs on the members' hosts.
type store struct {
	w    *world
	snap *snap
	down bool // an outage of all of it
}

// outcome of an operation: the store may have carried out what it never answered.
type outcome uint8

const (
	applied outcome = iota
	conflict
	unknown
)

func newStore(w *world) *store {
	p := w.plan
	st := &store{w: w, snap: &snap{settings: p.settings()}}
	for i := range p.Data + p.Witness {
		m := cluster.Member{Name: memberName(i), Kind: cluster.Data, Priority: 100}
		if i >= p.Data {
			m.Kind, m.Priority = cluster.Witness, 0
		}
		st.snap.members = append(st.snap.members, m)
	}
	st.snap.reports = make([]cluster.Report, len(st.snap.members))
	return st
}

// serves reports whether the host's part of the store works.
func (st *store) serves(h *host) bool { return h.on && !h.paused && !h.stalled && !h.mute && !st.down }

// reachable reports whether the host can converse with a member of the store that sees a majority.
func (st *store) reachable(h *host) bool {
	for _, l := range st.w.hosts {
		if !st.serves(l) || !st.w.both(h, l) {
			continue
		}
		n := 0
		for _, o := range st.w.hosts {
			if st.serves(o) && st.w.both(l, o) {
				n++
			}
		}
		if n > len(st.w.hosts)/2 {
			return true
		}
	}
	return false
}

// change applies fn to a copy of the content, unless it declines, and tells the watchers.
func (st *store) change(fn func(*snap) bool) bool {
	next := *st.snap
	next.rev++
	if !fn(&next) {
		return false
	}
	old := st.snap
	st.snap = &next
	if old.state != next.state {
		st.w.truth.recorded(old.state, next.state)
	}
	for _, h := range st.w.hosts {
		st.notify(h)
	}
	return true
}

// notify delivers the watch event to one member, late or not at all.
func (st *store) notify(h *host) {
	d := st.w.between(ms/2, 6*ms)
	if st.w.mishap(0.03) {
		d += st.w.between(0, 2*time.Second)
	}
	news := st.snap
	st.w.after(d, func() {
		if h.agent != nil && st.reachable(h) {
			h.agent.after(0, func() { h.agent.learn(news) })
		}
	})
}

// do carries out one operation for an agent. done is called once, with the content that an answer showed.
func (st *store) do(a *agent, fn func(*snap) bool, done func(outcome, *snap)) {
	w := st.w
	answered := false
	answer := func(o outcome, s *snap) {
		if !answered {
			answered = true
			done(o, s)
		}
	}
	a.after(a.h.span(time.Second), func() { answer(unknown, nil) })
	w.after(w.between(ms/2, 4*ms), func() {
		if !st.reachable(a.h) || !a.h.on {
			if w.chance(0.3) { // a proposal that waits for a leader
				w.after(w.between(0, 1500*ms), func() {
					if !st.down {
						st.change(fn)
					}
				})
			}
			return
		}
		o, lost := applied, w.mishap(0.01)
		if !st.change(fn) {
			o = conflict
		}
		seen := st.snap
		w.after(w.between(ms/2, 4*ms), func() {
			if !lost && st.reachable(a.h) {
				a.after(0, func() { answer(o, seen) })
			}
		})
	})
}

// write is a compare-and-swap of the record. One that took effect without the writer's knowing is a conflict when it is
// repeated.
func write(next cluster.State) func(*snap) bool {
	return func(s *snap) bool {
		have := int64(0)
		if s.state != nil {
			have = s.state.Revision
		}
		if have != next.Revision {
			return false
		}
		n := next
		n.Revision = s.rev
		s.state = &n
		return true
	}
}

// overwrite is write without the comparison, which no executor may do.
func overwrite(next cluster.State) func(*snap) bool {
	return func(s *snap) bool {
		n := next
		n.Revision = s.rev
		s.state = &n
		return true
	}
}

// read changes nothing.
func read(*snap) bool { return false }
