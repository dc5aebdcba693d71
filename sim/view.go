package sim

import (
	"time"

	"standfast/cluster"
)

// view is everything that this member sees now.
func (a *agent) view() cluster.View {
	now := a.h.clock()
	if s := a.h.pg; s == nil || s.dead || s.recovery {
		a.admitted = 0
	}
	v := cluster.View{
		Now: now, Wall: int64(a.w.now / ms), Self: a.h.name, Members: a.snap.members, Settings: a.snap.settings,
		State: a.state, StoreOK: a.okAt > 0 && now-a.okAt < time.Second, Promised: a.promised, Postgres: a.postgres(),
		Relay: a.relay.view(), Admitted: a.admitted, Peers: a.peers, Asked: a.asked, Since: a.since, LastFlap: a.lastFlap,
	}
	if a.state != nil {
		t := a.state.Term
		v.Reports = make(map[string]cluster.Report, len(a.snap.reports))
		for _, r := range a.snap.reports {
			if r.Term == t {
				v.Reports[r.Member] = r
			}
		}
		if a.state.Phase == cluster.Electing {
			v.ElectingSince = a.electingSince
		}
		if r := a.snap.request; r != nil && r.Term == t {
			v.Request, v.RequestSince = r, a.requestSince
		}
		if a.leaseOf == t {
			v.LeaseFrom = a.leaseAt
		}
	}
	if a.slow != nil {
		v.Doing = a.slow.act
	}
	v.UnmetSince = since(&a.unmetSince, a.w.cfg.Brain.Unmet(v), now)
	v.ShunnedSince = since(&a.shunnedSince, a.w.cfg.Brain.Shunned(v), now)
	return v
}

// since keeps at from when on a condition has held without a break, 0 if it does not.
func since(at *cluster.Instant, holds bool, now cluster.Instant) cluster.Instant {
	switch {
	case !holds:
		*at = 0
	case *at == 0:
		*at = now
	}
	return *at
}

// postgres is what the agent sees of its own server.
func (a *agent) postgres() cluster.Postgres {
	h, d := a.h, &a.h.disk
	p := cluster.Postgres{
		Data: d.data, Names: d.names, Failed: a.failed, FailedAction: a.failedAction, FailedTerm: a.failedTerm,
	}
	if h.witness() {
		p.Data = cluster.NoData
	}
	if d.wal != nil {
		p.SystemID = d.wal.br.system
	}
	s := h.pg
	if s == nil || s.dead {
		p.Running = h.zombie
		p.Recovery = h.zombie && s != nil && s.recovery
		return p
	}
	p.InPlace = s.inPlace
	p.Running, p.Up, p.Recovery, p.Ready = true, s.up && !s.stopping, s.recovery, s.recovery && s.up
	if h.stalled && a.w.now-h.stalledSince > 300*ms {
		p.Stalled = "its writes hang"
	}
	p.Names = s.names()
	if s.recovery {
		end := s.replayed
		if s.streamed {
			end = d.wal
		}
		p.Position, p.Replayed = end.pos(), s.replayed.end()
		return p
	}
	p.Position, p.Fork, p.History, p.NamesLSN = d.wal.pos(), s.br.fork, s.br.history, s.named
	p.Position.Timeline = s.br.tl
	if a.state != nil && d.rowTerm == a.state.Term && d.row.in(d.wal) {
		p.TermRow = d.row.end()
	}
	for _, x := range s.senders {
		p.Standbys = append(p.Standbys, cluster.Standby{Name: x.name, Streaming: x.live, Flushed: x.flush})
	}
	return p
}
