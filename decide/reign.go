package decide

import (
	"standfast/cluster"
)

// bootstrap creates the first term of a new cluster: only when every data member is heard and none of them has data,
// so that a store which has lost its content never makes a cluster forget one.
func bootstrap(v cluster.View) []cluster.Action {
	first, ok := founder(v)
	if !ok || first != v.Self || !v.StoreOK || v.Postgres.Data == cluster.DataReady {
		return nil
	}
	for _, m := range v.Members {
		if m.Name == v.Self || m.Kind != cluster.Data {
			continue
		}
		b := v.Peers[m.Name].Beat
		if !hears(v, m.Name, v.Settings.Lease) || b.Data != cluster.NoData || v.State == nil && b.Term > 0 {
			return nil
		}
	}
	next := cluster.State{
		Term: 1, Phase: cluster.Elected, Primary: v.Self, Last: v.Self, Timeline: 1, Rule: firstRule(v.Settings),
		Reason: "the cluster was founded", By: v.Self,
		Steps: []cluster.Step{{Name: "founded", By: v.Self, At: v.Wall}},
	}
	if v.State != nil {
		next.Cluster, next.Term, next.Revision = v.State.Cluster, v.State.Term+1, v.State.Revision
	}
	return []cluster.Action{cluster.Write{Cause: "found the cluster", Next: next}}
}

// firstRule is that of a cluster whose founder is alone yet.
func firstRule(s cluster.Settings) cluster.Rule {
	if s.Durability == cluster.Async || s.AllowSingleCopy {
		return cluster.NewRule(0)
	}
	return cluster.NewRule(s.Copies)
}

// FromData is the first record of a cluster that is founded on data which one member, and nobody else, holds: an election whose last
// winner that member was. What follows is an election like any other: its own durable WAL is a sufficient set by itself, it is promoted
// onto a timeline above the data's, and the others, whose data is none of this cluster's, are cloned. term and timeline are the newest that
// the data knows of; systemID is its identity.
func FromData(s cluster.Settings, self, systemID string, term cluster.Term, timeline cluster.Timeline, reason string, wall int64) cluster.State {
	return cluster.State{
		SystemID: systemID, Term: term + 1, Phase: cluster.Electing, Last: self, Timeline: timeline + 1, Rule: firstRule(s),
		Reason: reason, By: self, Steps: []cluster.Step{{Name: "founded", By: self, At: wall}},
	}
}

// unfounded: no primary has ever reigned, because the founder was lost before it had made the first data.
func unfounded(v cluster.View) bool {
	return v.State.SystemID == "" && v.State.Phase == cluster.Electing
}

// founder is the electable member of the highest priority, by name among equals.
func founder(v cluster.View) (string, bool) {
	best, ok := cluster.Member{}, false
	for _, m := range v.Members {
		if m.Electable() && (!ok || m.Priority > best.Priority || m.Priority == best.Priority && m.Name < best.Name) {
			best, ok = m, true
		}
	}
	return best.Name, ok
}

// reign is the primary's work, from its election on (steps 4 to 7 of a failover).
func reign(v cluster.View) []cluster.Action {
	s, p := v.State, v.Postgres
	if s.Phase == cluster.Elected {
		return takeOffice(v)
	}
	if h, ok := v.Doing.(cluster.Handover); ok && (switching(v) || !p.Up) {
		return []cluster.Action{h} // its own stop is under way
	}
	if !serving(p) || !p.Up {
		return nil
	}
	if !hearsMajority(v, v.Settings.Lease) {
		if v.Admitted != 0 {
			return []cluster.Action{cluster.Expel{Reason: "no majority of the members has been heard for the lease"}}
		}
		return nil
	}
	if acts := admit(v); acts != nil {
		return acts
	}
	if acts := changeRule(v); acts != nil {
		return acts
	}
	return handover(v)
}

// takeOffice promotes the winner on exactly the reserved timeline, then publishes where it forked (CAS 3).
func takeOffice(v cluster.View) []cluster.Action {
	s, p := v.State, v.Postgres
	switch {
	case founding(v), s.SystemID == "" && p.Data != cluster.DataReady:
		return []cluster.Action{cluster.Init{}}
	case p.Up && p.Recovery, promoting(v):
		return []cluster.Action{cluster.Promote{Term: s.Term, Timeline: s.Timeline, Rule: s.Rule}}
	case !p.Running && s.SystemID != "":
		return startUnlessFailed(v)
	case p.Up && p.Position.Timeline == s.Timeline:
		done := "promoted"
		if p.InPlace {
			done = "goes on as it ran"
		}
		next := s.Next(done, v.Self, v.Wall)
		next.Phase, next.Fork, next.History, next.SystemID = cluster.Reigning, p.Fork, p.History, p.SystemID
		return []cluster.Action{cluster.Write{Cause: "publish the fork", Next: next}}
	}
	return nil
}

// admit lets clients in once K members of the rule have flushed this term's own row: only then is it proven that the
// term can commit. That COMMIT returned proves nothing, for the wait may have been skipped or cancelled.
func admit(v cluster.View) []cluster.Action {
	s, p := v.State, v.Postgres
	if v.Admitted == s.Term {
		return nil
	}
	if !s.Rule.Covers(p.Names) {
		return []cluster.Action{cluster.SetNames{Rule: s.Rule}}
	}
	if p.TermRow == 0 {
		return []cluster.Action{cluster.WriteTermRow{Term: s.Term}}
	}
	// By the names in force too: the WAL sender of a member that has only just entered the recorded rule may be one from before
	// its data was lost, and is ended when the names take it in (I8).
	if !s.Rule.Met(func(m string) bool { return p.Names.Has(m) && flushed(p, m, p.TermRow) }) {
		return nil
	}
	return []cluster.Action{cluster.Admit{Term: s.Term}}
}

// Unmet reports whether, on the reigning primary, fewer members stream than a commit needs by the recorded rule or by the
// names in force.
func Unmet(v cluster.View) bool {
	if v.State == nil || v.State.Phase != cluster.Reigning || v.State.Primary != v.Self || !serving(v.Postgres) {
		return false
	}
	streams := func(m string) bool { return flushed(v.Postgres, m, 0) }
	return !v.State.Rule.Met(streams) || !v.Postgres.Names.Met(streams)
}

// flushed reports whether the member streams and has flushed up to the position.
func flushed(p cluster.Postgres, name string, lsn cluster.LSN) bool {
	for _, s := range p.Standbys {
		if s.Name == name && s.Streaming && s.Flushed >= lsn {
			return true
		}
	}
	return false
}
