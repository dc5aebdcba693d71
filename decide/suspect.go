package decide

import (
	"fmt"
	"slices"
	"strings"

	"standfast/cluster"
)

// Suspects lists the members that this member has missed for Settings.Detect: by beat, and for the primary also by the
// WAL stream or an answered probe, so that a dead agent is told from a dead server; a primary that misses a majority itself; and one whose
// open WAL stream says nothing.
func Suspects(v cluster.View) []string {
	var out []string
	if !hearsMajority(v, v.Settings.Detect) {
		return out // this member itself is cut off, or has just been resumed from a pause
	}
	for _, m := range v.Members {
		if m.Name != v.Self && missing(v, m.Name) {
			out = append(out, m.Name)
		}
	}
	return out
}

func missing(v cluster.View, name string) bool {
	quiet := silence(v, name)
	if quiet < v.Settings.Detect {
		return deaf(v, name) || mute(v, name)
	}
	if v.State != nil && name == v.State.Primary && primaryServerHeard(v) {
		return quiet >= v.Settings.Detect+v.Settings.AgentGrace && !flapping(v)
	}
	return true
}

// deaf reports whether a primary that is heard has heard no majority for the lease: frames pass one way only. It has cut its
// clients' sessions by then and can't know that others are well, so it is for them to replace it.
func deaf(v cluster.View, name string) bool {
	return v.State != nil && name == v.State.Primary && v.DeafSince > 0 && v.Now-v.DeafSince >= v.Settings.Lease && !flapping(v)
}

// mute reports whether a primary that is heard has said nothing in this member's open WAL stream for the lease: its WAL senders hang,
// or frames as long as theirs don't pass. Its own view shows nothing of it while the connections stand, and its commits wait for ever. A
// majority has to see the same: one alone may have a broken path.
func mute(v cluster.View, name string) bool {
	s, r := v.State, v.Relay
	return s != nil && name == s.Primary && s.Phase == cluster.Reigning && r.Term == s.Term &&
		r.Silent > 0 && v.Now-r.Silent >= v.Settings.Lease && !flapping(v)
}

// Deaf reports whether the primary, another member that is heard, tells that it hears no majority.
func Deaf(v cluster.View) bool {
	if v.State == nil || v.State.Primary == "" || v.State.Primary == v.Self || !hears(v, v.State.Primary, v.Settings.Detect) {
		return false
	}
	n := 1
	for _, m := range v.Members {
		if m.Name != v.State.Primary && slices.Contains(v.Peers[v.State.Primary].Beat.Hears, m.Name) {
			n++
		}
	}
	return n < majority(v)
}

// primaryServerHeard reports whether the primary's PostgreSQL itself has been heard from lately.
func primaryServerHeard(v cluster.View) bool {
	return v.Relay.Heard > 0 && v.Now-v.Relay.Heard < v.Settings.Detect
}

// flapping: a primary that lives is not replaced twice within AntiFlap. One that is dead is.
func flapping(v cluster.View) bool {
	return v.LastFlap > 0 && v.Now-v.LastFlap < v.Settings.AntiFlap
}

// suspectedByMajority returns the members, this one included, that miss the primary, and whether they are a majority
// of all members. One standby alone, cut off, starts nothing.
func suspectedByMajority(v cluster.View, primary string) ([]string, bool) {
	if !slices.Contains(Suspects(v), primary) {
		return nil, false
	}
	by := []string{v.Self}
	for _, m := range v.Members {
		p := v.Peers[m.Name]
		if m.Name != primary && hears(v, m.Name, v.Settings.Detect) && p.Beat.Term == v.State.Term && slices.Contains(p.Beat.Suspects, primary) {
			by = append(by, m.Name)
		}
	}
	slices.Sort(by)
	return by, len(by) >= majority(v)
}

