package decide

import (
	"cmp"
	"slices"
	"strings"

	"standfast/cluster"
)

// patience is how long an election whose outcome is already safe waits for one that would spare it the member it avoids, and
// preferring for the member that an operator has named: one that restarts in place has to start its server first, and on a
// loaded host that takes seconds; clients wait at routers for ten by default. Nobody waits for a member that is not heard.
const (
	patience   = cluster.Instant(1e9)
	preferring = 8 * patience
)

// election is a member's part in an election: its report, an operator's consent to loss, and the choice.
func election(v cluster.View) []cluster.Action {
	if unfounded(v) {
		if acts := bootstrap(v); acts != nil {
			return acts
		}
	}
	acts := report(v)
	if r := asked(v); r != nil && r.Kind == cluster.Forced {
		// In a term of its own: a request is over with its term, and would otherwise ask for one election more.
		next := nextTerm(v, r.By+" accepted that commits may be lost")
		next.Force, next.Prefer = true, r.To
		return append(acts, cluster.Write{Cause: "force the election", Next: next})
	}
	return append(acts, elect(v)...)
}

// report brings the member to where it can swear to its end of WAL, then swears (steps 2 and 3 of a failover).
//
// The order is: promise on disk and relay closed (Promise), the WAL receiver that was there gone (Held or Gone), then
// the report. Only data that is whole may report.
func report(v cluster.View) []cluster.Action {
	p := v.Postgres
	if p.Data != cluster.DataReady || touching(v) || leaving(v) {
		return nil // until a rewind or clone of the term before has really ended, the data may change under the report
	}
	if !p.Running {
		return startUnlessFailed(v)
	}
	if _, sent := v.Reports[v.Self]; sent || !p.Up || !p.Recovery || v.Promised != v.State.Term {
		return nil
	}
	if v.Relay.Term != 0 || !v.Relay.Held && !v.Relay.Gone {
		return nil
	}
	return []cluster.Action{cluster.SendReport{Report: cluster.Report{
		Term: v.State.Term, Member: v.Self, Position: p.Position, Priority: self(v).Priority, At: v.Wall,
	}}}
}

// elect names the winner (CAS 2) once the reports are sure to include a holder of every acknowledged commit.
func elect(v cluster.View) []cluster.Action {
	if !sufficient(v) {
		return nil
	}
	w, ok := winner(v)
	if !ok || wait(v, w) {
		return nil
	}
	s := v.State
	next := s.Next("reports in, "+w.Member+" elected", v.Self, v.Wall)
	for _, r := range sortedReports(v) {
		next.Steps = append(next.Steps, cluster.Step{Name: "reported " + r.Position.String(), By: r.Member, At: r.At})
	}
	if !complete(v) {
		next.Lost, next.LostIn = mayBeLost(v), next.Term
	}
	next.Phase, next.Primary, next.Last = cluster.Elected, w.Member, w.Member
	next.Rule = newRule(s, w.Member)
	return []cluster.Action{cluster.Write{Cause: "elect " + w.Member, Next: next}}
}

// newRule is the winner's commit rule: no greater k over at least old N ∪ {old primary} ∖ {winner}. With fewer members
// in it, an election after the winner's early death could miss commits that only the old members hold.
func newRule(s *cluster.State, winner string) cluster.Rule {
	r := s.Rule
	if s.Last != "" {
		r = r.With(s.Last)
	}
	return r.Without(winner)
}

// Heir is the rule that a standby which follows would be promoted with if it won the next election; one of k = 0 on anybody
// else. It is no decision: a promotion that finds it in force has nothing to write.
func Heir(v cluster.View) cluster.Rule {
	s, p := v.State, v.Postgres
	if s == nil || s.Phase != cluster.Reigning || s.Primary == v.Self || !p.Up || !p.Recovery || v.Relay.Term != s.Term {
		return cluster.Rule{}
	}
	return newRule(s, v.Self)
}

// sufficient reports whether the reports at hand surely include a holder of every acknowledged commit: n−k+1 of the
// frozen rule, or the last written winner's own. Where commits needed nobody else (asynchronous, or an operator's
// forced election) it is a majority's reports after the old primary's lease has run out, with the loss told.
func sufficient(v cluster.View) bool {
	return complete(v) || lossAccepted(v) && leaseSurelyOver(v) && majorityReported(v)
}

