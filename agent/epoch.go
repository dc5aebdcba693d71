package agent

import "standfast/cluster"

// epoch is the founding that this member takes part in: the record's, or before it is known the promise's. ok is false for one that
// has neither: it has never taken part in any, and takes what the store shows it.
func (a *Agent) epoch() (e cluster.Epoch, ok bool) {
	if a.state != nil {
		return a.state.Epoch, true
	}
	return a.promisedIn, a.promised > 0
}

// supersede notes a higher epoch than this member's. It is never unlearned: the other host may be gone again a moment later.
func (a *Agent) supersede(e cluster.Epoch, from string) {
	if own, ok := a.epoch(); !ok || e <= max(own, a.superseded) {
		return
	}
	a.superseded = e
	a.log.Error("the cluster was founded anew without this member: it stays out", "epoch", e, "learned_from", from)
}

// current reports whether a beat is of this member's own epoch, and takes notice of one of a higher.
func (a *Agent) current(b cluster.Beat) bool {
	own, ok := a.epoch()
	if ok && b.Epoch > own {
		a.supersede(b.Epoch, b.From)
	}
	return !ok || b.Epoch == own
}
