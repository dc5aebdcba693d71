package sim

import "time"

// session is a client's connection to one server, through a router or past it.
type session struct {
	c      *client
	from   *host
	router *agent // nil: a direct connection
	to     *server
	closed bool
}

func (s *session) close() {
	s.closed = true
	for i, x := range s.to.sessions {
		if x == s {
			s.to.sessions = append(s.to.sessions[:i], s.to.sessions[i+1:]...)
			break
		}
	}
}

// client writes one row after another. A stubborn one connects directly, never leaves a server that still runs, and
// doesn't wait for its answers.
type client struct {
	w        *world
	stubborn bool
	session  *session
	wrote    int // acknowledged
	since    time.Duration
	waiting  bool
}

func newClient(w *world, i int) *client {
	c := &client{w: w, stubborn: i == 0}
	w.after(w.between(0, 100*ms), c.loop)
	return c
}

func (c *client) loop() {
	w := c.w
	w.after(w.between(10*ms, 60*ms), c.loop)
	s := c.session
	if s != nil && (s.closed || s.to.dead || s.router != nil && w.agentGone(s.router)) {
		if !s.closed {
			s.close()
		}
		c.session, s = nil, nil
	}
	switch {
	case s == nil:
		c.connect()
	case !c.waiting || c.stubborn:
		c.write(s)
	case w.now-c.since > 3*time.Second:
		s.close()
	}
}

// agentGone reports whether the router's process has ended.
func (w *world) agentGone(a *agent) bool { return a.h.agent != a }

func (c *client) connect() {
	w := c.w
	at := w.hosts[w.rng.IntN(len(w.hosts))]
	c.waiting = false
	var to *host
	var router *agent
	if c.stubborn {
		to = w.hosts[w.rng.IntN(w.plan.Data)]
	} else {
		if !at.on || at.paused || at.agentPaused || at.agent == nil || at.agent.route.Write == "" || at.agent.route.Hold {
			return
		}
		router, to = at.agent, w.host(at.agent.route.Write)
	}
	s := to.pg
	if !w.both(at, to) || to.paused || !s.accepting() || s.recovery || !s.hba || s.holding {
		return
	}
	c.session = &session{c: c, from: at, router: router, to: s}
	s.sessions = append(s.sessions, c.session)
}

// write sends one row. What the server says is checked where it says it: the answer may still be lost.
func (c *client) write(s *session) {
	w := c.w
	c.waiting, c.since = true, w.now
	w.stream(s.from, s.to.h, func() bool { return !s.closed }, func() {
		s.to.after(0, func() {
			if s.closed || s.to.recovery {
				return
			}
			if w.mishap(0.01) {
				s.to.cancel()
			}
			if w.chance(0.1) && s.to.visible != nil {
				w.truth.acknowledged(s.to, s.to.visible, "shows")
			}
			s.to.write(func(ok bool) {
				if c.session == s {
					c.waiting = false
				}
				if ok {
					c.wrote++
				}
			})
		})
	})
}
