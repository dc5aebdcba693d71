package agent

import (
	"fmt"
	"time"

	"standfast/cluster"
)

// view assembles what this member sees now.
func (a *Agent) view() cluster.View {
	a.mu.Lock()
	s := a.seen
	a.mu.Unlock()
	v := cluster.View{
		Now: a.now(), Wall: time.Now().UnixMilli(), Self: a.cfg.Self, Settings: a.cfg.Settings(),
		State: a.state, Reports: map[string]cluster.Report{}, ElectingSince: a.electingSince,
		StoreOK: time.Since(s.storeOKAt) < storeOKIn, Promised: a.promised, Admitted: s.admitted,
		Peers: map[string]cluster.Peer{}, Since: a.instant(a.origin.Add(time.Second)), LastFlap: a.lastFlap, UnmetSince: a.unmetSince, ShunnedSince: a.shunnedSince, DeafSince: a.deafSince,
	}
	if a.cfg.Asked != nil {
		v.Asked = a.cfg.Asked()
	}
	if a.snap.Config.Revision > 0 {
		v.Members = a.snap.Members // written before the configuration: now all founders are there
	}
	if a.state != nil {
		if a.snap.State != nil && a.snap.State.Term == a.state.Term {
			for n, r := range a.snap.Reports {
				if r.Term == a.state.Term {
					v.Reports[n] = r
				}
			}
		}
		if s.reported.Term == a.state.Term {
			v.Reports[a.cfg.Self] = s.reported
		}
		if r := a.snap.Request; r != nil && r.Term == a.state.Term {
			v.Request, v.RequestSince = r, a.requestSince
		}
		if s.leaseTerm == a.state.Term {
			v.LeaseFrom = a.instant(s.leaseFrom)
		}
		if s.admitted != a.state.Term {
			v.Admitted = 0
		}
	}
	for n, p := range a.cfg.Beats.Peers() {
		if !a.current(p.Beat) {
			continue
		}
		v.Peers[n] = cluster.Peer{Beat: p.Beat, Heard: a.instant(p.HeardAt)}
	}
	v.Epoch, _ = a.epoch()
	v.Superseded, v.Resumes = a.superseded, a.resumes
	if a.cfg.Postgres != nil {
		v.Postgres = a.viewPostgres(s)
	}
	v.Relay = a.viewRelay(s)
	if a.slow != nil && !a.slow.ended() {
		v.Doing = a.slow.action
	}
	return v
}

func (a *Agent) viewPostgres(s seen) cluster.Postgres {
	p := s.pg
	p.Running, p.InPlace = s.running, s.running && a.cfg.Postgres.InPlace()
	if !p.Running {
		p.Up = false
	}
	p.Stalled = s.stalled
	p.NamesLSN = 0
	if s.names.Equal(p.Names) {
		p.NamesLSN = s.namesLSN
	}
	p.Rejoined = s.rejoined
	p.Failed, p.FailedAction, p.FailedTerm = s.failed, s.failedKind, s.failedTerm
	if a.state != nil {
		if s.termRowOf == a.state.Term {
			p.TermRow = s.termRow
		}
		if a.state.SystemID != "" && p.SystemID != "" && p.SystemID != a.state.SystemID {
			p.Data = cluster.DataForeign
			a.setDataFault(fmt.Sprintf("it belongs to another cluster (system identifier %s, this cluster's is %s) and is left alone: move it away to let the member be cloned", p.SystemID, a.state.SystemID))
		}
	}
	return p
}

// viewRelay tells the relay's state; that a receiver is held counts only together with a reading of the position that
// was made while the same receiver was held.
func (a *Agent) viewRelay(s seen) cluster.Relay {
	r := cluster.Relay{Heard: a.instant(s.probeHeard)}
	if a.cfg.Relay == nil {
		return r
	}
	st := a.cfg.Relay.Status()
	r.Term = st.Term
	r.Held = st.Term == 0 && st.Held && s.held && st.Receiver == s.receiver
	if !s.pg.Up && a.state != nil && s.rejoined == a.state.Term {
		r.Held = st.Term == 0 && st.Held // it answers no query before it has streamed, and needs no comparison
	}
	r.Gone = st.Term == 0 && s.gone && s.receiver == st.Receiver
	r.Heard = max(r.Heard, a.instant(st.HeardAt))
	r.Silent = a.instant(st.AwaitedAt)
	return r
}
