package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"standfast/cluster"
)

// Brain is what decides for every member: package decide, or a broken copy of it.
type Brain struct {
	Decide  func(cluster.View) []cluster.Action
	Route   func(cluster.View) cluster.Route
	Beat    func(cluster.View) cluster.Beat
	Unmet   func(cluster.View) bool
	Shunned func(cluster.View) bool
}

// Config says what to run.
type Config struct {
	Seed  uint64
	Plan  Plan
	Brain Brain
	Flaws Flaw
	Trace func(line string) // nil: none, which is several times faster
}

// Outcome is what became of a run.
type Outcome struct {
	Steps     int           // calls of Decide
	Time      time.Duration // virtual
	Acked     int           // commits acknowledged
	Terms     cluster.Term  // reached
	Lost      int           // records given up in elections that may lose (async, forced)
	Violation *Violation    // nil: every invariant held
}

// Violation is a broken invariant.
type Violation struct {
	Invariant Invariant
	Text      string
	At        time.Duration
}

func (v *Violation) Error() string { return fmt.Sprintf("%s at %v: %s", v.Invariant, v.At, v.Text) }

// proc says which of a host's processes an event belongs to: it runs only while that lives, and waits while it is
// stopped.
type proc uint8

const (
	nobody proc = iota // the world itself: networks, operators, clients
	machine
	agentProc
	pgProc
)

type event struct {
	at    time.Duration
	seq   uint64
	fn    func()
	h     *host
	s     *server
	epoch int
	proc  proc
}

// world is one run: virtual time, the hosts, what joins them and what is true of them all.
type world struct {
	cfg     Config
	plan    Plan
	rng     *rand.Rand
	now     time.Duration
	seq     uint64
	queue   []event
	hosts   []*host
	links   [][]link
	store   *store
	truth   truth
	clients []*client
	archive []*rec // the newest archived record of each branch
	calm    bool   // faults are over
	steps   int
	asked   int // requests of operators so far
	fail    *Violation
}

// Run plays one seed to its end: schedule of faults, quiet time, and the first broken invariant ends it.
func Run(cfg Config) Outcome {
	w := &world{cfg: cfg, plan: cfg.Plan, rng: rand.New(rand.NewPCG(cfg.Seed, 0x5f))}
	w.build()
	w.schedule()
	w.run(w.plan.Length)
	if w.fail == nil {
		w.settle()
	}
	return Outcome{
		Steps: w.steps, Time: w.now, Acked: w.truth.acks, Terms: w.store.snap.term(), Lost: w.truth.lost, Violation: w.fail,
	}
}

func (w *world) build() {
	n := w.plan.Data + w.plan.Witness
	w.links = make([][]link, n)
	for i := range w.links {
		w.links[i] = make([]link, n)
	}
	w.truth = truth{w: w, timelines: map[cluster.Timeline]*branch{}, open: map[string]bool{}}
	w.store = newStore(w)
	for i := range n {
		w.hosts = append(w.hosts, newHost(w, i))
	}
	for _, h := range w.hosts {
		h.boot()
	}
	if w.plan.Adopted {
		w.hosts[0].runs()
	}
	for i := range w.plan.Clients {
		w.clients = append(w.clients, newClient(w, i))
	}
}

// run plays events until the time has come or an invariant broke.
func (w *world) run(until time.Duration) {
	for w.fail == nil && len(w.queue) > 0 && w.queue[0].at <= until {
		e := w.pop()
		w.now = max(w.now, e.at)
		w.dispatch(e)
	}
	if w.fail == nil {
		w.now = max(w.now, until)
	}
}

func (w *world) dispatch(e event) {
	h := e.h
	switch e.proc {
	case agentProc:
		if h.agent == nil || h.agent.epoch != e.epoch {
			return
		}
		if h.paused || h.agentPaused {
			h.deferred = append(h.deferred, e)
			return
		}
	case pgProc:
		if e.s.dead {
			return
		}
		if h.paused {
			h.deferred = append(h.deferred, e)
			return
		}
	case machine:
		if h.boots != e.epoch {
			return
		}
		if h.paused {
			h.deferred = append(h.deferred, e)
			return
		}
	}
	e.fn()
}

// after runs fn when d has passed, whatever becomes of any host.
func (w *world) after(d time.Duration, fn func()) { w.push(event{at: w.now + d, fn: fn}) }

func (w *world) push(e event) {
	w.seq++
	e.seq = w.seq
	w.queue = append(w.queue, e)
	for i := len(w.queue) - 1; i > 0; {
		p := (i - 1) / 2
		if !w.queue[i].before(w.queue[p]) {
			break
		}
		w.queue[i], w.queue[p] = w.queue[p], w.queue[i]
		i = p
	}
}

func (w *world) pop() event {
	q := w.queue
	e, last := q[0], len(q)-1
	q[0], q[last] = q[last], event{}
	w.queue = q[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q[c+1].before(q[c]) {
			c++
		}
		if !q[c].before(q[i]) {
			break
		}
		q[i], q[c] = q[c], q[i]
		i = c
	}
	return e
}

func (e *event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// chance is true with probability p.
func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// mishap is chance while faults are still being made.
func (w *world) mishap(p float64) bool { return !w.calm && w.chance(p) }

// between draws a duration.
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

// flaw reports whether the executor is to be broken in this way.
func (w *world) flaw(f Flaw) bool { return w.cfg.Flaws&f != 0 }

func (w *world) tracing() bool { return w.cfg.Trace != nil }

// trace tells one line. Callers on hot paths ask tracing first.
func (w *world) trace(who, format string, args ...any) {
	if w.cfg.Trace != nil {
		w.cfg.Trace(fmt.Sprintf("%10.4f %-5s %s", w.now.Seconds(), who, fmt.Sprintf(format, args...)))
	}
}

// broken records the first broken invariant.
func (w *world) broken(i Invariant, format string, args ...any) {
	if w.fail == nil {
		w.fail = &Violation{Invariant: i, Text: fmt.Sprintf(format, args...), At: w.now}
		w.trace("****", "%v", w.fail)
	}
}

const ms = time.Millisecond
