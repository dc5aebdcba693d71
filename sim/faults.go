package sim

import (
	"fmt"
	"slices"
	"time"

	"standfast/cluster"
)

// faults are what may happen, each to a target and for a time drawn from the seed.
var faults = []struct {
	name string
	do   func(*world)
}{
	{"power", func(w *world) { w.power(w.anyHost()) }},
	{"power-primary", func(w *world) { w.power(w.primary()) }},
	{"power-all", func(w *world) {
		for _, h := range w.hosts {
			w.power(h)
		}
	}},
	{"pause", func(w *world) { w.pauseHost(w.anyHost()) }},
	{"pause-primary", func(w *world) { w.pauseHost(w.primary()) }},
	{"agent-kill", func(w *world) { w.killAgent(w.anyHost()) }},
	{"agent-pause", func(w *world) { w.pauseAgent(w.anyHost(), w.between(50*ms, 6*time.Second)) }},
	{"agent-pause-primary", func(w *world) { w.pauseAgent(w.primary(), w.between(50*ms, 9*time.Second)) }},
	{"postmaster", func(w *world) {
		if h := w.primary(); h.pg.accepting() {
			w.trace(h.name, "postmaster is killed, its children live on")
			h.pg.orphaned()
		}
	}},
	{"postgres", func(w *world) {
		h := w.anyHost()
		w.trace(h.name, "PostgreSQL is killed")
		h.kill()
	}},
	{"stream", func(w *world) {
		if s := w.primary().pg; s != nil && len(s.senders) > 0 {
			s.senders[0].end(true)
		}
	}},
	{"half-open", func(w *world) {
		if s := w.primary().pg; s != nil && len(s.senders) > 0 {
			st := s.senders[w.rng.IntN(len(s.senders))].st
			w.trace(st.to.name, "its stream ends without the primary's knowing")
			st.mute = true
			st.close()
		}
	}},
	{"uneven", func(w *world) {
		p := w.primary()
		for _, h := range w.hosts {
			if h != p && w.chance(0.7) {
				l := &w.links[p.id][h.id]
				l.slow = w.between(100*ms, 600*ms)
				w.after(w.between(500*ms, 3*time.Second), func() { l.slow = 0 })
			}
		}
	}},
	{"isolate", func(w *world) { w.isolate(w.anyHost()) }},
	{"isolate-primary", func(w *world) { w.isolate(w.primary()) }},
	{"deaf", func(w *world) { w.deafen(w.anyHost()) }},
	{"deaf-primary", func(w *world) { w.deafen(w.primary()) }},
	{"cut-pair", func(w *world) { w.cutPair(true) }},
	{"cut-one-way", func(w *world) { w.cutPair(false) }},
	{"loss", func(w *world) { w.weather(func(l *link, on bool) { l.loss = when(on, 0.3) }) }},
	{"slow", func(w *world) {
		d := w.between(5*ms, 200*ms)
		w.weather(func(l *link, on bool) { l.slow = when(on, d) })
	}},
	{"disk-hangs", func(w *world) { w.hang(w.anyHost()) }},
	{"disk-hangs-primary", func(w *world) { w.hang(w.primary()) }},
	{"disk-lost", func(w *world) { w.loseDisk() }},
	{"store-outage", func(w *world) {
		w.store.down = true
		w.after(w.between(100*ms, 5*time.Second), func() { w.store.down = false })
	}},
	{"switchover", func(w *world) { w.ask(cluster.Switchover) }},
	{"failover", func(w *world) { w.ask(cluster.Failover) }},
	{"copies", func(w *world) { w.copies() }},
	{"candidate", func(w *world) { w.candidate() }},
	{"paused-mode", func(w *world) {
		w.configure(func(s *snap) { s.settings.Paused = !s.settings.Paused })
	}},
	{"standby-data", func(w *world) { w.spoil() }},
	{"there-and-back", func(w *world) { w.thereAndBack() }},
	{"bystander-lost", func(w *world) { w.loseBystander() }},
	{"turn-amid-touch", func(w *world) { w.turnAmidTouch(200) }},
}

func everyFault() []string {
	var out []string
	for _, f := range faults {
		out = append(out, f.name)
	}
	return out
}

