package decide

import (
	"fmt"

	"standfast/cluster"
)

// handover carries out an operator's request on the reigning primary. Its last step, the stop, makes abdicate begin the
// election that prefers the target.
func handover(v cluster.View) []cluster.Action {
	r := asked(v)
	if r == nil {
		return abandoned(v)
	}
	switch r.Kind {
	case cluster.Switchover:
		if why, passing := unfit(v, r.To); why != "" {
			if passing && v.Now-v.RequestSince < settling {
				return nil
			}
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

// switching reports whether a switchover is still asked for.
func switching(v cluster.View) bool {
	r := asked(v)
	return r != nil && r.Kind == cluster.Switchover
}

// asked is the request that is to be carried out in this term; nil: none.
func asked(v cluster.View) *cluster.Request {
	if r := v.Request; r != nil && r.Term == v.State.Term && Stands(v, *r) {
		return r
	}
	return nil
}

// Stands reports whether the member that recorded the request says that it was acknowledged. A proposal that timed out
// without a majority can be recorded when the majority is back, and its operator knows it as failed; who recorded it then
// never stands by it. No clock is needed for that, nor a fresh beat: what was acknowledged once stays so. A switchover
// that has begun was stood by when it began.
func Stands(v cluster.View, r cluster.Request) bool {
	if r.From == v.Self {
		return r.Begun || v.Asked == r.ID
	}
	return r.Begun || r.From != "" && v.Peers[r.From].Beat.Asked == r.ID
}

// abandoned takes back a request that nobody stands by: recorded too late, or by a member that is gone. It does nothing, and
// is only in the way of whoever looks.
func abandoned(v cluster.View) []cluster.Action {
	r := v.Request
	if r == nil || r.Term != v.State.Term || v.Now-v.RequestSince < settling {
		return nil
	}
	return []cluster.Action{cluster.Refuse{Request: *r, Why: fmt.Sprintf("%s does not stand by it: it was recorded after its operator had been told that it failed, or %s is gone", orNobody(r.From), orNobody(r.From))}}
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// settling is how long a request waits for what may pass by itself: a target that is just coming back.
const settling = cluster.Instant(10e9)

// unfit says why the member can't take over from this primary in order, or "" if it can, and whether that may pass. An
// empty name asks whether any can; the primary's own name asks for a restart in place, which is an election that it wins.
func unfit(v cluster.View, to string) (why string, passing bool) {
	if v.Admitted != v.State.Term {
		return "the primary is not ready itself yet", true
	}
	if to == v.Self {
		return "", false
	}
	if to == "" {
		if to = bestStandby(v); to == "" {
			return "no standby is streaming", true
		}
	}
	m, ok := member(v, to)
	switch {
	case !ok:
		return fmt.Sprintf("%s is not a member", to), false
	case !m.Electable():
		return fmt.Sprintf("%s is not a candidate (a witness, or priority 0)", to), false
	case !hears(v, to, v.Settings.Detect):
		return fmt.Sprintf("%s is not heard from", to), true
	case !flushed(v.Postgres, to, v.Postgres.TermRow):
		return fmt.Sprintf("%s is not streaming from the primary", to), true
	}
	return "", false
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
