// Package decide says what a member should do next, as a pure function of what it sees: no clock, no I/O, no
// goroutine, no randomness. Time comes in with the View; what is returned is data.
//
// Decide is level-triggered: it remembers nothing, so an agent that was restarted at any step looks again and goes on.
// The safety argument is in docs/SAFETY.md; the rules that it needs are each marked where they are kept:
//
//   - depose.go    a server whose term is over ends at once; promises
//   - suspect.go   who is missing, and when an election begins (CAS 1)
//   - elect.go     reports, and the choice of the winner with its rule (CAS 2)
//   - reign.go     promotion, the published fork (CAS 3), admission of clients, leases
//   - adopt.go     the first term of a primary that ran before there was a cluster
//   - epoch.go     a member of a founding that is over: ends what it runs
//   - rule.go      changes of the commit rule under a reigning primary
//   - follow.go    standbys: start, attach, rewind, clone
//   - handover.go  an operator's requests
//   - halt.go      a cluster that was shut down
//   - route.go     where the router sends clients
//   - tell.go      what the member tells the others
package decide

import (
	"standfast/cluster"
)

// Decide returns what the member whose view this is should do now, in order: a later action may rely on the success of
// an earlier one. Actions that are under way are returned again as long as they are wanted.
func Decide(v cluster.View) []cluster.Action {
	if v.Superseded > v.Epoch {
		return superseded(v)
	}
	if v.Postgres.Data == cluster.DataForeign {
		return nil // another cluster's data: neither started nor touched
	}
	if v.State == nil {
		if v.Postgres.InPlace {
			// While the store answers, the record that others know of already is on its way here.
			if acts := takeOver(v); acts != nil || Unclaimed(v) || v.StoreOK {
				return acts
			}
		}
		if acts := orphaned(v); acts != nil {
			return acts
		}
		return bootstrap(v)
	}
	if acts := depose(v); acts != nil {
		return acts
	}
	if m, ok := member(v, v.Self); !ok {
		return nil // removed, or not yet a member: no vote
	} else if v.State.Halt {
		return halted(v)
	} else if m.Kind == cluster.Witness {
		return campaign(v)
	}
	if v.Promised < v.State.Term {
		return []cluster.Action{cluster.Promise{Term: v.State.Term}}
	}
	if acts := campaign(v); acts != nil {
		return acts
	}
	switch {
	case v.State.Phase == cluster.Electing:
		return election(v)
	case v.State.Primary == v.Self:
		return reign(v)
	default:
		return follow(v)
	}
}

// self returns the member's own entry; a member that is not (or no longer) listed counts as a witness without a vote.
func self(v cluster.View) cluster.Member {
	m, ok := member(v, v.Self)
	if !ok {
		return cluster.Member{Name: v.Self, Kind: cluster.Witness}
	}
	return m
}

func member(v cluster.View, name string) (cluster.Member, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m, true
		}
	}
	return cluster.Member{}, false
}

// silence is how long nothing has been heard from the peer's agent. A peer never heard is silent since this agent
// started: a fresh agent suspects nobody at once.
func silence(v cluster.View, name string) cluster.Instant {
	return v.Now - max(v.Peers[name].Heard, v.Since)
}

// hears reports whether the peer's agent has been heard from within the time.
func hears(v cluster.View, name string, within cluster.Instant) bool {
	p, ok := v.Peers[name]
	return ok && p.Heard > 0 && v.Now-p.Heard < within
}

// majority is how many members, witnesses included, are more than half.
func majority(v cluster.View) int { return len(v.Members)/2 + 1 }

// hearsMajority reports whether this member and those it has heard from within the time are a majority.
func hearsMajority(v cluster.View, within cluster.Instant) bool {
	n := 0
	for _, m := range v.Members {
		if m.Name == v.Self || hears(v, m.Name, within) {
			n++
		}
	}
	return n >= majority(v)
}

// newestTerm is the highest term that this member knows of, from the record or from anybody's beat.
func newestTerm(v cluster.View) cluster.Term {
	t := v.Promised
	if v.State != nil {
		t = max(t, v.State.Term)
	}
	for _, p := range v.Peers {
		t = max(t, p.Beat.Term, p.Beat.Promised)
	}
	return t
}

// serving reports whether the server runs as a primary (or may: a server that does not answer is taken for one unless
// it is known to be a standby).
func serving(p cluster.Postgres) bool { return p.Running && !p.Recovery }

// entitled reports whether this member may run a primary at all in the term of its record.
func entitled(v cluster.View) bool {
	return v.State.Primary == v.Self && v.State.Phase != cluster.Electing && newestTerm(v) == v.State.Term
}
