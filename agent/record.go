package agent

import (
	"time"

	"standfast/cluster"
	"standfast/store"
)

// take accepts a newer snapshot of the store. The record never goes back.
func (a *Agent) take(s store.Snapshot) {
	if own, ok := a.epoch(); ok && s.State != nil && s.State.Epoch != own {
		a.supersede(s.State.Epoch, "the store")
		return // another founding's store: nothing of it is this member's
	}
	if r := s.Request; r != nil && (a.snap.Request == nil || a.snap.Request.ID != r.ID) {
		a.requestSince = a.now()
	}
	if s.Generation != a.snap.Generation {
		a.startOver()
	}
	a.snap = s
	if s.State != nil {
		a.adoptState(*s.State)
	}
	a.mu.Lock()
	a.storeOKAt = time.Now()
	a.mu.Unlock()
}

// startOver forgets what was known of the agreed record: the store was restored from a backup, where its revisions have gone
// back and what was written since has not happened. What this member has promised stays; decide sees that it is above the
// record's term.
func (a *Agent) startOver() {
	a.log.Warn("the store is another one than before: it was restored or made anew, and the record is learned from it afresh")
	a.state, a.unsettled, a.electingSince = nil, 0, 0
	a.mu.Lock()
	a.written, a.unknown, a.known, a.reported = nil, 0, 0, cluster.Report{}
	a.leaseFrom, a.leaseTerm = time.Time{}, 0
	a.mu.Unlock()
}

// adoptState makes s the record if it is newer, and dates what depends on that.
func (a *Agent) adoptState(s cluster.State) {
	if a.state != nil && s.Revision <= a.state.Revision {
		return // the record never goes back, but for startOver
	}
	old := a.state
	a.state = &s
	a.resumes = s.Halt && (!a.knew || a.resumes)
	a.knew = true
	a.mu.Lock()
	a.known = s.Term
	a.mu.Unlock()
	if s.Rule.K == 0 && old != nil && old.Rule.K > 0 {
		select {
		case a.lone <- struct{}{}:
		default:
		}
	}
	if old == nil && s.Primary == a.cfg.Self {
		a.unsettled = s.Revision // an earlier agent of this member may have left a write behind
	}
	if old == nil || old.Term != s.Term || old.Phase != s.Phase {
		a.log.Info("term", "term", s.Term, "phase", s.Phase, "primary", s.Primary, "rule", s.Rule.String(), "reason", s.Reason)
	}
	if s.Phase == cluster.Electing && (old == nil || old.Term != s.Term) {
		a.electingSince = a.now()
		if old != nil && old.Primary != "" && a.alive(old.Primary) {
			a.lastFlap = a.now()
		}
	}
}

// alive reports whether the primary that is being replaced was heard from just now.
func (a *Agent) alive(primary string) bool {
	p, ok := a.cfg.Beats.Peers()[primary]
	return primary == a.cfg.Self || ok && time.Since(p.HeardAt) < a.cfg.Settings().Detect
}
