package decide

import (
	"standfast/cluster"
)

// follow is the work of a data member under another's reign: run as a standby behind the closed relay, attach when its
// WAL lies on the term's history, otherwise come back onto it.
func follow(v cluster.View) []cluster.Action {
	s, p := v.State, v.Postgres
	if s.Phase == cluster.Reigning && NeedsOut(v) {
		return rejoin(v)
	}
	if p.Data != cluster.DataReady {
		return nil
	}
	if !p.Running {
		return startUnlessFailed(v)
	}
	if leaving(v) {
		return nil
	}
	compared := p.Up || p.Rejoined == s.Term // NeedsOut has compared, or there is nothing to compare
	if s.Phase != cluster.Reigning || !compared || !p.Recovery || v.Relay.Term == s.Term || !v.Relay.Held || MustDetach(v) {
		return nil
	}
	return []cluster.Action{cluster.Attach{Term: s.Term}}
}

// leaving reports whether a promotion in an earlier term was told to end and has not yet: PostgreSQL may still carry it out.
// With WAL of the new term behind it, it would take a number above the new term's, and count as the most advanced later.
func leaving(v cluster.View) bool {
	_, ok := v.Doing.(cluster.Promote)
	return ok
}

// startUnlessFailed starts the standby. Under a reigning primary one that did not start is cloned anew; in an election
// its report may be what everybody waits for, so it is tried again.
func startUnlessFailed(v cluster.View) []cluster.Action {
	if v.State.Phase == cluster.Reigning && v.Postgres.FailedTerm == v.State.Term && v.Postgres.FailedAction == "start" {
		return nil
	}
	return []cluster.Action{cluster.Start{}}
}

// end is where the member's own WAL ends, once it is certain: a WAL receiver that waits at the closed relay proves that
// the server has replayed all that it has. Bytes of an unfinished record beyond it are nobody's.
func end(v cluster.View) cluster.Position {
	return cluster.Position{Timeline: v.Postgres.Position.Timeline, LSN: v.Postgres.Replayed}
}

// NeedsOut reports whether this member's data must be rewound or cloned before it can follow, and so must leave the
// commit rule first: it has none, or half of it, or WAL that the reigning history does not contain, or it failed to
// start or to follow. A WAL receiver begins by reporting its own replay position as flushed, whatever the timeline:
// a diverged member would acknowledge commits that it does not have.
func NeedsOut(v cluster.View) bool {
	s, p := v.State, v.Postgres
	if s == nil || s.Phase != cluster.Reigning || s.Primary == v.Self || self(v).Kind != cluster.Data {
		return false
	}
	if rejoining(v) || p.Data == cluster.NoData || p.Data == cluster.DataPartial {
		return true
	}
	if p.Data != cluster.DataReady {
		return false
	}
	if failedFor(p, s.Term) {
		return true
	}
	return diverged(v)
}

// rejoining reports whether a rewind or clone of this term is under way. It is seen through: once begun, the data says
// nothing about itself any more.
func rejoining(v cluster.View) bool {
	switch a := v.Doing.(type) {
	case cluster.Rewind:
		return a.Term == v.State.Term
	case cluster.Clone:
		return a.Term == v.State.Term
	}
	return false
}

// touching reports whether a rewind or clone of any term is under way, or was told to end and has not yet.
func touching(v cluster.View) bool {
	switch v.Doing.(type) {
	case cluster.Rewind, cluster.Clone:
		return true
	}
	return false
}

// failedFor reports whether something failed in this term that says that the data can't follow as it is.
func failedFor(p cluster.Postgres, t cluster.Term) bool {
	if p.FailedTerm != t {
		return false
	}
	switch p.FailedAction {
	case "start", "rewind", "clone", "follow":
		return true
	}
	return false
}

// MustDetach reports whether the relay must not carry: the epoch is over, a newer term than the record's is known of, or no majority has been
// heard for the lease, so that one could have begun; the server at the primary's address may then be anybody's.
func MustDetach(v cluster.View) bool {
	return v.State == nil || v.Superseded > v.Epoch || newestTerm(v) > v.State.Term || !hearsMajority(v, v.Settings.Lease)
}

func diverged(v cluster.View) bool {
	s, p := v.State, v.Postgres
	certain := p.Up && p.Recovery && v.Relay.Term == 0 && v.Relay.Held
	return certain && !s.History.Contains(s.Timeline, end(v))
}

// rejoin brings the data back: by rewinding where there is something to rewind and that has not just failed, else by
// cloning. With fewer than two other good copies the old data is kept beside the clone: it may hold what the others lose. Never while the recorded rule counts on this member, and only from a primary that is heard and up.
func rejoin(v cluster.View) []cluster.Action {
	s, p := v.State, v.Postgres
	primary := v.Peers[s.Primary].Beat
	if s.Rule.Has(v.Self) || v.Promised != s.Term {
		return nil
	}
	if rejoining(v) {
		return []cluster.Action{v.Doing}
	}
	if !hears(v, s.Primary, v.Settings.Detect) || !primary.Up || primary.Term != s.Term {
		return nil
	}
	failed := failedFor(p, s.Term)
	few := healthyCopies(v) < 2 && (s.Rule.K == 0 || s.Rule.K > len(s.Rule.Of)) // otherwise k others are proven by the rule itself
	if p.Data == cluster.DataReady && !failed && !few {
		return []cluster.Action{cluster.Rewind{From: s.Primary, Term: s.Term}}
	}
	keep := p.Data == cluster.DataReady && few
	return []cluster.Action{cluster.Clone{From: s.Primary, Term: s.Term, Keep: keep}}
}

// healthyCopies counts the other members known to hold a good copy: the primary and those attached to it.
func healthyCopies(v cluster.View) int {
	n := 0
	for _, m := range v.Members {
		b := v.Peers[m.Name].Beat
		if m.Name != v.Self && hears(v, m.Name, v.Settings.Detect) && b.Up && (m.Name == v.State.Primary || b.Attached == v.State.Term) {
			n++
		}
	}
	return n
}
