package sim

import (
	"fmt"
	"time"

	"standfast/cluster"
)

// heal ends every fault.
func (w *world) heal() {
	w.calm = true
	w.trace("----", "faults are over")
	for i := range w.links {
		for j := range w.links[i] {
			w.links[i][j] = link{}
		}
	}
	w.store.down = false
	for _, h := range w.hosts {
		switch {
		case !h.on:
			h.boot()
		default:
			if h.stalled {
				h.unstall()
			}
			h.agentPaused = false
			if h.paused {
				h.resume()
			} else {
				h.undefer()
			}
			h.startAgent()
		}
	}
	w.configure(func(s *snap) {
		s.settings.Paused = false
		s.settings.Copies = w.plan.Copies
		s.request = nil
		for i := range w.plan.Data {
			s.members[i].Priority = 100
		}
	})
}

// quiet is the longest that a cluster may take to become whole.
const quiet = 60 * time.Second

// settle heals all, and waits until the cluster is whole and every client has committed again.
func (w *world) settle() {
	w.heal()
	end := w.now + quiet
	lack := ""
	for w.fail == nil && w.now < end {
		w.run(w.now + 250*ms)
		if lack = w.lacks(); lack != "" {
			continue
		}
		before := make([]int, len(w.clients))
		for i, c := range w.clients {
			before[i] = c.wrote
		}
		w.run(w.now + time.Second)
		for i, c := range w.clients {
			if c.wrote == before[i] && !c.stubborn {
				lack = "a client does not get through"
			}
		}
		if lack == "" {
			return
		}
	}
	w.describe()
	w.broken(Whole, "after %v without faults: %s", quiet, lack)
}

// lacks says what the cluster lacks to be whole, "" if nothing.
func (w *world) lacks() string {
	st := w.store.snap.state
	if st == nil || st.Phase != cluster.Reigning {
		return "no primary reigns"
	}
	p := w.host(st.Primary)
	if p.agent == nil || p.agent.admitted != st.Term || !p.pg.accepting() {
		return "the primary lets nobody in"
	}
	k := w.plan.Copies
	if w.plan.Durability == cluster.Async {
		k = 0
	}
	if st.Rule.K != k {
		return fmt.Sprintf("the rule is %q, not ANY %d", st.Rule, k)
	}
	for _, h := range w.hosts[:w.plan.Data] {
		if h == p {
			continue
		}
		switch {
		case h.agent == nil || !h.pg.accepting() || !h.pg.recovery:
			return h.name + " does not run as a standby"
		case h.agent.relay.st == nil || h.agent.relay.st.snd.ended || !h.agent.relay.st.own:
			return h.name + " does not follow"
		case k > 0 && !st.Rule.Has(h.name):
			return h.name + " does not count in the rule"
		}
	}
	return ""
}

// describe traces what every member sees at the end of a run that did not become whole.
func (w *world) describe() {
	for _, h := range w.hosts {
		if h.agent == nil || !w.tracing() {
			continue
		}
		v := h.agent.view()
		p := v.Postgres
		w.trace(h.name, "%s running=%v up=%v recovery=%v %s replayed %s names %q row %s failed %q in %d; promised %d, relay %+v, doing %v, running %v, admitted %d, store %v",
			p.Data, p.Running, p.Up, p.Recovery, p.Position, p.Replayed, p.Names, p.TermRow, p.FailedAction, p.FailedTerm,
			v.Promised, v.Relay, v.Doing, h.agent.running, v.Admitted, v.StoreOK)
	}
}