// probe asks the primary's server directly shortly before its agent's silence would make it suspect: the answer takes
// up to 200 ms, and an idle WAL stream may be silent as long.
func probe(v cluster.View) []cluster.Action {
	p := v.State.Primary
	if p == "" || p == v.Self || silence(v, p) < v.Settings.Detect/2 || primaryHeardWithin(v, v.Settings.Detect/4) {
		return nil
	}
	return []cluster.Action{cluster.Probe{Member: p}}
}

func primaryHeardWithin(v cluster.View, d cluster.Instant) bool {
	return v.Relay.Heard > 0 && v.Now-v.Relay.Heard < d
}

// campaign begins an election (CAS 1) when there is a reason to, fencing this member's own server first.
func campaign(v cluster.View) []cluster.Action {
	s := v.State
	if v.Promised > s.Term && v.StoreOK {
		return []cluster.Action{cluster.Write{Cause: "the store knows less than this member promised", Next: afterRestore(v)}}
	}
	if s.Phase == cluster.Electing {
		return nil
	}
	if s.Primary == v.Self {
		return abdicate(v)
	}
	if r := asked(v); r != nil && (r.Kind == cluster.Failover || r.Kind == cluster.Forced) {
		next := nextTerm(v, fmt.Sprintf("%s asked for a failover", r.By))
		next.Prefer, next.Avoid, next.Force = r.To, s.Primary, r.Kind == cluster.Forced
		return []cluster.Action{cluster.Write{Cause: "failover asked for", Next: next}}
	}
	acts := probe(v)
	if v.Settings.Paused {
		return nil
	}
	by, ok := suspectedByMajority(v, s.Primary)
	if !ok {
		return onlyWhileIdle(v, acts)
	}
	why := "%s is not heard by %s"
	if silence(v, s.Primary) < v.Settings.Detect && mute(v, s.Primary) {
		why = "%s sends no WAL to %s"
	}
	next := nextTerm(v, fmt.Sprintf(why, s.Primary, strings.Join(by, ", ")))
	next.Avoid = s.Primary
	return []cluster.Action{cluster.Write{Cause: next.Reason, Next: next}}
}

// onlyWhileIdle returns a probe alone only when the member, as a standby, has nothing more pressing: probes never hold
// up attaching or reporting, which prove more.
func onlyWhileIdle(v cluster.View, probes []cluster.Action) []cluster.Action {
	if v.State.Phase == cluster.Reigning && v.Relay.Term == v.State.Term || self(v).Kind == cluster.Witness {
		return probes
	}
	return nil
}

// hopeless is after how many leases a primary that no standby follows, though they are well, is the odd one out. A
// loaded host may take a lease or two to reconnect.
const hopeless = 3

// abdicate is the primary's own reason to begin an election: its server is gone, stalled, came back as a standby,
// failed to be promoted, or can't replicate. What is left of the server is fenced first: orphaned backends go on
// acknowledging.
func abdicate(v cluster.View) []cluster.Action {
	s, p := v.State, v.Postgres
	if v.Settings.Paused && asked(v) == nil {
		return nil
	}
	why := ""
	switch {
	case s.Phase == cluster.Elected && p.FailedAction == "promote" && p.FailedTerm == s.Term:
		why = "promotion failed: " + p.Failed
	case s.Phase == cluster.Elected && p.FailedAction == "start" && p.FailedTerm == s.Term:
		why = "its PostgreSQL does not start: " + p.Failed
	case s.Phase == cluster.Elected && (promoting(v) || founding(v)):
		return nil // what the server shows in between means nothing yet
	case s.Phase == cluster.Elected && p.Up && p.Recovery && p.Position.Timeline >= s.Timeline,
		s.Phase == cluster.Elected && p.Up && !p.Recovery && p.Position.Timeline != s.Timeline:
		why = fmt.Sprintf("timeline %d is used up: a promotion did not end where it should", s.Timeline)
	case s.Phase == cluster.Elected && (p.Recovery || s.SystemID == "" && p.Data != cluster.DataReady):
		return nil // about to be promoted, or initialised
	case p.Data != cluster.DataReady:
		why = "its data is gone"
	case !p.Running:
		why = "its PostgreSQL is not running"
	case p.Recovery:
		why = "its PostgreSQL came back as a standby"
	case p.Stalled != "" && successors(v) >= max(s.Rule.Electors(), 1):
		why = p.Stalled
	case v.ShunnedSince > 0 && v.Now-v.ShunnedSince >= hopeless*v.Settings.Lease && s.Rule.K > 0 && !flapping(v):
		why = "no standby can follow it, though they are well"
	default:
		return nil
	}
	next := nextTerm(v, fmt.Sprintf("%s gives up: %s", v.Self, why))
	next.Avoid = v.Self
	if r := asked(v); r != nil && r.Kind == cluster.Switchover {
		next.Reason = fmt.Sprintf("%s asked for a switchover", r.By)
		next.Prefer, next.Avoid = r.To, v.Self
		if next.Halt = r.Halt; r.Halt {
			next.Avoid, next.Reason = "", fmt.Sprintf("%s shut the cluster down", r.By)
		} else if r.To == v.Self {
			next.Avoid, next.Reason = "", fmt.Sprintf("%s asked for a restart of the primary", r.By)
		}
	}
	return []cluster.Action{
		cluster.Fence{Reason: next.Reason},
		cluster.Write{Cause: next.Reason, Next: next},
	}
}

