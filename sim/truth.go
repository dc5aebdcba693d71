package sim

import (
	"strings"
	"time"

	"standfast/cluster"
)

// Invariant names what must always hold.
type Invariant string

const (
	// Kept (P1): every commit acknowledged to a client, or shown to a reader, is in the history of each later primary,
	// and is on K other disks of the recorded rule when it is acknowledged.
	Kept Invariant = "P1 kept"
	// OneLine (P2): a server whose successor has been promoted acknowledges only what the successor's history contains.
	OneLine Invariant = "P2 one line"
	// Routed (P3): clients are sent to the primary of the newest term known, and nowhere without a majority's beats.
	Routed Invariant = "P3 routed"
	// Whole (P4): some time after the last fault the cluster is whole again and commits.
	Whole Invariant = "P4 whole"
	// Covered: the recorded rule covers what every process of the newest primary works by.
	Covered Invariant = "rule covered"
	// Unique: no timeline number belongs to two histories.
	Unique Invariant = "timeline unique"
	// Sworn: a report is exact, its promise is on disk, and no WAL of an earlier term is flushed after it.
	Sworn Invariant = "report sworn"
	// Untouched: a member's data is rewound or cloned only while the recorded rule leaves it out, and in the term in which
	// the member found that out.
	Untouched Invariant = "data untouched"
	// Proven: clients are admitted only when the term's row is on K disks of the recorded rule.
	Proven Invariant = "admission proven"
	// Asked: no term begins because of a request whose operator was not told that it is recorded.
	Asked Invariant = "only what was asked"
	// Agreed: the record goes forward only: terms rise, one winner a term, the rule frozen when an election begins, and
	// nobody counts in its own rule.
	Agreed Invariant = "record agreed"
)

// truth is what is really so, which no member knows, and the invariants over it.
type truth struct {
	w         *world
	newest    *server // the newest promoted one
	winner    cluster.Term
	electedAt time.Duration // when the first election since the newest promotion began
	settled   bool          // none has begun since
	line      *rec          // the furthest commit that must be kept
	acks      int
	lost      int
	disksLost int
	timelines map[cluster.Timeline]*branch
	open      map[string]bool // operators who have not been told that their request is recorded
}

func (t *truth) diskLost() { t.disksLost++ }

// lossy reports whether acknowledged commits may be lost with the primary.
func (t *truth) lossy() bool { return t.w.plan.Durability == cluster.Async }

// acknowledged checks a commit that a client was told of, or that a reader saw.
func (t *truth) acknowledged(s *server, r *rec, how string) {
	t.acks++
	w := t.w
	if s != t.newest {
		if !r.in(t.newest.insert) && !t.excused(s) {
			w.broken(OneLine, "%s, deposed, %s %s; %s reigns on timeline %d from %s", s.h.name, how, r.pos(), t.newest.h.name, t.newest.br.tl, t.newest.br.fork)
		}
		if r.in(t.newest.insert) {
			t.line = deeper(t.line, r)
		}
		return
	}
	switch {
	case t.line.in(r):
		t.line = r
	case !r.in(t.line):
		w.broken(Kept, "%s %s %s, which is beside %s acknowledged before", s.h.name, how, r.pos(), t.line.pos())
		return
	}
	if n, k := t.holders(r), t.recordedK(s); n+t.disksLost < k+1 {
		w.broken(Kept, "%s %s %s with %d copies, the recorded rule needs %d", s.h.name, how, r.pos(), n, k+1)
	}
}

// excused: with k = 0 only the lease and the guard end a deposed primary, and a machine that was paused as a whole
// wakes up before them.
func (t *truth) excused(s *server) bool {
	set := t.w.store.snap.settings
	return t.lossy() && t.w.now-s.h.resumed < set.GuardDelay && s.h.resumed > 0
}

// recordedK is how many others the record asks for, while it speaks of this server.
func (t *truth) recordedK(s *server) int {
	st := t.w.store.snap.state
	if st == nil || s.term != t.winner || st.Rule.K > len(st.Rule.Of) {
		return 0 // a rule that nobody can meet promises nothing
	}
	return st.Rule.K
}

func (t *truth) holders(r *rec) int {
	n := 0
	for _, h := range t.w.hosts {
		if !h.disk.garbage && h.disk.data == cluster.DataReady && r.in(h.disk.wal) {
			n++
		}
	}
	return n
}

