package decide

import (
	"fmt"

	"standfast/cluster"
)

// handover carries out an operator's request on the reigning primary. Its last step, the stop, makes abdicate begin the
// election that prefers the target.
func handover(v cluster.View) []cluster.Action {
	r := v.Request
	if r == nil || r.Term != v.State.Term {
		return nil
	}
	switch r.Kind {
	case cluster.Switchover:
		if why := Unfit(v, r.To); why != "" {
			return []cluster.Action{cluster.Refuse{Request: *r, Why: why}}
		}
		to := r.To
		if to == "" {
			to = bestStandby(v)
		}
		return []cluster.Action{cluster.Handover{To: to}}
	case cluster.Failover, cluster.Forced:
		next := nextTerm(v, fmt.Sprintf("%s asked for a failover", r.By))
		next.Prefer, next.Avoid, next.Force = r.To, v.Self, r.Kind == cluster.Forced
		return []cluster.Action{cluster.Fence{Reason: next.Reason}, cluster.Write{Cause: "failover asked for", Next: next}}
	}
	return nil
}

// Unfit says why the member can't take over from this primary in order, or "" if it can. An empty name asks whether
// any can; the primary's own name asks for a restart in place, which is an election that it wins.
func Unfit(v cluster.View, to string) string {
	if v.Admitted != v.State.Term {
		return "the primary is not ready itself yet"
	}
	if to == v.Self {
		return ""
	}
	if to == "" {
		if to = bestStandby(v); to == "" {
			return "no standby is streaming"
		}
	}
	m, ok := member(v, to)
	switch {
	case !ok:
		return fmt.Sprintf("%s is not a member", to)
	case !m.Electable():
		return fmt.Sprintf("%s is not a candidate (a witness, or priority 0)", to)
	case !hears(v, to, v.Settings.Detect):
		return fmt.Sprintf("%s is not heard from", to)
	case !flushed(v.Postgres, to, v.Postgres.TermRow):
		return fmt.Sprintf("%s is not streaming from the primary", to)
	}
	return ""
}

// bestStandby is the streaming candidate that is furthest along, by priority and name among equals; "" if there is none.
func bestStandby(v cluster.View) string {
	best, at := cluster.Member{}, cluster.LSN(0)
	for _, m := range v.Members {
		if m.Name == v.Self || !m.Electable() || !hears(v, m.Name, v.Settings.Detect) {
			continue
		}
		for _, s := range v.Postgres.Standbys {
			if s.Name != m.Name || !s.Streaming {
				continue
			}
			if best.Name == "" || m.Priority > best.Priority || m.Priority == best.Priority && s.Flushed > at {
				best, at = m, s.Flushed
			}
		}
	}
	return best.Name
}
