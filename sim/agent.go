package sim

import (
	"slices"
	"time"

	"standfast/cluster"
	"standfast/decide"
)

// agent is one life of the agent's process on a host.
type agent struct {
	w     *world
	h     *host
	epoch int
	relay *relay

	snap      *snap
	state     *cluster.State // newest record known, possibly its own write
	okAt      cluster.Instant
	leaseAt   cluster.Instant
	leaseOf   cluster.Term
	leaseSent time.Duration // of the newest check, true time
	checking  bool
	unsure    bool // the outcome of the newest write is unknown

	promised      cluster.Term
	admitted      cluster.Term
	since         cluster.Instant
	electingSince cluster.Instant
	electingTerm  cluster.Term
	lastFlap      cluster.Instant
	unmetSince    cluster.Instant
	shunnedSince  cluster.Instant
	failed        string
	failedAction  string
	failedTerm    cluster.Term
	peers         map[string]cluster.Peer
	seq           uint64
	route         cluster.Route
	beat          cluster.Beat
	requestSince  cluster.Instant
	asked         string // the newest request that the store has acknowledged to it

	woken   bool
	list    []cluster.Action // what is left of it
	running cluster.Action   // on the fast lane
	run     int              // which; an answer to another is late
	again   bool             // the view changed while it ran
	slow    *slowOp
	prev    string // what was carried out last, to tell a repetition
}

// slowOp is an action on the slow lane.
type slowOp struct {
	act       cluster.Action
	cancelled bool // told to end
	over      bool // has ended: it does nothing any more
}

func newAgent(h *host) *agent {
	a := &agent{
		w: h.w, h: h, epoch: h.agents, snap: &snap{}, promised: h.disk.promised,
		since: h.clock(), peers: map[string]cluster.Peer{},
	}
	a.snap.members, a.snap.settings = h.w.store.snap.members, h.w.store.snap.settings // from its own file
	a.relay = &relay{a: a, floor: a.promised, shown: true}
	return a
}

// begin adopts what runs and starts ticking. WAL senders older than the newest change of the names are ended, as the
// earlier agent may not have come to it.
func (a *agent) begin() {
	a.endPromotion()
	if s := a.h.pg; s != nil && !s.dead {
		for _, x := range slices.Clone(s.senders) {
			if x.born < s.changes && !a.w.flaw(KeepOldSenders) {
				x.end(true)
			}
		}
		a.after(50*ms, func() { s.knowNames() })
	}
	a.tick()
	a.check()
}

func (a *agent) after(d time.Duration, fn func()) {
	a.w.push(event{at: a.w.now + d, fn: fn, h: a.h, epoch: a.epoch, proc: agentProc})
}

// die is the end of the process, by a signal or with its host.
func (a *agent) die() {
	a.h.agent = nil
	a.relay.die()
	a.dropSlow()
	a.h.deferred = slices.DeleteFunc(a.h.deferred, func(e event) bool { return e.proc == agentProc })
}

// tick is what happens ten times a second whether or not anything changed.
func (a *agent) tick() {
	a.after(a.h.span(100*ms), a.tick)
	a.feed()
	a.relay.check()
	a.sendBeats()
	a.wake()
}

// feed keeps the guard from acting. Where nothing but the lease binds a primary to others' consent, or nothing is known
// yet, it counts from the newest store check of this life that succeeded, from when that was sent.
func (a *agent) feed() {
	if decide.Unclaimed(a.view()) {
		a.h.fed = a.w.now // no cluster answers for what runs yet
		return
	}
	s := a.h.pg
	alone := a.state == nil && !decide.MayServe(a.view()) || a.state != nil && a.state.Rule.K == 0
	if s == nil || s.dead || s.recovery || !alone || a.w.flaw(FedRegardless) {
		a.h.fed = a.w.now
		return
	}
	a.h.fed = max(a.h.fed, a.leaseSent)
}

// check reads the store linearizably three times a second: the lease and StoreOK.
func (a *agent) check() {
	a.after(a.h.span(300*ms), a.check)
	if a.checking {
		return
	}
	a.checking = true
	sent, since := a.h.clock(), a.w.now
	a.w.store.do(a, read, func(o outcome, s *snap) {
		a.checking = false
		if o != unknown {
			a.learn(s)
			a.checked(sent)
			a.leaseSent = since
		}
	})
}

func (a *agent) checked(sent cluster.Instant) {
	a.okAt = a.h.clock()
	if a.state != nil {
		a.leaseAt, a.leaseOf = sent, a.state.Term
	}
}

// learn takes what the store tells if it is newer.
func (a *agent) learn(s *snap) {
	if s.rev <= a.snap.rev && a.snap.rev > 0 {
		return
	}
	if r := s.request; r != nil && (a.snap.request == nil || a.snap.request.ID != r.ID) {
		a.requestSince = a.h.clock()
	}
	a.snap = s
	if s.state != nil {
		a.know(s.state)
	}
	a.wake()
}

// know takes a record if it is newer, and notes what its arrival means.
func (a *agent) know(s *cluster.State) {
	if a.state != nil && s.Revision <= a.state.Revision {
		return
	}
	if a.state != nil && s.Term > a.state.Term {
		p := a.peers[a.state.Primary]
		if p.Heard > 0 && a.h.clock()-p.Heard < a.snap.settings.Detect {
			a.lastFlap = a.h.clock()
		}
	}
	a.state = s
	if s.Phase == cluster.Electing && a.electingTerm != s.Term {
		a.electingTerm, a.electingSince = s.Term, a.h.clock()
	}
}

// sendBeats tells every other member what this one is.
func (a *agent) sendBeats() {
	b := a.w.cfg.Brain.Beat(a.view())
	a.seq++
	b.Incarnation, b.Seq = uint64(a.epoch), a.seq
	a.beat = b
	for _, o := range a.w.hosts {
		if o != a.h {
			a.w.datagram(a.h, o, func() { o.agent.hear(b) })
		}
	}
}

// hear takes a beat unless a newer one of the sender's has been heard.
func (a *agent) hear(b cluster.Beat) {
	old := a.peers[b.From].Beat
	if b.Incarnation < old.Incarnation || b.Incarnation == old.Incarnation && b.Seq <= old.Seq {
		return
	}
	a.peers[b.From] = cluster.Peer{Beat: b, Heard: a.h.clock()}
	if b.Term != old.Term || b.Admitted != old.Admitted || b.Attached != old.Attached || b.NeedsOut != old.NeedsOut ||
		b.Up != old.Up || len(b.Suspects) != len(old.Suspects) || b.Data != old.Data {
		a.wake()
	}
}