// promoted checks a new primary against all that was acknowledged.
func (t *truth) promoted(s *server, force bool) {
	w := t.w
	if b := t.timelines[s.br.tl]; b != nil {
		w.broken(Unique, "timeline %d is used a second time, by %s at %s", s.br.tl, s.h.name, s.br.fork)
	}
	t.timelines[s.br.tl] = s.br
	if t.newest != nil && s.term < t.newest.term {
		return // a late promotion of a past term: it may acknowledge nothing, which acknowledged checks
	}
	if s.h.disk.garbage {
		w.broken(Kept, "%s is promoted on half-made data", s.h.name)
	}
	if !t.line.in(s.insert) {
		t.discards(s, force)
	}
	t.newest, t.settled = s, true
	t.covered()
}

// discards is a promotion that leaves acknowledged commits behind.
func (t *truth) discards(s *server, force bool) {
	w, set := t.w, t.w.store.snap.settings
	if !force && !t.lossy() {
		w.broken(Kept, "%s is promoted at %s without %s, which was acknowledged", s.h.name, s.insert.pos(), t.line.pos())
		return
	}
	if bound := set.Lease + set.GuardDelay; w.now-t.electedAt < bound {
		w.broken(OneLine, "%s discards %s only %v after the election began, the old primary's lease may last %v", s.h.name, t.line.pos(), w.now-t.electedAt, bound)
	}
	keep := meet(t.line, s.insert)
	t.lost += t.line.depth - keep.depth
	w.trace("****", "accepted loss: from %s back to %s", t.line.pos(), keep.pos())
	t.line = keep
}

// covered checks that the record covers every process of the newest primary.
func (t *truth) covered() {
	s, st := t.newest, t.w.store.snap.state
	if s == nil || s.dead || st == nil || s.term != t.winner || s.recovery {
		return
	}
	check := func(r cluster.Rule, who string) {
		if r.K == 0 {
			r = cluster.Rule{}
		}
		if !st.Rule.Covers(r) {
			t.w.broken(Covered, "on %s %s works by %q, recorded is %q", s.h.name, who, r, st.Rule)
		}
	}
	if !s.waits {
		check(cluster.Rule{}, "a backend")
	}
	check(s.conf, "a new process")
	for _, x := range s.senders {
		check(x.rule, "the sender of "+x.name)
	}
}

// recorded checks a write of the record.
func (t *truth) recorded(old, next *cluster.State) {
	if t.w.tracing() {
		t.w.trace("store", "revision %d: term %d %s, primary %q, timeline %d, %s", next.Revision, next.Term, next.Phase, next.Primary, next.Timeline, next.Rule)
	}
	if next.Phase == cluster.Elected && next.Term > t.winner {
		t.winner = next.Term
	}
	if next.Phase == cluster.Electing && t.settled {
		t.electedAt, t.settled = t.w.now, false
	}
	if old != nil {
		t.forward(old, next)
	}
	for by := range t.open {
		if next.Phase == cluster.Electing && strings.HasPrefix(next.Reason, by+" ") {
			t.w.broken(Asked, "term %d: %s, though nobody was told that this is recorded", next.Term, next.Reason)
		}
	}
	for _, m := range next.Rule.Of {
		if t.w.host(m).touching {
			t.w.broken(Untouched, "the rule takes in %s while its data is being touched", m)
		}
	}
	t.covered()
}

func (t *truth) forward(old, next *cluster.State) {
	switch {
	case next.Term < old.Term:
		t.w.broken(Agreed, "term %d follows term %d", next.Term, old.Term)
	case next.Term > old.Term && old.SystemID != "" && !next.Rule.Equal(old.Rule):
		t.w.broken(Agreed, "election %d begins with another rule, %q instead of %q", next.Term, next.Rule, old.Rule)
	case next.Rule.Has(next.Primary) && next.Phase != cluster.Electing:
		t.w.broken(Agreed, "%s counts in its own rule, %q", next.Primary, next.Rule)
	case next.Term == old.Term && old.Phase != cluster.Electing && (next.Primary != old.Primary || next.Phase == cluster.Electing):
		t.w.broken(Agreed, "term %d had %s as primary, now %q", old.Term, old.Primary, next.Primary)
	}
}

