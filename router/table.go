package router

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"standfast/cluster"
)

// table decides which server a session gets and when. All loops share it; its lock is held for moments only and never
// across a system call that could block.
type table struct {
	cfg    *Config
	lookup func(*server, string) // resolves the server's host name in the background; then calls resolved
	limits atomic.Pointer[Limits]

	// view is what the loops go by. A change of it is followed by a rise of epoch, which loops look at before each event.
	view  atomic.Pointer[view]
	epoch atomic.Uint64

	mu       sync.Mutex
	servers  map[string]*server // by member; they stay, for their totals
	draining map[string]bool
	turn     int               // where the round over equal standbys goes on
	waiting  [sides]*list.List // of *session, oldest first
	waits    [sides]verdict    // why they wait: hold or queue
}

// server is one member's PostgreSQL. Its fields are the table's, but for name and traffic.
type server struct {
	name    string
	traffic []traffic // by loop

	addr      string         // as given
	at        netip.AddrPort // zero while its name has not been resolved
	resolving bool
	moves     uint64 // rises when addr changes: sessions to the old one are lost

	sessions [sides]int
	total    [sides]uint64
	failures uint64

	down    bool      // the last dial failed
	probing bool      // one session tries whether that is over; the others wait for it
	retryAt time.Time // when the next may try
	backoff time.Duration
	why     string // the last dial's error
}

// traffic counts the bytes of one server's sessions in one loop, by side. Padded so that no two loops share a cache line.
type traffic struct {
	toServer, toClient [sides]atomic.Uint64
	_                  [32]byte
}

// seat is a session's place at a server, and the role for which it got it.
type seat struct {
	srv     *server
	at      netip.AddrPort
	moves   uint64
	primary bool
	term    cluster.Term
	probe   bool
}

func (s *seat) home() home { return home{s.srv.name, s.at} }

type verdict uint8

const (
	proceed verdict = iota
	hold            // no server can be had now
	queue           // all that would do are full
	deny
)

// choice is the answer to a session that wants a server.
type choice struct {
	verdict
	seat seat
	why  refusal // what to tell the client now (deny), or when it has waited long enough
}

// Pauses between two dials of a server that is down; a new route ends them.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

func newTable(cfg *Config) *table {
	t := &table{cfg: cfg, servers: map[string]*server{}, draining: map[string]bool{}}
	for i := range t.waiting {
		t.waiting[i] = list.New()
		t.waits[i] = hold
	}
	t.limits.Store(&cfg.Limits)
	t.view.Store(&view{route: cluster.Route{Hold: true, Why: "the router has only just started"}})
	return t
}

// ask finds a server for the session, or puts it last among the waiting.
func (t *table) ask(s *session, now time.Time) choice {
	t.mu.Lock()
	defer t.mu.Unlock()
	limits := t.limits.Load()
	c := t.choose(s.side, now)
	if c.verdict == proceed && now.Before(s.notBefore) {
		c.verdict, c.why = hold, t.noSession(s)
	} else if c.verdict != proceed {
		t.waits[s.side] = c.verdict
	}
	if limits.HoldFor == 0 && c.verdict != proceed {
		c.verdict = deny
	}
	switch c.verdict {
	case proceed:
		t.take(s, c.seat)
	case queue:
		if t.waiting[s.side].Len() >= limits.Queue {
			c.verdict = deny
			return c
		}
		s.place = t.waiting[s.side].PushBack(s)
	case hold:
		s.place = t.waiting[s.side].PushBack(s)
	}
	return c
}

func (t *table) take(s *session, at seat) {
	srv := at.srv
	srv.sessions[s.side]++
	srv.total[s.side]++
	if srv.down {
		srv.probing, at.probe = true, true
	}
	s.seat = at
}

// release gives the session's place back, be it a seat or one among the waiting.
func (t *table) release(s *session, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave(s)
	t.pump(now)
}

func (t *table) leave(s *session) {
	if s.place != nil {
		t.waiting[s.side].Remove(s.place)
		s.place = nil
	}
	if srv := s.seat.srv; srv != nil {
		srv.sessions[s.side]--
		if s.seat.probe {
			srv.probing = false
		}
		s.seat = seat{}
	}
}

// connected notes that the server accepts connections.
func (t *table) connected(s *session, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	srv := s.seat.srv
	s.seat.probe = false
	srv.down, srv.probing, srv.backoff, srv.why = false, false, 0, ""
	t.pump(now)
}

// failed notes that the session could not be connected to its server, and takes its seat.
func (t *table) failed(s *session, err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	srv := s.seat.srv
	stale := srv.moves != s.seat.moves
	t.leave(s)
	srv.failures++
	if stale {
		return
	}
	if !srv.down || !now.Before(srv.retryAt) {
		srv.backoff = min(max(2*srv.backoff, minBackoff), maxBackoff)
		srv.retryAt = now.Add(srv.backoff)
	}
	srv.down, srv.why = true, err.Error()
	t.resolve(srv)
}

// expire ends the session's wait. It returns why, or false if a server has been given to it meanwhile.
func (t *table) expire(s *session, now time.Time) (refusal, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.place == nil {
		return refusal{}, false
	}
	t.leave(s)
	c := t.choose(s.side, now)
	switch srv := c.seat.srv; {
	case c.verdict != proceed:
	case srv.down: // it is about to be tried again
		c.why = srv.unreachable()
	default: // the session waited out a pause after no answer
		c.why = t.noSession(s)
	}
	return c.why, true
}