func when[T any](on bool, x T) T {
	var zero T
	if on {
		return x
	}
	return zero
}

// schedule draws the faults of the whole run one after another.
func (w *world) schedule() {
	var next func()
	next = func() {
		if w.calm {
			return
		}
		name := w.plan.Faults[w.rng.IntN(len(w.plan.Faults))]
		for _, f := range faults {
			if f.name == name {
				w.trace("----", "%s", name)
				f.do(w)
			}
		}
		w.after(time.Duration(w.rng.ExpFloat64()*float64(w.plan.Every)), next)
	}
	if len(w.plan.Faults) > 0 {
		w.after(w.plan.Start, next)
	}
}

func (w *world) anyHost() *host { return w.hosts[w.rng.IntN(len(w.hosts))] }

// primary is the host of the recorded primary, or any.
func (w *world) primary() *host {
	if s := w.store.snap.state; s != nil && s.Primary != "" {
		return w.host(s.Primary)
	}
	return w.anyHost()
}

func (w *world) power(h *host) {
	h.crash()
	w.after(w.between(100*ms, 8*time.Second), func() {
		if !h.on {
			h.boot()
		}
	})
}

func (w *world) pauseHost(h *host) {
	if !h.on || h.paused {
		return
	}
	h.pause()
	boots := h.boots
	w.after(w.between(20*ms, 8*time.Second), func() {
		if h.boots == boots && h.paused && h.on {
			h.resume()
		}
	})
}

func (w *world) killAgent(h *host) {
	if h.agent == nil || w.calm {
		return
	}
	w.trace(h.name, "agent is killed")
	h.agent.die()
	w.after(w.between(10*ms, 3*time.Second), h.startAgent)
}

func (w *world) pauseAgent(h *host, d time.Duration) {
	if h.agent == nil || h.agentPaused || w.calm {
		return
	}
	w.trace(h.name, "agent is stopped")
	h.agentPaused = true
	a := h.agent
	w.after(d, func() {
		if h.agent == a {
			w.trace(h.name, "agent goes on")
			h.agentPaused = false
			h.undefer()
		}
	})
}

func (w *world) isolate(h *host) {
	both := w.chance(0.7)
	for _, o := range w.hosts {
		if o != h {
			w.cut(h, o)
			if both {
				w.cut(o, h)
			}
		}
	}
	w.trace(h.name, "is cut off (both ways: %v)", both)
}

// deafen has a host hear nobody and be heard by all, as with a broken receiver in its network card.
func (w *world) deafen(h *host) {
	w.trace(h.name, "hears nobody")
	d := w.between(100*ms, 12*time.Second)
	for _, o := range w.hosts {
		if o != h {
			w.cutFor(o, h, d)
		}
	}
}

func (w *world) cutPair(both bool) {
	i, j := w.anyHost(), w.anyHost()
	if i == j {
		return
	}
	w.trace(i.name, "is cut off from %s (both ways: %v)", j.name, both)
	w.cut(i, j)
	if both {
		w.cut(j, i)
	}
}

// cut holds one direction down for a while.
func (w *world) cut(i, j *host) { w.cutFor(i, j, w.between(100*ms, 8*time.Second)) }

func (w *world) cutFor(i, j *host, d time.Duration) {
	l := &w.links[i.id][j.id]
	l.cuts++
	w.after(d, func() { l.cuts = max(0, l.cuts-1) })
}

// weather changes every link for a while.
func (w *world) weather(set func(l *link, on bool)) {
	each := func(on bool) {
		for i := range w.links {
			for j := range w.links[i] {
				set(&w.links[i][j], on)
			}
		}
	}
	each(true)
	w.after(w.between(500*ms, 5*time.Second), func() { each(false) })
}

func (w *world) hang(h *host) {
	if !h.on || h.stalled {
		return
	}
	h.stall()
	boots := h.boots
	w.after(w.between(50*ms, 5*time.Second), func() {
		if h.stalled && h.boots == boots {
			h.unstall()
		}
	})
}

