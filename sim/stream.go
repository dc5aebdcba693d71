package sim

import (
	"cmp"
	"slices"
	"time"

	"standfast/cluster"
)

// sender is a WAL sender of a primary. It decides by its own copy of the rule whom it releases.
type sender struct {
	s     *server
	st    *stream
	name  string
	rule  cluster.Rule
	born  int // s.changes when it started
	live  bool
	flush cluster.LSN
	heard time.Duration
	sent  *rec
	ended bool
}

// receiver is a standby's WAL receiver.
type receiver struct {
	s        *server
	st       *stream // nil while it waits at the relay
	socket   *rec    // the end of what its socket holds
	flushing bool
	eof      bool
	gone     bool
}

// stream is a connection that a relay carries from a primary's sender to its own server's receiver.
type stream struct {
	w     *world
	snd   *sender
	to    *host
	relay *relay
	rcv   *receiver
	term  cluster.Term // for which the relay carries it
	cut   bool         // the relay has closed it
	busy  bool
	mute  bool // its RST will be lost
	own   bool // the receiver's server is on the sender's line
}

const (
	senderTimeout = 2 * time.Second // wal_sender_timeout
	relayTimeout  = 700 * ms        // of silence, after which a relay gives up a stream
)

func (s *server) newSender(st *stream, name string) *sender {
	x := &sender{s: s, st: st, name: name, rule: s.conf, born: s.changes, heard: s.h.w.now}
	s.senders = append(s.senders, x)
	s.h.w.truth.covered()
	s.event()
	x.tick()
	return x
}

// tick sends a keepalive, and gives up a receiver that no longer answers.
func (x *sender) tick() {
	x.s.after(200*ms, func() {
		if x.ended {
			return
		}
		if x.s.h.w.now-x.heard > senderTimeout {
			x.end(true)
			return
		}
		x.push()
		x.tick()
	})
}

// end ends the sender. Told: its peer is sent a FIN.
func (x *sender) end(told bool) {
	if x.ended {
		return
	}
	x.ended = true
	x.s.senders = slices.DeleteFunc(x.s.senders, func(o *sender) bool { return o == x })
	x.s.event()
	if told && x.s.h.on {
		x.st.w.stream(x.s.h, x.st.to, func() bool { return true }, func() { x.st.relay.a.after(0, x.st.close) })
	}
}

// push sends what is flushed here, or a keepalive.
func (x *sender) push() {
	st := x.st
	if st.busy || x.ended {
		return
	}
	st.busy = true
	target := x.s.h.disk.wal
	st.w.stream(x.s.h, st.to, func() bool { return !x.ended && !st.cut }, func() {
		st.relay.a.after(0, func() { st.arrive(target) })
	})
}

// arrive is WAL at the member's relay, which hands it to the receiver's socket.
func (st *stream) arrive(target *rec) {
	st.busy = false
	if st.cut {
		return
	}
	st.relay.heard, st.relay.stirred = st.to.clock(), st.w.now
	if !st.rcv.gone {
		st.rcv.socket = target
		st.rcv.work()
	}
	if !st.snd.ended && st.snd.s.h.disk.wal != target {
		st.snd.push()
	}
}

// close is the relay closing the stream on both sides, or finding it closed.
func (st *stream) close() {
	if st.cut {
		return
	}
	st.cut = true
	if st.relay.st == st {
		st.relay.st = nil
	}
	st.rcv.eof = true
	st.rcv.s.after(0, st.rcv.work)
	if st.to.on && !st.mute { // an RST, which is never sent again: lost, it leaves the sender half-open
		st.w.stream(st.to, st.snd.s.h, func() bool { return false }, func() { st.snd.s.after(0, func() { st.snd.end(false) }) })
	}
}

// begin is the receiver's first report: its replay position, whatever the timeline.
func (st *stream) begin() {
	s := st.rcv.s
	s.streamed = true
	st.reply(s.replayed.end())
	st.own = s.h.disk.wal.in(st.snd.s.h.disk.wal)
	if !st.own {
		// PostgreSQL finds out that the timelines differ, soon but not at once.
		s.after(st.w.between(5*ms, 60*ms), func() { st.close() })
	}
	st.snd.push()
}