// noSession is for a client whose server took the connection and did not answer, or not yet.
func (t *table) noSession(s *session) refusal {
	return refusal{cannotConnectNow, fmt.Sprintf("no session%s: %s", t.afterWait("trying"), s.why)}
}

// afterWait says how long a client has waited before it is told that it waited in vain.
func (t *table) afterWait(doing string) string {
	if d := t.limits.Load().HoldFor; d > 0 {
		return fmt.Sprintf(" after %s of %s", d, doing)
	}
	return ""
}

// setLimits takes new limits. Whoever waits may be served by them.
func (t *table) setLimits(l Limits, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits.Store(&l)
	t.pump(now)
}

// retry gives the waiting another chance: a pause may be over.
func (t *table) retry(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, srv := range t.servers {
		if !srv.at.IsValid() && !now.Before(srv.retryAt) {
			t.resolve(srv)
		}
	}
	t.pump(now)
}

// pump gives servers to the waiting, oldest first. Every call that frees a place or brings a server ends with it, so
// that nobody who comes later can be served first.
func (t *table) pump(now time.Time) {
	for side := range sides {
		for e := t.waiting[side].Front(); e != nil; {
			s := e.Value.(*session)
			e = e.Next()
			if now.Before(s.notBefore) {
				continue
			}
			c := t.choose(side, now)
			if c.verdict == hold || c.verdict == queue {
				t.waits[side] = c.verdict
				break // it is the same for those behind
			}
			t.leave(s)
			if c.verdict == proceed {
				t.take(s, c.seat)
			}
			s.loop.post(letter{kind: letterVerdict, s: s, choice: c})
		}
	}
}

// choose says where a new session of the side would go now. It changes nothing but the turn among equal standbys.
func (t *table) choose(side Side, now time.Time) choice {
	v := t.view.Load()
	if side == ReadSide {
		if c, ok := t.chooseStandby(v, now); ok {
			return c
		}
	}
	return t.choosePrimary(v, now)
}

// chooseStandby takes the standby with the fewest sessions of this router; equals take turns. False: there is none
// that may be used at all, be it full.
func (t *table) chooseStandby(v *view, now time.Time) (choice, bool) {
	var best *target
	full, bestAt := (*server)(nil), 0
	for i := range v.standbys {
		n := (t.turn + i) % len(v.standbys)
		r := &v.standbys[n]
		if limit := t.limits.Load().ReadLag; limit > 0 && r.lag > limit || !t.usable(r.srv, now) {
			continue
		}
		if t.full(r.srv) {
			full = r.srv
		} else if best == nil || r.srv.load() < best.srv.load() {
			best, bestAt = r, n
		}
	}
	switch {
	case best != nil:
		t.turn = bestAt + 1
		return choice{seat: seat{srv: best.srv, at: best.srv.at, moves: best.srv.moves, term: v.route.Term}}, true
	case full != nil:
		return choice{verdict: queue, why: t.fullWhy(full)}, true
	}
	return choice{}, false
}

func (t *table) choosePrimary(v *view, now time.Time) choice {
	srv := v.primary.srv
	switch {
	case srv == nil && !v.route.Hold:
		return choice{verdict: deny, why: refusal{cannotConnectNow, sentence(v.route.Why, "no primary is known")}}
	case srv == nil || v.route.Hold:
		return choice{verdict: hold, why: refusal{cannotConnectNow, fmt.Sprintf("no primary%s: %s", t.afterWait("waiting"), sentence(v.route.Why, "one is being chosen"))}}
	case t.draining[srv.name]:
		return choice{verdict: hold, why: refusal{cannotConnectNow, srv.name + " is being drained and takes no new sessions; switch over, or end the draining"}}
	case !t.usable(srv, now):
		return choice{verdict: hold, why: srv.unreachable()}
	case t.full(srv):
		return choice{verdict: queue, why: t.fullWhy(srv)}
	}
	return choice{seat: seat{srv: srv, at: srv.at, moves: srv.moves, primary: true, term: v.route.Term}}
}

// usable reports whether a session may be sent to the server: it is up as far as known, or it is time to try again and
// nobody else does.
func (t *table) usable(srv *server, now time.Time) bool {
	return srv.at.IsValid() && !t.draining[srv.name] && (!srv.down || !srv.probing && !now.Before(srv.retryAt))
}

func (t *table) full(srv *server) bool {
	limit := t.limits.Load().MaxPerServer
	return limit > 0 && srv.load() >= limit
}

func (t *table) fullWhy(srv *server) refusal {
	return refusal{tooManyConnections, fmt.Sprintf("all %d sessions that this router may open to %s are in use; close some, or raise the limit", t.limits.Load().MaxPerServer, srv.name)}
}

func (srv *server) unreachable() refusal {
	return refusal{cannotConnectNow, fmt.Sprintf("PostgreSQL of %s at %s can't be reached: %s", srv.name, srv.addr, sentence(srv.why, "no answer yet"))}
}

func (srv *server) load() int { return srv.sessions[WriteSide] + srv.sessions[ReadSide] }

func sentence(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
