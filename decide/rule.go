package decide

import (
	"slices"

	"standfast/cluster"
)

// changeRule moves the commit rule, one step at a time, to what the membership calls for. At every moment the recorded
// rule covers what PostgreSQL does:
//
//	record the joint rule → make PostgreSQL work by the new one → prove that k of its members have everything that
//	was acknowledged before → record the new one
func changeRule(v cluster.View) []cluster.Action {
	s, p := v.State, v.Postgres
	if p.TermRow == 0 {
		return nil
	}
	want := wantedRule(v)
	record := recordable(s.Rule, want)
	switch {
	case p.Names.Same(want) && s.Rule.Equal(record):
		return nil
	case !s.Rule.Covers(p.Names):
		return []cluster.Action{cluster.SetNames{Rule: s.Rule}} // somebody else wrote the names
	case !s.Rule.Covers(want):
		return []cluster.Action{recordRule(v, s.Rule.Joint(want), "extend the commit rule to ")}
	case !p.Names.Same(want) || p.NamesLSN == 0 && want.K > 0: // seen in one session is not yet in force for all
		return []cluster.Action{cluster.SetNames{Rule: want}}
	case proven(v, record):
		return []cluster.Action{recordRule(v, record, "commit rule: ")}
	}
	return nil
}

// recordable is what to record for a rule that PostgreSQL works by. Where more copies are wanted than there are members
// writing waits, but an election must not: the members that hold every commit so far stay enough for one.
func recordable(recorded, want cluster.Rule) cluster.Rule {
	if n := len(want.Of); want.K > n && n > 0 && n >= recorded.K {
		return cluster.NewRule(n, want.Of...)
	}
	return want
}

// proven: k members of the new rule have flushed everything that an earlier rule let be acknowledged.
func proven(v cluster.View, r cluster.Rule) bool {
	p := v.Postgres
	if r.K == 0 || r.K > len(r.Of) {
		return true // nobody's flush is needed, or nothing can be acknowledged: only this primary can then be elected again
	}
	return p.NamesLSN > 0 && r.Met(func(m string) bool { return flushed(p, m, max(p.NamesLSN, p.TermRow)) })
}

func recordRule(v cluster.View, r cluster.Rule, cause string) cluster.Action {
	next := *v.State
	next.Rule, next.Solo = r, next.Solo && r.K == 0
	return cluster.Write{Cause: cause + r.String(), Next: next}
}

// wantedRule is the rule that membership, health and configuration call for now. A member enters once it streams past
// the term row; it leaves when its data must be touched or it is no candidate any more, but only if k others are
// proven. One that is merely away stays: it may hold what is needed, and nothing is gained by dropping it.
//
// If k others are not to be had for the lease, those whose data must be touched leave for a rule that nothing can meet.
// No commit could complete with them anyway, and only this primary, which has everything, can then be elected; without
// it two hosts that could be a cluster would wait for a third for ever.
//
// The change itself ends every WAL sender, and where hosts are busy a standby takes longer than the detection time to come back. So
// what is changed to is held for the lease: given up sooner it would be set, left and set again for ever, each time ending the WAL
// senders that it waits for.
func wantedRule(v cluster.View) cluster.Rule {
	s, of, k := v.State, keepers(v), wantedCopies(v)
	want := cluster.NewRule(k, of...)
	dropped := slices.DeleteFunc(slices.Clone(s.Rule.Of), want.Has)
	met := func(m string) bool { return flushed(v.Postgres, m, v.Postgres.TermRow) }
	switch {
	case len(dropped) == 0 || want.Met(met) || cluster.NewRule(max(s.Rule.K, 1), of...).Met(met):
		return want
	case v.Postgres.Names.Same(want) && !unmetFor(v, v.Settings.Lease):
		return want // SetNames has just ended every WAL sender; they are coming back
	case unmetFor(v, v.Settings.Lease) && !slices.ContainsFunc(dropped, func(m string) bool { return !v.Peers[m].Beat.NeedsOut }):
		return cluster.NewRule(k)
	}
	return cluster.NewRule(k, append(of, s.Rule.Of...)...)
}

// unmetFor reports whether for at least that long too few members have streamed for a commit to complete.
func unmetFor(v cluster.View, d cluster.Instant) bool {
	return v.UnmetSince > 0 && v.Now-v.UnmetSince >= d
}

func keepers(v cluster.View) []string {
	var of []string
	for _, m := range v.Members {
		if m.Name == v.Self || !m.Electable() || v.Peers[m.Name].Beat.NeedsOut {
			continue
		}
		// The change that names a member ends its WAL sender too; where no record names it yet, it is kept for the lease.
		named := v.Postgres.Names.Has(m.Name) && !unmetFor(v, v.Settings.Lease)
		if v.State.Rule.Has(m.Name) || named || flushed(v.Postgres, m.Name, v.Postgres.TermRow) {
			of = append(of, m.Name)
		}
	}
	return of
}

// wantedCopies is k: as configured, but 0 when durability is asynchronous, while a cluster founded anew from one survivor, or made of
// a primary that ran, has not had enough members that stream yet, or when a single copy is allowed and no other has streamed for the
// lease. Where it fell to 0 it rises again as soon as enough members stream.
func wantedCopies(v cluster.View) int {
	set := v.Settings
	if set.Durability == cluster.Async {
		return 0
	}
	if !set.AllowSingleCopy && !v.State.Solo {
		return set.Copies
	}
	streaming := 0
	for _, m := range v.Members {
		if m.Electable() && flushed(v.Postgres, m.Name, v.Postgres.TermRow) {
			streaming++
		}
	}
	switch {
	case streaming >= set.Copies:
		return set.Copies
	case v.State.Rule.K > 0:
		if unmetFor(v, set.Lease) {
			return 0
		}
		return set.Copies
	case v.Postgres.Names.K == set.Copies && !unmetFor(v, set.Lease):
		return set.Copies // on the way up; the WAL senders that SetNames ended are coming back
	}
	return 0
}
