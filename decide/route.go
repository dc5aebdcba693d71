package decide

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"standfast/cluster"
)

// Route returns where the member's router should send clients now (P3): to the primary of the newest term that this
// member knows of and only once that primary says it has admitted clients; nowhere when no majority has been heard for
// the lease.
func Route(v cluster.View) cluster.Route {
	t := newestTerm(v)
	r := cluster.Route{Term: t}
	if r.Why = Over(v); r.Why != "" {
		return r
	}
	if r.Why = Halted(v); r.Why != "" {
		return r
	}
	if !hearsMajority(v, v.Settings.Lease) {
		r.Why = noMajority(v)
		return r
	}
	r.Write = admitted(v, t)
	if r.Write == "" || held(v) {
		r.Hold, r.Why = true, choosing(v)
	}
	if r.Write == "" && v.State != nil && v.State.Term == t && v.State.Phase == cluster.Reigning {
		r.Write = v.State.Primary // an agent restarted under its server: sessions stay, new ones wait until it admits again
	}
	r.Reads = readTargets(v, t)
	return r
}

// admitted is the member that lets clients in as primary of the term.
func admitted(v cluster.View, t cluster.Term) string {
	if t > 0 && v.Admitted == t && v.State != nil && v.State.Term == t {
		return v.Self
	}
	for _, m := range v.Members {
		if t > 0 && v.Peers[m.Name].Beat.Admitted == t && hears(v, m.Name, v.Settings.Lease) {
			return m.Name
		}
	}
	return ""
}

// held: while a switchover is under way new connections wait rather than being cut a moment later.
func held(v cluster.View) bool {
	r := v.Request
	return r != nil && v.State != nil && r.Term == v.State.Term && r.Kind == cluster.Switchover && r.Begun
}

// Holder is the member that the floating address belongs to: the primary's, or already a switchover's target once the
// hand-over has begun. "" while nobody is known: then it stays where it is.
func Holder(s *cluster.State, r *cluster.Request) string {
	switch {
	case s == nil:
		return ""
	case r != nil && r.Term == s.Term && r.Kind == cluster.Switchover && r.Begun && r.To != "":
		return r.To
	}
	return s.Primary
}

func readTargets(v cluster.View, t cluster.Term) []cluster.ReadTarget {
	head := cluster.LSN(0)
	if serving(v.Postgres) {
		head = v.Postgres.Position.LSN
	}
	for _, p := range v.Peers {
		if p.Beat.Admitted == t {
			head = max(head, p.Beat.Position.LSN)
		}
	}
	var out []cluster.ReadTarget
	add := func(name string, replayed cluster.LSN) {
		lag := cluster.LSN(0)
		if head > replayed {
			lag = head - replayed
		}
		out = append(out, cluster.ReadTarget{Name: name, Lag: lag})
	}
	if Readable(v) {
		add(v.Self, v.Postgres.Replayed)
	}
	for _, m := range v.Members {
		b := v.Peers[m.Name].Beat
		if m.Name != v.Self && b.Readable && b.Attached == t && hears(v, m.Name, v.Settings.Detect) {
			add(m.Name, b.Replayed)
		}
	}
	slices.SortStableFunc(out, func(a, b cluster.ReadTarget) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Readable reports whether this member, as a standby, may serve reads: attached to the newest term's primary,
// consistent, and replayed past where that term began.
func Readable(v cluster.View) bool {
	s, p := v.State, v.Postgres
	return s != nil && s.Phase == cluster.Reigning && s.Term == newestTerm(v) && v.Relay.Term == s.Term &&
		p.Up && p.Recovery && p.Ready && p.Position.Timeline == s.Timeline && p.Replayed > s.Fork
}

func noMajority(v cluster.View) string {
	var missing []string
	for _, m := range v.Members {
		if m.Name != v.Self && !hears(v, m.Name, v.Settings.Lease) {
			missing = append(missing, m.Name)
		}
	}
	return fmt.Sprintf("%s does not hear a majority of the cluster: %s missing; writing resumes by itself when %s",
		v.Self, strings.Join(missing, ", "), returns(missing))
}

func returns(names []string) string {
	if len(names) == 1 {
		return "it returns"
	}
	return "one of them returns"
}

func choosing(v cluster.View) string {
	s := v.State
	switch {
	case s == nil:
		return "the cluster has not been founded yet"
	case newestTerm(v) > s.Term:
		return fmt.Sprintf("term %d has begun, its record has not arrived here yet", newestTerm(v))
	case s.Phase == cluster.Electing:
		return fmt.Sprintf("a primary is being chosen for term %d, waiting for reports: %s", s.Term, Awaited(v))
	case held(v):
		return "a switchover is under way"
	case s.Phase == cluster.Elected:
		return fmt.Sprintf("%s is being promoted", s.Primary)
	}
	return fmt.Sprintf("%s is the primary of term %d and waits until each commit can be on %d more member(s) (%s)", s.Primary, s.Term, s.Rule.K, s.Rule)
}

// Awaited says, in an election, whose reports are in and whose are needed.
func Awaited(v cluster.View) string {
	var have, lack []string
	for _, m := range newRuleSources(v.State) {
		if _, ok := v.Reports[m]; ok {
			have = append(have, m)
		} else {
			lack = append(lack, m)
		}
	}
	if len(have) == 0 {
		have = []string{"none"}
	}
	return fmt.Sprintf("in from %s; not yet from %s", strings.Join(have, ", "), strings.Join(lack, ", "))
}

func newRuleSources(s *cluster.State) []string {
	r := s.Rule
	if s.Last != "" {
		r = r.With(s.Last)
	}
	return r.Of
}