// reply tells the sender what is flushed.
func (st *stream) reply(lsn cluster.LSN) {
	if st.cut {
		return
	}
	alive := func() bool { return !st.cut && !st.snd.ended }
	st.relay.a.after(0, func() {
		if st.cut {
			return
		}
		st.w.stream(st.to, st.snd.s.h, alive, func() { st.snd.s.after(0, func() { st.snd.reported(lsn) }) })
	})
}

// reported releases whoever waited for this, by this sender's copy of the rule.
func (x *sender) reported(lsn cluster.LSN) {
	if x.ended {
		return
	}
	s := x.s
	fresh := !x.live || x.flush != lsn
	x.live, x.flush, x.heard = true, lsn, s.h.w.now
	if x.rule.Has(x.name) && x.rule.K > 0 {
		var all []cluster.LSN
		for _, o := range s.senders {
			if o.live && o.rule.K > 0 && o.rule.Has(o.name) {
				all = append(all, o.flush)
			}
		}
		slices.SortFunc(all, func(a, b cluster.LSN) int { return cmp.Compare(b, a) })
		if len(all) >= x.rule.K {
			s.release(all[x.rule.K-1])
		}
	}
	if fresh && s.h.agent != nil && (s.h.agent.admitted == 0 || s.h.w.chance(0.05)) {
		s.event()
	}
}

// work is the receiver's loop: flush what the socket holds, report, and exit when the socket is at its end.
func (r *receiver) work() {
	if r.gone || r.flushing {
		return
	}
	d := &r.s.h.disk
	switch {
	case r.socket != nil && r.st.own && !r.socket.in(d.wal):
		r.flushing = true
		target := r.socket
		r.s.h.sync(r.s.after, func() { r.flushed(target) })
	case r.eof:
		r.exit()
	case r.st != nil && r.socket != nil && r.st.own:
		r.st.reply(d.wal.end())
	}
}

func (r *receiver) flushed(target *rec) {
	r.flushing = false
	d := &r.s.h.disk
	if r.gone || !d.wal.in(target) {
		r.exit()
		return
	}
	r.s.h.w.truth.flushing(r.s.h, r.st.term, target)
	d.wal = target
	d.highest = max(d.highest, target.br.tl)
	if row := r.st.snd.s.h.disk.row; row != nil && row.in(target) {
		d.row, d.rowTerm = row, r.st.snd.s.h.disk.rowTerm
	}
	r.st.reply(target.lsn)
	r.s.replay()
	r.work()
}

// exit ends the receiver's process; the startup process will ask for another.
func (r *receiver) exit() {
	if r.gone {
		return
	}
	r.gone = true
	if r.s.recv == r {
		r.s.recv = nil
	}
	if r.st != nil {
		r.st.close()
	}
	r.s.event()
	r.s.after(r.s.h.w.between(2*ms, 30*ms), r.s.replay)
}

// replay is the startup process: it applies what is in pg_wal and, when that is exhausted, asks for a WAL receiver.
func (s *server) replay() {
	w := s.h.w
	if !s.recovery || s.replaying || s.orphan || s.stopping {
		return
	}
	s.h.w.restore(s.h)
	if s.replayed != s.h.disk.wal {
		s.replaying = true
		target := s.h.disk.wal
		d := w.between(200*time.Microsecond, 4*ms)
		if w.mishap(0.01) {
			d += w.between(0, time.Second) // a long query on the standby
		}
		s.after(d, func() {
			s.replaying = false
			s.replayed = target
			s.replay()
		})
		return
	}
	if s.recv == nil && s.up {
		r := &receiver{s: s}
		s.recv = r
		s.after(w.between(ms, 20*ms), func() { s.connect(r) })
	}
}

// connect is a new WAL receiver at the relay's socket.
func (s *server) connect(r *receiver) {
	if r.gone {
		return
	}
	if s.h.agent == nil {
		s.after(s.h.w.between(50*ms, 200*ms), func() { r.exit() })
		return
	}
	rel := s.h.agent.relay
	s.h.agent.after(0, func() { rel.accept(r) })
}