func founding(v cluster.View) bool {
	_, ok := v.Doing.(cluster.Init)
	return ok
}

func promoting(v cluster.View) bool {
	_, ok := v.Doing.(cluster.Promote)
	return ok && v.Postgres.Running
}

// successors counts the members of the rule that could report at once. A stalled primary that nobody can replace is
// still better than none.
func successors(v cluster.View) int {
	n := 0
	for _, m := range v.State.Rule.Of {
		if hears(v, m, v.Settings.Detect) && v.Peers[m].Beat.Attached == v.State.Term {
			n++
		}
	}
	return n
}

// Shunned reports whether commits hang on the reigning primary though others could confirm them. Only the time for which
// both hold counts against it: while others are cloned it may be alone for hours, and is the best there is.
func Shunned(v cluster.View) bool { return Unmet(v) && othersHealthy(v) }

// othersHealthy reports whether enough members of the rule are heard, up and ready to reign or to acknowledge, so
// that a primary which can't reach them is the odd one out.
func othersHealthy(v cluster.View) bool {
	n := 0
	for _, m := range v.State.Rule.Of {
		p := v.Peers[m].Beat
		if hears(v, m, v.Settings.Detect) && p.Up && p.Data == cluster.DataReady && !p.NeedsOut {
			n++
		}
	}
	return n >= max(v.State.Rule.Electors(), 1)
}

// nextTerm is the record that CAS 1 writes: the rule frozen as it stands, a timeline never used before.
func nextTerm(v cluster.View, reason string) cluster.State {
	next := v.State.Next("", v.Self, 0)
	next.Term++
	next.Timeline++
	next.Phase, next.Primary, next.Fork, next.History = cluster.Electing, "", 0, nil
	next.Prefer, next.Avoid, next.Force, next.Halt = "", "", false, false
	next.Reason, next.By = reason, v.Self
	next.Steps = []cluster.Step{{Name: "election begun", By: v.Self, At: v.Wall}}
	return next
}

// afterRestore begins an election above a promise that the store has forgotten: it was restored from a backup, and the
// rule it holds may be out of date. So every data member has to report, and no single one suffices. Terms and
// timelines rise together, hence the timeline is as far ahead as the term.
func afterRestore(v cluster.View) cluster.State {
	next := nextTerm(v, fmt.Sprintf("the store was restored: it held term %d, %s had promised %d", v.State.Term, v.Self, v.Promised))
	ahead := v.Promised + 1 - v.State.Term
	next.Term = v.State.Term + ahead
	next.Timeline = v.State.Timeline + cluster.Timeline(ahead)
	var data []string
	for _, m := range v.Members {
		if m.Kind == cluster.Data {
			data = append(data, m.Name)
		}
	}
	next.Rule, next.Last = cluster.NewRule(1, data...), ""
	return next
}
