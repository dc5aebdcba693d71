package decide

import (
	"fmt"

	"standfast/cluster"
)

// depose ends a primary whose term is over, before anything else is considered (P2, P3). It is not told to wait for the
// promise, nor for the record to arrive: a newer term in any authenticated beat suffices, because only an election
// raises terms.
func depose(v cluster.View) []cluster.Action {
	if !serving(v.Postgres) {
		return nil
	}
	newest := newestTerm(v)
	switch {
	case newest > v.State.Term:
		return []cluster.Action{cluster.Fence{Reason: fmt.Sprintf("term %d has begun, this server belongs to term %d or before", newest, v.State.Term)}}
	case !entitled(v):
		return []cluster.Action{cluster.Fence{Reason: fmt.Sprintf("not the primary of term %d", v.State.Term)}}
	case v.Postgres.Up && v.State.Phase == cluster.Reigning && v.Postgres.Position.Timeline != v.State.Timeline:
		return []cluster.Action{cluster.Fence{Reason: fmt.Sprintf("runs on timeline %d, term %d reigns on %d", v.Postgres.Position.Timeline, v.State.Term, v.State.Timeline)}}
	case leaseLapsed(v):
		return []cluster.Action{cluster.Fence{Reason: "the lease has lapsed and commits here need no other member"}}
	}
	return nil
}

// orphaned ends a primary that this agent has found running, without being able to learn of whom the cluster's record
// speaks, once a lease is over: but only one that acknowledges commits all by itself.
func orphaned(v cluster.View) []cluster.Action {
	if !serving(v.Postgres) || v.Postgres.Names.K > 0 || v.Now-v.Since < v.Settings.Lease {
		return nil
	}
	return []cluster.Action{cluster.Fence{Reason: "the store has not answered for the lease, and commits here need no other member"}}
}

// MayServe reports whether a primary whose record is not known, because the store has not answered since the agent started,
// may be answered for all the same: its commits need others, it hears a majority for the lease, and nobody knows of a term
// above the one promised here.
func MayServe(v cluster.View) bool {
	return v.State == nil && len(v.Members) > 0 && serving(v.Postgres) && v.Postgres.Names.K > 0 &&
		hearsMajority(v, v.Settings.Lease) && newestTerm(v) <= v.Promised
}

// leaseLapsed: with k = 0 nothing but the lease keeps a cut-off primary from acknowledging beside its successor.
func leaseLapsed(v cluster.View) bool {
	alone := v.State.Rule.K == 0 && len(v.Members) > 1
	return alone && v.State.Phase == cluster.Reigning && v.Now-max(v.LeaseFrom, v.Since) >= v.Settings.Lease
}