// flushing checks WAL that a standby is about to flush from a stream of the term.
func (t *truth) flushing(h *host, term cluster.Term, target *rec) {
	if term < h.sworn {
		t.w.broken(Sworn, "%s flushes up to %s from term %d after its report of term %d", h.name, target.pos(), term, h.sworn)
	}
}

// reporting checks a report as it is sent.
func (t *truth) reporting(h *host, r cluster.Report) {
	d := &h.disk
	switch {
	case d.promised < r.Term:
		t.w.broken(Sworn, "%s reports in term %d, on its disk is a promise of %d", h.name, r.Term, d.promised)
	case d.garbage || d.data != cluster.DataReady:
		t.w.broken(Sworn, "%s reports half-made data", h.name)
	case h.agent.slow != nil && touches(h.agent.slow.act):
		t.w.broken(Sworn, "%s reports while it may still %s", h.name, h.agent.slow.act)
	case r.Position != d.wal.pos():
		t.w.broken(Sworn, "%s reports %s, its WAL ends at %s", h.name, r.Position, d.wal.pos())
	}
	if h.pg != nil && h.pg.recv != nil && h.pg.recv.st != nil && h.pg.recv.st.term < r.Term {
		t.w.broken(Sworn, "%s reports in term %d while a WAL receiver of term %d lives", h.name, r.Term, h.pg.recv.st.term)
	}
	h.sworn = r.Term
}

// touch checks that the record leaves the member out.
func (t *truth) touch(h *host) {
	if st := t.w.store.snap.state; st != nil && st.Rule.Has(h.name) {
		t.w.broken(Untouched, "%s's data is touched while it counts in %q", h.name, st.Rule)
	}
}

// touchIn checks that the leave to touch the data was got in the term that the member is in.
func (t *truth) touchIn(h *host, term cluster.Term) {
	if h.disk.promised > term {
		t.w.broken(Untouched, "%s's data is touched with leave from term %d after the promise of %d", h.name, term, h.disk.promised)
	}
}

// copies checks that the last whole copy but one is not thrown away. Decide keeps two, by what it knows; that may be
// a moment old.
func (t *truth) copies(h *host, keep bool) {
	n := 0
	for _, o := range t.w.hosts {
		if o != h && o.disk.data == cluster.DataReady && !o.disk.garbage {
			n++
		}
	}
	if n < 1 && !keep && h.disk.data == cluster.DataReady {
		t.w.broken(Untouched, "%s's data is thrown away, there is no other copy", h.name)
	}
}

// admitting checks that the term's row is where the record wants commits to be.
func (t *truth) admitting(h *host, term cluster.Term) {
	st := t.w.store.snap.state
	if st.Term != term || st.Rule.K > len(st.Rule.Of) {
		return // deposed and not knowing it, or unable to commit: its clients' commits are checked one by one
	}
	row := h.disk.row
	if h.disk.rowTerm != term || row == nil {
		t.w.broken(Proven, "%s admits clients in term %d without the term's row", h.name, term)
		return
	}
	if !st.Rule.Met(func(m string) bool { o := t.w.host(m); return !o.disk.garbage && row.in(o.disk.wal) }) && t.disksLost == 0 {
		t.w.broken(Proven, "%s admits clients in term %d, the row is not on the disks of %q", h.name, term, st.Rule)
	}
}

// routed checks where a member sends clients, against what it knows.
func (t *truth) routed(a *agent, v cluster.View, r cluster.Route) {
	if r.Write == "" {
		return
	}
	newest, from, heard := cluster.Term(0), "", 1
	if v.State != nil {
		newest, from = v.State.Term, v.State.Primary
	}
	for _, m := range v.Members {
		p, ok := v.Peers[m.Name]
		if !ok || m.Name == v.Self {
			continue
		}
		if v.Now-p.Heard < v.Settings.Lease {
			heard++
		}
		if p.Beat.Term > newest {
			newest, from = p.Beat.Term, ""
		}
	}
	for _, p := range v.Peers {
		if p.Beat.Admitted == newest {
			from = p.Beat.From
		}
	}
	if heard <= len(v.Members)/2 {
		t.w.broken(Routed, "%s hears %d of %d members and routes to %s", v.Self, heard, len(v.Members), r.Write)
	}
	if r.Write != from {
		t.w.broken(Routed, "%s knows of term %d of primary %q and routes to %s", v.Self, newest, from, r.Write)
	}
}
