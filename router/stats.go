package router

import (
	"cmp"
	"slices"
)

// Stats is a picture of the router at one moment, for metrics and the page. Totals count since New.
type Stats struct {
	Open    int // client connections of any kind, those that wait or are being refused included
	Limit   int // Config.MaxSessions
	Sides   [2]SideStats
	Servers []ServerStats // by name

	Refused     uint64 // connections answered with an error, over the limit of sessions included
	Full        uint64 // of them those over the limit of sessions
	Invalid     uint64 // connections that did not begin as PostgreSQL's do
	Cut         uint64 // sessions ended because their server lost its role
	Cancels     uint64 // CancelRequests of clients
	Withheld    uint64 // CancelRequests that this host's server did not get, for they would have given up a commit; other routers' too
	CancelsLost uint64 // CancelRequests that could not be brought to the host of a server they may have meant, or to the server there
	DialFailed  uint64 // attempts to reach a server that failed
	KnownToStop int    // cancel keys known: plaintext sessions whose CancelRequests go to exactly one server
}

// SideStats is about one of the two listeners' sides; index Stats.Sides by Side.
type SideStats struct {
	Accepted uint64 // connections in all
	Refused  uint64 // of them answered with an error
	Cut      uint64 // sessions ended because their server lost its role
	Sessions int    // that have a server now
	Held     int    // that wait for a server that can be used
	Queued   int    // that wait for a server below its limit
	In, Out  uint64 // bytes to and from the servers
}

// ServerStats is about one member's PostgreSQL, of this router's sessions only.
type ServerStats struct {
	Name     string
	Addr     string // as given to SetRoute
	Primary  bool   // takes writes by the present route
	Standby  bool   // takes reads by the present route
	Draining bool
	Down     string // why the last dial failed; "" if it is usable
	Failures uint64 // dials that failed
	Sides    [2]ServerSideStats
}

// ServerSideStats is about one server's sessions from one side; index by Side.
type ServerSideStats struct {
	Sessions int    // now
	Total    uint64 // begun
	In, Out  uint64 // bytes to and from the server
}

// Stats returns the present figures. It takes the table's lock for a moment.
func (r *Router) Stats() Stats {
	st := Stats{
		Open: int(r.open.Load()), Limit: r.cfg.MaxSessions,
		Full: r.overLimit.Load(), Invalid: r.junk.Load(),
		Cancels: r.cancels.Load(), Withheld: r.withheld.Load(), CancelsLost: r.cancelsLost.Load(), DialFailed: r.dialErrors.Load(), KnownToStop: r.keys.len(),
	}
	r.table.fill(&st)
	for side := range st.Sides {
		total := &st.Sides[side]
		total.Accepted, total.Refused, total.Cut = r.accepted[side].Load(), r.refused[side].Load(), r.cuts[side].Load()
		st.Refused += total.Refused
		st.Cut += total.Cut
		for _, srv := range st.Servers {
			total.Sessions += srv.Sides[side].Sessions
			total.In += srv.Sides[side].In
			total.Out += srv.Sides[side].Out
		}
	}
	return st
}

func (k *keyring) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.at)
}

func (t *table) fill(st *Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.view.Load()
	for _, srv := range t.servers {
		s := ServerStats{
			Name: srv.name, Addr: srv.addr, Primary: srv == v.primary.srv, Draining: t.draining[srv.name],
			Standby:  slices.ContainsFunc(v.standbys, func(r target) bool { return r.srv == srv }),
			Failures: srv.failures,
		}
		if srv.down || !srv.at.IsValid() {
			s.Down = sentence(srv.why, "its address is being looked up")
		}
		for side := range s.Sides {
			s.Sides[side] = srv.stats(Side(side))
		}
		st.Servers = append(st.Servers, s)
	}
	slices.SortFunc(st.Servers, func(a, b ServerStats) int { return cmp.Compare(a.Name, b.Name) })
	for side := range t.waiting {
		if n := t.waiting[side].Len(); t.waits[side] == queue {
			st.Sides[side].Queued = n
		} else {
			st.Sides[side].Held = n
		}
	}
}

func (srv *server) stats(side Side) ServerSideStats {
	s := ServerSideStats{Sessions: srv.sessions[side], Total: srv.total[side]}
	for i := range srv.traffic {
		s.In += srv.traffic[i].toServer[side].Load()
		s.Out += srv.traffic[i].toClient[side].Load()
	}
	return s
}
