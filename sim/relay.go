package sim

import (
	"time"

	"standfast/cluster"
)

// relay is the local end that the member's WAL receiver connects to.
type relay struct {
	a       *agent
	term    cluster.Term // 0: closed
	floor   cluster.Term
	shown   bool // term is told in the view
	primary string
	tl      cluster.Timeline
	waiting *receiver // connected and not carried
	st      *stream
	heard   cluster.Instant // from the primary's PostgreSQL, host clock
	stirred time.Duration   // from the stream, true time
}

// raise lets nothing of an earlier term through any more.
func (r *relay) raise(t cluster.Term) {
	r.floor = t
	if r.term >= t {
		return
	}
	if r.a.w.flaw(FloorKept) {
		r.shown = false // what is carried is closed, but the next dial still goes to the old primary
	} else {
		r.term = 0
	}
	if r.st != nil {
		r.st.close()
	}
	r.a.wake()
}

// open carries from the term's primary from now on.
func (r *relay) open(t cluster.Term, primary string, tl cluster.Timeline) {
	r.term, r.primary, r.tl, r.shown = t, primary, tl, true
	r.stirred = r.a.w.now
	if r.st != nil && r.st.term != t {
		r.st.close()
	}
	if r.waiting != nil {
		r.dial(r.waiting)
	}
}

// accept takes a new receiver's connection: carried if the relay is open, held otherwise.
func (r *relay) accept(x *receiver) {
	if x.gone || x.s.dead {
		return
	}
	r.waiting = x
	if r.term != 0 {
		r.dial(x)
	}
	r.a.wake()
}

// dial connects to the primary's PostgreSQL. The promise may rise while it is under way: the term is checked again
// before the first byte.
func (r *relay) dial(x *receiver) {
	w, h := r.a.w, r.a.h
	term, tl, to := r.term, r.tl, w.host(r.primary)
	r.a.after(w.delay(h, to)+w.delay(to, h)+w.between(0, 3*ms), func() {
		if r.waiting != x || x.gone || x.s.dead {
			return
		}
		if r.term != term && !w.flaw(DialUnchecked) {
			if r.term != 0 {
				r.dial(x)
			}
			return
		}
		s := to.pg
		if !w.both(h, to) || to.paused || !s.accepting() || s.recovery || s.br.tl != tl && !w.flaw(DialAnywhere) || s.slotTaken(h.name) {
			r.a.after(w.between(30*ms, 100*ms), func() {
				if r.waiting == x && r.term != 0 {
					r.dial(x)
				}
			})
			return
		}
		r.waiting = nil
		st := &stream{w: w, to: h, relay: r, rcv: x, term: term}
		x.st, r.st = st, st
		r.stirred = w.now
		st.snd = s.newSender(st, h.name)
		x.s.after(0, st.begin)
	})
}

// slotTaken reports whether another sender holds the member's slot: there is one stream per member, or it would count
// twice.
func (s *server) slotTaken(name string) bool {
	if s.h.w.flaw(SharedSlots) {
		return false
	}
	for _, x := range s.senders {
		if x.name == name {
			return true
		}
	}
	return false
}

// check gives up a stream that has been silent too long: the other end may be gone without a word.
func (r *relay) check() {
	if r.st != nil && r.a.w.now-r.stirred > relayTimeout {
		r.st.close()
	}
	if r.waiting != nil && (r.waiting.gone || r.waiting.s.dead) {
		r.waiting = nil
	}
}

// view is what the agent sees of it.
func (r *relay) view() cluster.Relay {
	v := cluster.Relay{Heard: r.heard}
	if r.shown {
		v.Term = r.term
	}
	if v.Term == 0 {
		s := r.a.h.pg
		v.Held = r.waiting != nil && !r.waiting.gone && !r.waiting.s.dead
		v.Gone = s != nil && !s.dead && s.recv == nil && s.streamed
	}
	return v
}

// die is the end of the agent's process: the kernel closes its sockets.
func (r *relay) die() {
	if r.st != nil {
		r.st.close()
	}
	if s := r.a.h.pg; s != nil && !s.dead && s.recv != nil && s.recv.st == nil {
		x := s.recv // it waits, or its connection was not even accepted
		x.eof = true
		s.after(0, x.work)
	}
}
