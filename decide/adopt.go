package decide

import (
	"standfast/cluster"
)

// Unclaimed reports whether a primary runs here that no cluster answers for yet: it ran before there was one, and this member has
// never promised anything. Until it does nobody else can have been elected, so the server is left alone whatever is heard, or not.
func Unclaimed(v cluster.View) bool {
	return v.State == nil && v.Postgres.InPlace && v.Promised == 0
}

// takeOver founds the cluster upon the primary that runs here: term 1 is its, on the timeline that it is on, and takeOffice goes on from
// there as for any winner. What it has acknowledged so far it has by itself, so the rule is k = 0, which covers whatever is in force; from there
// the rule is extended as always, once enough members stream (State.Solo). Only this member's word elects until then.
//
// The promise comes first: from the write on this member is bound like any other, an agent that starts later included.
func takeOver(v cluster.View) []cluster.Action {
	p, m := v.Postgres, self(v)
	if !v.StoreOK || !serving(p) || !p.Up || p.Data != cluster.DataReady || p.SystemID == "" || p.Position.Timeline == 0 || v.Promised > 1 || !m.Electable() {
		return nil
	}
	if !hearsMajority(v, v.Settings.Detect) {
		return nil // nobody is there to make a cluster with
	}
	for _, peer := range v.Peers {
		// Peers repeat the term that this member has promised, which says nothing: a record of term 1 would be in the store, and refuse the write.
		if peer.Beat.Term > v.Promised || peer.Beat.Promised > 0 {
			return nil // there is one, or there was
		}
	}
	next := cluster.State{
		Term: 1, Phase: cluster.Elected, Primary: v.Self, Last: v.Self, Timeline: p.Position.Timeline,
		SystemID: p.SystemID, Rule: cluster.NewRule(0), Solo: true, Reason: "a running primary was taken over", By: v.Self,
		Steps: []cluster.Step{{Name: "taken over as it ran", By: v.Self, At: v.Wall}},
	}
	found := cluster.Write{Cause: "found the cluster on the running primary", Next: next}
	if v.Promised == 0 {
		return []cluster.Action{cluster.Promise{Term: 1}, found}
	}
	return []cluster.Action{found}
}