// loseDisk takes a disk for good, as long as no more than k hosts are lost in all.
func (w *world) loseDisk() {
	h, st := w.hosts[w.rng.IntN(w.plan.Data)], w.store.snap.state
	if w.truth.disksLost >= w.plan.Copies || w.plan.Single || w.plan.Durability == cluster.Async || st == nil || h.disk.data == cluster.NoData {
		return
	}
	if p := w.primary().pg; st.Rule.K <= w.truth.disksLost || p == nil || p.dead || !st.Rule.Met(p.streams) {
		return // too few copies just now, as status tells: one more loss is one too many
	}
	h.crash()
	h.lose()
	w.after(w.between(100*ms, 5*time.Second), func() {
		if !h.on {
			h.boot()
		}
	})
}

// spoil makes a member's data such that it has to be fetched anew: an operator moved it away by mistake while the
// member did not count.
func (w *world) spoil() {
	h := w.hosts[w.rng.IntN(w.plan.Data)]
	st := w.store.snap.state
	if st == nil || st.Phase != cluster.Reigning || st.Primary == h.name || st.Rule.Has(h.name) || h.touching || w.truth.newest.h == h || h.agent == nil || h.agent.relay.st != nil {
		return
	}
	h.kill()
	h.disk.data, h.disk.garbage = cluster.DataPartial, true
}

// loseBystander brings together what alone does no harm: the streams of the members that count end without the
// primary's noticing and come back late, one that streams and does not count takes what they lack, is cut off without
// the primary's noticing and loses its data, and is made to count.
func (w *world) loseBystander() {
	p, st := w.primary(), w.store.snap.state
	if p.pg == nil || p.pg.dead || st == nil || st.Phase != cluster.Reigning {
		return
	}
	for _, x := range p.pg.senders {
		if h := x.st.to; x.live && !st.Rule.Has(h.name) && h.agent != nil && h.agent.relay.st == x.st {
			for _, o := range slices.Clone(p.pg.senders) {
				if st.Rule.Has(o.name) {
					o.st.mute = true
					o.st.close()
					l := &w.links[p.id][w.host(o.name).id]
					l.slow = w.between(300*ms, 650*ms) // too short for the primary to be missed
					w.after(time.Second, func() { l.slow = 0 })
				}
			}
			w.after(w.between(50*ms, 250*ms), func() { w.loseSilently(x) })
			return
		}
	}
}

// loseSilently takes the data of the member that the sender sends to, unless it counts by now.
func (w *world) loseSilently(x *sender) {
	h, st := x.st.to, w.store.snap.state
	if x.ended || x.st.cut || !h.on || h.paused || h.touching || st.Phase != cluster.Reigning || st.Rule.Has(h.name) || w.truth.newest != x.s {
		return
	}
	w.trace(h.name, "is lost while it does not count")
	for _, o := range w.hosts {
		if o != h {
			w.cut(h, o)
			w.cut(o, h)
		}
	}
	x.st.mute = true
	x.st.close()
	h.kill()
	h.disk.data, h.disk.garbage = cluster.DataPartial, true
	w.after(w.between(0, 100*ms), func() {
		w.configure(func(s *snap) { s.members[h.id].Priority = 100 })
	})
}

// thereAndBack has one standby run ahead of the others and be cut off, an operator make another member the primary and
// then the first one again, and the standby reach that one alone, at the address that it knows.
func (w *world) thereAndBack() {
	p := w.primary()
	if p.pg == nil || p.pg.dead || len(p.pg.senders) < 2 || w.store.snap.state == nil {
		return
	}
	ahead := p.pg.senders[w.rng.IntN(len(p.pg.senders))].st.to
	for _, o := range w.hosts {
		if o != p && o != ahead {
			l := &w.links[p.id][o.id]
			l.slow = w.between(time.Second, 2*time.Second)
			w.after(l.slow, func() { l.slow = 0 })
		}
	}
	w.after(w.between(700*ms, 1500*ms), func() {
		w.trace(ahead.name, "is cut off while %s goes and comes back", p.name)
		for _, o := range w.hosts {
			if o != ahead {
				w.cut(ahead, o)
				w.cut(o, ahead)
			}
		}
		w.request(cluster.Failover, "")
		w.comeBack(p, ahead, 60)
	})
}

