package sim

import (
	"fmt"
	"time"

	"standfast/cluster"
)

// host is one machine: its clock, its disk and what runs on it.
type host struct {
	w    *world
	id   int
	name string

	on, paused  bool
	agentPaused bool
	boots       int     // how often it was started: events of earlier times are void
	deferred    []event // what waits for it, or its agent, to be resumed
	resumed     time.Duration
	rate        float64 // of its clock
	bootAt      time.Duration
	bootClock   cluster.Instant

	stalled      bool // writes to its disk hang
	stalledSince time.Duration
	hung         []func()
	disk         disk
	pg           *server // the newest, possibly dead
	mute         bool    // its part of the store was stopped
	zombie       bool    // killed, but a process in uninterruptible sleep is left
	agent        *agent
	agents       int
	fed          time.Duration // when the agent last fed the guard
	sworn        cluster.Term  // the newest term in which it reported (known to the world only)
	touching     bool          // its data is being rewound or cloned (likewise)
}

// disk is what survives the loss of power.
type disk struct {
	data     cluster.DataState
	garbage  bool             // half rewound or cloned, whatever the marker says (known to the world only)
	wal      *rec             // the end of what is flushed
	highest  cluster.Timeline // the highest that pg_wal has a segment or a history file of
	names    cluster.Rule     // postgresql.auto.conf
	promised cluster.Term
	row      *rec // the newest term row in the table, and its term
	rowTerm  cluster.Term
}

func newHost(w *world, id int) *host {
	return &host{
		w: w, id: id, name: fmt.Sprintf("pg%d", id+1), rate: 1 + (w.rng.Float64()-0.5)*2*drift,
		disk: disk{data: cluster.NoData, names: cluster.NewRule(1)},
	}
}

// drift is how far a clock's rate may be off either way.
const drift = 0.02

// clock reads the host's monotonic clock.
func (h *host) clock() cluster.Instant {
	return h.bootClock + time.Duration(float64(h.w.now-h.bootAt)*h.rate)
}

// span turns a duration by the host's clock into true time.
func (h *host) span(d time.Duration) time.Duration { return time.Duration(float64(d) / h.rate) }

func (h *host) member() cluster.Member { return h.w.store.snap.members[h.id] }

func (h *host) witness() bool { return h.id >= h.w.plan.Data }

// boot switches the host on. Only the agent starts by itself, never PostgreSQL.
func (h *host) boot() {
	h.on, h.paused, h.agentPaused, h.zombie = true, false, false, false
	h.boots++
	h.deferred, h.hung, h.pg = nil, nil, nil
	h.bootAt, h.bootClock, h.fed = h.w.now, h.w.between(time.Second, time.Hour), h.w.now
	h.w.trace(h.name, "boots")
	h.startAgent()
	h.guard()
}

// crash is the loss of power: no process says goodbye, and only what was synced is left.
func (h *host) crash() {
	if !h.on {
		return
	}
	h.w.trace(h.name, "loses power")
	h.on, h.stalled = false, false
	if h.agent != nil {
		h.agent.die()
	}
	if h.pg != nil {
		h.pg.die(false)
	}
	h.zombie = false
}

// lose is the loss of the disk with everything on it.
func (h *host) lose() {
	h.w.trace(h.name, "loses its disk")
	h.disk = disk{data: cluster.NoData, names: cluster.NewRule(1)}
	h.sworn = 0
	h.w.truth.diskLost()
}

func (h *host) pause() {
	h.w.trace(h.name, "is paused")
	h.paused = true
}

func (h *host) resume() {
	h.w.trace(h.name, "resumes")
	h.paused, h.resumed = false, h.w.now
	h.undefer()
}

// undefer lets everything that waited happen soon, in nearly any order: sockets kept their content.
func (h *host) undefer() {
	es := h.deferred
	h.deferred = nil
	for _, e := range es {
		e.at = h.w.now + h.w.between(0, 3*ms)
		h.w.push(e)
	}
}

// startAgent starts the agent's process, which reads its promise and adopts a running server.
func (h *host) startAgent() {
	if !h.on || h.agent != nil {
		return
	}
	h.agents++
	h.agentPaused = false
	h.agent = newAgent(h)
	h.w.trace(h.name, "agent starts, promised %d", h.disk.promised)
	h.agent.begin()
}

// after runs fn on this boot of the machine.
func (h *host) after(d time.Duration, fn func()) {
	h.w.push(event{at: h.w.now + d, fn: fn, h: h, epoch: h.boots, proc: machine})
}

// guard kills PostgreSQL when the agent has not fed it in time.
func (h *host) guard() {
	set := h.w.store.snap.settings
	if h.w.now-h.fed >= h.span(set.Lease+set.GuardDelay*3/4) && h.pg != nil && !h.pg.dead {
		h.w.trace(h.name, "guard kills PostgreSQL")
		h.kill()
	}
	h.after(h.span(set.GuardDelay/5), h.guard)
}

// kill ends every process of PostgreSQL. One in uninterruptible sleep can do nothing any more, but stays.
func (h *host) kill() {
	if h.pg == nil || h.pg.dead {
		return
	}
	h.pg.die(true)
	h.zombie = h.stalled
}

func (h *host) stall() {
	h.w.trace(h.name, "disk hangs")
	h.stalled, h.stalledSince = true, h.w.now
}

func (h *host) unstall() {
	h.w.trace(h.name, "disk works again")
	h.stalled, h.zombie = false, false
	hung := h.hung
	h.hung = nil
	for _, fn := range hung {
		fn()
	}
	if h.agent != nil {
		h.agent.wake()
	}
}

// sync runs fn when what was written is on disk. later is how the writing process waits.
func (h *host) sync(later func(time.Duration, func()), fn func()) {
	var try func()
	try = func() {
		if h.stalled {
			h.hung = append(h.hung, func() { later(h.w.between(0, 2*ms), try) })
			return
		}
		fn()
	}
	later(h.w.between(300*time.Microsecond, 4*ms), try)
}