// complete reports whether nothing acknowledged can be lost by the reports at hand.
func complete(v cluster.View) bool {
	s := v.State
	if _, ok := v.Reports[s.Last]; ok && s.Last != "" {
		return true
	}
	n := 0
	for _, m := range s.Rule.Of {
		if _, ok := v.Reports[m]; ok {
			n++
		}
	}
	e := s.Rule.Electors()
	return e >= 1 && n >= e
}

// mayBeLost says which acknowledged commits the reports at hand need not include: those that had reached only members that
// have not reported.
func mayBeLost(v cluster.View) string {
	of := v.State.Rule
	if v.State.Last != "" {
		of = of.With(v.State.Last)
	}
	var silent []string
	for _, m := range of.Of {
		if _, ok := v.Reports[m]; !ok {
			silent = append(silent, m)
		}
	}
	return "acknowledged commits that had reached only " + strings.Join(silent, ", ")
}

func lossAccepted(v cluster.View) bool {
	return v.State.Force || v.Settings.Durability == cluster.Async && v.State.Rule.K == 0
}

// leaseSurelyOver waits out the lease, the guard's delay and a tenth for clocks that run at different speeds, counted
// from when this member saw the election, which is after CAS 1.
func leaseSurelyOver(v cluster.View) bool {
	bound := v.Settings.Lease + v.Settings.GuardDelay
	return v.ElectingSince > 0 && v.Now-v.ElectingSince >= bound+bound/10
}

// majorityReported: a majority of the data members other than the old primary, and at least one. An operator who forces
// an election is content with whoever is there.
func majorityReported(v cluster.View) bool {
	if v.State.Force {
		return len(v.Reports) > 0
	}
	others, have := 0, 0
	for _, m := range v.Members {
		if m.Kind != cluster.Data || m.Name == v.State.Last {
			continue
		}
		others++
		if _, ok := v.Reports[m.Name]; ok {
			have++
		}
	}
	return have >= 1 && 2*have >= others
}

// winner is the most advanced report; among equals the preferred, not the avoided, then by priority and name. A member
// that must not reign is passed over only for one that is no further behind.
func winner(v cluster.View) (cluster.Report, bool) {
	all := sortedReports(v)
	if len(all) == 0 {
		return cluster.Report{}, false
	}
	best := all[0]
	for _, r := range all {
		m, ok := member(v, r.Member)
		if ok && m.Electable() && !r.Position.Before(best.Position) {
			return r, true
		}
	}
	return best, true
}

func sortedReports(v cluster.View) []cluster.Report {
	s := v.State
	out := make([]cluster.Report, 0, len(v.Reports))
	for _, r := range v.Reports {
		if r.Term == s.Term {
			out = append(out, r)
		}
	}
	rank := func(r cluster.Report) int {
		switch r.Member {
		case s.Prefer:
			return 0
		case s.Avoid:
			return 2
		}
		return 1
	}
	slices.SortFunc(out, func(a, b cluster.Report) int {
		switch {
		case b.Position.Before(a.Position):
			return -1
		case a.Position.Before(b.Position):
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Member, b.Member))
	})
	return out
}

// wait reports whether a little patience may bring a better winner than w: the preferred one, or anyone instead of
// the avoided. Who else writes the same is slower than the winner itself, so that they rarely collide.
func wait(v cluster.View, w cluster.Report) bool {
	s, age := v.State, v.Now-v.ElectingSince
	if age < preferring && s.Prefer != "" && w.Member != s.Prefer && expected(v, s.Prefer) {
		return true
	}
	if age < patience && w.Member == s.Avoid && slices.ContainsFunc(s.Rule.Of, func(m string) bool { return m != s.Avoid && expected(v, m) }) {
		return true
	}
	return w.Member != v.Self && age < patience/10
}

// expected reports whether the member's report may still come: it is heard and has not reported yet.
func expected(v cluster.View, name string) bool {
	_, sent := v.Reports[name]
	return !sent && (name == v.Self || hears(v, name, v.Settings.Detect)) && v.Peers[name].Beat.Data != cluster.NoData
}