// comeBack makes p the primary again as soon as it follows another, and then joins the standby to it.
func (w *world) comeBack(p, ahead *host, tries int) {
	st := w.store.snap.state
	if tries == 0 || p.agent == nil || st == nil {
		return
	}
	switch {
	case st.Primary == p.name && st.Phase == cluster.Reigning && tries < 50:
		w.links[p.id][ahead.id].cuts, w.links[ahead.id][p.id].cuts = 0, 0
		return
	case st.Phase == cluster.Reigning && st.Primary != p.name && p.agent.relay.st != nil:
		w.request(cluster.Failover, p.name)
	}
	w.after(50*ms, func() { w.comeBack(p, ahead, tries-1) })
}

// turnAmidTouch has an operator ask for another primary at the moment that a member has leave to rewind or clone its data
// and has not begun to.
func (w *world) turnAmidTouch(tries int) {
	for _, h := range w.hosts {
		if a := h.agent; a != nil && a.slow != nil && touches(a.slow.act) && !a.slow.cancelled && !h.touching {
			w.after(w.between(0, 40*ms), func() { w.request(cluster.Failover, "") })
			return
		}
	}
	if tries > 0 && !w.calm {
		w.after(5*ms, func() { w.turnAmidTouch(tries - 1) })
	}
}

// ask is an operator's request, of any member.
func (w *world) ask(kind cluster.RequestKind) {
	to := ""
	if w.chance(0.5) {
		to = w.hosts[w.rng.IntN(w.plan.Data)].name
	}
	w.request(kind, to)
}

// request has an operator ask one of the members whose agents live.
func (w *world) request(kind cluster.RequestKind, to string) {
	var there []*agent
	for _, h := range w.hosts {
		if h.agent != nil && h.agent.state != nil {
			there = append(there, h.agent)
		}
	}
	if len(there) > 0 {
		there[w.rng.IntN(len(there))].request(kind, to)
	}
}

// request records an operator's wish over what is there, and stands by it only if the store says in time that it has. By is
// different for each, so that what came of it is seen in the record.
func (a *agent) request(kind cluster.RequestKind, to string) {
	w := a.w
	w.asked++
	r := cluster.Request{ID: fmt.Sprint(w.asked), Kind: kind, Term: a.state.Term, To: to, By: fmt.Sprintf("operator %d", w.asked), From: a.h.name}
	old := int64(0)
	if q := a.snap.request; q != nil {
		old = q.Revision
	}
	w.truth.open[r.By] = true // until its operator learns that it is recorded
	if w.flaw(AbandonedStands) {
		a.asked = r.ID
	}
	w.store.do(a, func(s *snap) bool {
		have := int64(0)
		if s.request != nil {
			have = s.request.Revision
		}
		if have != old {
			return false
		}
		r.Revision = s.rev
		s.request = &r
		return true
	}, func(o outcome, _ *snap) {
		if o == applied {
			delete(w.truth.open, r.By)
			a.asked = r.ID
			a.wake()
		}
	})
}

// configure changes what an operator may change.
func (w *world) configure(fn func(*snap)) {
	w.store.change(func(s *snap) bool {
		s.members = slices.Clone(s.members)
		fn(s)
		return true
	})
}

func (w *world) copies() {
	if w.plan.Durability == cluster.Async {
		return
	}
	most := max(1, (w.plan.Data-1)/2)
	k := 1 + w.rng.IntN(most+1)
	if k >= w.plan.Data {
		k = most
	}
	if k < w.truth.disksLost {
		return
	}
	w.trace("----", "copies: %d", k)
	w.configure(func(s *snap) { s.settings.Copies = k })
}

// candidate makes one member no candidate, or one again.
func (w *world) candidate() {
	i := w.rng.IntN(w.plan.Data)
	w.configure(func(s *snap) {
		m := &s.members[i]
		left := 0
		for _, o := range s.members {
			if o.Electable() {
				left++
			}
		}
		if m.Priority == 0 {
			m.Priority = 100
		} else if left > s.settings.Copies+1 {
			m.Priority = 0
		}
		w.trace("----", "%s has priority %d", m.Name, m.Priority)
	})
}
