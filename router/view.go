package router

import (
	"net/netip"
	"slices"
	"time"

	"standfast/cluster"
)

// view is one route with its servers found, never changed once it is published.
type view struct {
	route    cluster.Route
	primary  target   // of Route.Write
	standbys []target // of Route.Reads
	leaving  []target // standbys in their grace
}

// target is a server in a route.
type target struct {
	srv   *server
	moves uint64
	lag   cluster.LSN
	since time.Time // of a leaving one: since when it is no read target
}

func (t target) is(s *seat) bool { return t.srv == s.srv && t.moves == s.moves }

// keeps reports whether the seat's server still has the role for which the session got it.
//
// While a primary is being chosen (Hold) sessions of the term's own primary go on: in a switchover it serves until it is
// stopped. A newer term ends them, and so does the loss of the majority, which is no Hold.
func (v *view) keeps(s *seat, now time.Time, grace time.Duration) bool {
	if s.primary {
		if v.primary.srv != nil {
			if v.primary.is(s) {
				s.term = v.route.Term
				return true
			}
			return false
		}
		return v.route.Hold && v.route.Term == s.term
	}
	for _, t := range v.standbys {
		if t.is(s) {
			return true
		}
	}
	for _, t := range v.leaving {
		if t.is(s) && now.Sub(t.since) < grace {
			return true
		}
	}
	return false
}

// setRoute publishes a new route and reports whether the loops have to look at it. The waiting are served under the same
// lock, before anyone who asks later.
func (t *table) setRoute(r cluster.Route, addrs map[string]string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.view.Load()
	if sameRoute(old.route, r) && t.settled(addrs) {
		// The lags tell where new sessions go, which no loop has to be woken for.
		t.view.Store(old.withLags(r))
		return false
	}
	v := &view{route: r}
	if r.Write != "" {
		v.primary = t.target(r.Write, addrs)
	}
	for _, read := range r.Reads {
		tg := t.target(read.Name, addrs)
		tg.lag = read.Lag
		v.standbys = append(v.standbys, tg)
	}
	v.leaving = leaving(old, v, now)
	for _, srv := range t.servers {
		srv.backoff, srv.retryAt = 0, time.Time{}
	}
	for _, side := range t.waiting {
		for e := side.Front(); e != nil; e = e.Next() {
			e.Value.(*session).notBefore = time.Time{}
		}
	}
	t.publish(v, now)
	return true
}

// sameRoute reports whether two routes send the same clients to the same servers; a standby's lag may differ.
func sameRoute(a, b cluster.Route) bool {
	return a.Term == b.Term && a.Write == b.Write && a.Hold == b.Hold && a.Why == b.Why &&
		slices.EqualFunc(a.Reads, b.Reads, func(x, y cluster.ReadTarget) bool { return x.Name == y.Name })
}

// settled reports that a route that names the same servers changes nothing: they are where they were, none has to be
// looked for, tried again or left, and nobody waits.
func (t *table) settled(addrs map[string]string) bool {
	for _, side := range t.waiting {
		if side.Len() > 0 {
			return false
		}
	}
	v := t.view.Load()
	for _, at := range append([]target{v.primary}, v.standbys...) {
		srv := at.srv
		if srv != nil && (srv.addr != addrs[srv.name] || srv.down || !srv.at.IsValid()) {
			return false
		}
	}
	return len(v.leaving) == 0
}

// withLags is the view with the newer lags of the same standbys.
func (v *view) withLags(r cluster.Route) *view {
	n := *v
	n.route, n.standbys = r, slices.Clone(v.standbys)
	for i := range n.standbys {
		n.standbys[i].lag = r.Reads[i].Lag
	}
	return &n
}

func (t *table) publish(v *view, now time.Time) {
	t.view.Store(v)
	t.epoch.Add(1)
	t.pump(now)
}

// leaving lists the standbys that v has lost since old and whose sessions may still go on for their grace.
func leaving(old, v *view, now time.Time) []target {
	if v.primary.srv != nil || !v.route.Hold {
		return nil
	}
	var out []target
	for _, t := range old.standbys {
		t.since = now
		out = appendGone(out, v, t)
	}
	for _, t := range old.leaving {
		out = appendGone(out, v, t)
	}
	return out
}

func appendGone(out []target, v *view, t target) []target {
	for _, have := range v.standbys {
		if have.srv == t.srv {
			return out
		}
	}
	return append(out, t)
}

// target finds the member's server at its present address. A member without a known address has one that is never
// usable, so that its clients wait.
func (t *table) target(name string, addrs map[string]string) target {
	srv := t.servers[name]
	if srv == nil {
		srv = &server{name: name, traffic: make([]traffic, t.cfg.Workers)}
		t.servers[name] = srv
	}
	if addr := addrs[name]; addr != srv.addr {
		srv.addr, srv.at, srv.why = addr, netip.AddrPort{}, ""
		srv.down, srv.probing = false, false
		srv.moves++
		if addr == "" {
			srv.why = "its address is not known"
		}
		t.resolve(srv)
	}
	return target{srv: srv, moves: srv.moves}
}

// resolve finds the server's address: at once when it is written in numbers, else in the background.
func (t *table) resolve(srv *server) {
	if srv.addr == "" || srv.resolving {
		return
	}
	if at, err := netip.ParseAddrPort(srv.addr); err == nil {
		srv.at = at
		return
	}
	srv.resolving = true
	t.lookup(srv, srv.addr)
}

// resolved takes what a lookup found for the server's address addr.
func (t *table) resolved(srv *server, addr string, at netip.AddrPort, err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	srv.resolving = false
	switch {
	case addr != srv.addr: // it has moved meanwhile
		t.resolve(srv)
		return
	case err != nil:
		srv.why, srv.retryAt = err.Error(), now.Add(maxBackoff)
		return
	}
	srv.at = at
	t.pump(now)
}

func (t *table) setDraining(member string, on bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if on {
		t.draining[member] = true
	} else {
		delete(t.draining, member)
	}
	t.pump(now)
}

// cancelTargets lists where a CancelRequest goes whose session is not known by its key (its session is TLS, or another
// router's): on the writing side to the primary, on the reading side to every server that serves reads or has sessions
// of it. A server that does not have that very process and secret key ignores it, so the others come to no harm.
func (t *table) cancelTargets(side Side) []home {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.view.Load()
	var out []home
	for _, srv := range t.servers {
		wanted := srv.sessions[side] > 0
		if side == WriteSide || len(v.standbys) == 0 {
			wanted = wanted || srv == v.primary.srv
		}
		for _, r := range v.standbys {
			wanted = wanted || side == ReadSide && r.srv == srv
		}
		if wanted && srv.at.IsValid() {
			out = append(out, home{srv.name, srv.at})
		}
	}
	return out
}
