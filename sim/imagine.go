package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"standfast/cluster"
)

// Scene is a cluster as it stands, and what is to happen to it. Unlike a Plan it draws no faults: what happens is what is written, and
// the seed decides only by how many milliseconds one member is quicker than another.
type Scene struct {
	Data     []SceneMember // sorted by name; the first two at least are up and candidates
	Witness  []SceneMember
	Primary  int // of Data
	Settings cluster.Settings
	Before   []Blow // what is so already
	Blows    []Blow // what happens, all at once
	Seed     uint64
	Brain    Brain
}

// SceneMember is one member. Members are named by their places: pg1 is the first of Data, and those of Witness come after all of them.
type SceneMember struct{ Priority int }

// Blow is one thing that happens to the hosts of those numbers.
type Blow struct {
	Kind BlowKind
	Host int
	From []int // Cut only: from whom, both ways
}

// BlowKind says what happens.
type BlowKind string

// What can happen.
const (
	PowerOff     BlowKind = "power off"     // the host is gone, and stays so
	Pause        BlowKind = "pause"         // it stands still, and stays so
	Cut          BlowKind = "cut"           // its cables to the others are pulled
	KillPostgres BlowKind = "kill postgres" // every process of PostgreSQL
	KillAgent    BlowKind = "kill agent"    // which is started again after a second
	StopStore    BlowKind = "stop etcd"     // its part of the store, for good
	HangDisk     BlowKind = "hang disk"     // writes to it hang
)

// Ending is what came of a Scene.
type Ending struct {
	Founded   bool          // the cluster came to stand as the scene says; nothing else is told if not
	Primary   string        // that takes writes in the end; "": nobody
	State     cluster.State // the record in the end
	Terms     int           // how many terms were begun
	Outage    time.Duration // how long nobody took writes in all, as long as Primary is somebody
	Attached  []string      // members that take the primary's stream in the end
	Up        []string      // hosts that run and hear a majority in the end
	Violation *Violation    // nil: every promise was kept
	Lost      int           // records given up, where the settings let it
}

// How long a scene is given to come to stand, and to play out.
const (
	toStand = 90 * time.Second
	toEnd   = 60 * time.Second
	toCalm  = 15 * time.Second // without an outage; every wait in a failover is shorter
	glance  = 5 * ms           // how exactly an outage is measured
)

// Imagine plays a scene.
func Imagine(s Scene) Ending {
	w := &world{cfg: Config{Seed: s.Seed, Brain: s.Brain}, rng: rand.New(rand.NewPCG(s.Seed, 0x1f)), calm: true}
	w.plan = Plan{Name: "scene", Data: len(s.Data), Witness: len(s.Witness), Clients: 3, Copies: s.Settings.Copies, Durability: s.Settings.Durability, Single: s.Settings.AllowSingleCopy}
	w.build()
	w.configure(func(sn *snap) {
		sn.settings = s.Settings
		sn.settings.Paused = false
		for i, m := range s.Data {
			sn.members[i].Priority = m.Priority
		}
	})
	if !w.stands(s) {
		return Ending{}
	}
	w.configure(func(sn *snap) { sn.settings.Paused = s.Settings.Paused })
	for _, b := range s.Before {
		w.strike(b)
	}
	if len(s.Before) > 0 {
		w.run(w.now + toEnd/2)
	}
	if !w.takes() && len(s.Before) == 0 {
		return Ending{}
	}
	return w.play(s)
}

// stands founds the cluster and makes the wanted member its primary.
func (w *world) stands(s Scene) bool {
	want := memberName(s.Primary)
	for end := w.now + toStand; w.now < end && w.fail == nil; {
		w.run(w.now + 500*ms)
		st := w.store.snap.state
		if w.lacksFor(s) != "" {
			continue
		}
		if st.Primary == want {
			w.run(w.now + 2*time.Second)
			return w.takes()
		}
		if w.store.snap.request == nil {
			w.request(cluster.Switchover, want)
		}
	}
	return false
}

// lacksFor is lacks for a cluster in which some members may be no candidates, and so don't count.
func (w *world) lacksFor(s Scene) string {
	st := w.store.snap.state
	if st == nil || st.Phase != cluster.Reigning || !w.takes() {
		return "no primary takes writes"
	}
	for i, m := range s.Data {
		h := w.hosts[i]
		if h.name == st.Primary {
			continue
		}
		if h.agent == nil || h.agent.relay.st == nil || !h.pg.accepting() {
			return h.name + " does not follow"
		}
		if m.Priority > 0 && s.Settings.Durability != cluster.Async && !st.Rule.Has(h.name) {
			return h.name + " does not count"
		}
	}
	return ""
}

// takes reports whether somebody takes writes and acknowledges them.
func (w *world) takes() bool {
	st := w.store.snap.state
	if st == nil || st.Phase != cluster.Reigning || st.Primary == "" {
		return false
	}
	p := w.host(st.Primary)
	if !p.on || p.paused || p.stalled || p.agent == nil || p.agent.admitted != st.Term || p.agent.route.Write != p.name || p.agent.route.Hold || !p.pg.accepting() {
		return false
	}
	return st.Rule.Met(func(name string) bool { return w.follows(p, w.host(name)) })
}

// follows reports whether the member takes the primary's stream now.
func (w *world) follows(p, h *host) bool {
	return h != p && h.on && !h.paused && !h.stalled && w.both(p, h) && h.pg.accepting() && p.pg.accepting() && p.pg.streams(h.name)
}

// strike makes one thing happen.
func (w *world) strike(b Blow) {
	h := w.hosts[b.Host]
	switch b.Kind {
	case PowerOff:
		h.crash()
	case Pause:
		h.pause()
	case Cut:
		for _, o := range b.From {
			w.links[b.Host][o].cuts++
			w.links[o][b.Host].cuts++
		}
	case KillPostgres:
		h.kill()
	case KillAgent:
		if h.agent != nil {
			h.agent.die()
			w.after(time.Second, h.startAgent)
		}
	case StopStore:
		h.mute = true
	case HangDisk:
		h.stall()
	}
}

// play strikes, and looks on.
func (w *world) play(s Scene) Ending {
	before := w.store.snap.term()
	for _, b := range s.Blows {
		w.strike(b)
	}
	began, out, lastTaken, since := w.now, time.Duration(0), w.now, w.now
	for w.now < began+toEnd && w.fail == nil && (w.now < began+toCalm || w.now < since+toCalm) {
		w.run(w.now + glance)
		if w.takes() {
			if gap := w.now - lastTaken; gap > glance {
				out += gap
				since = w.now
			}
			lastTaken = w.now
		}
	}
	e := Ending{Founded: true, State: *w.store.snap.state, Terms: int(w.store.snap.term() - before), Violation: w.fail, Lost: w.truth.lost}
	if w.takes() {
		e.Primary, e.Outage = e.State.Primary, out
	}
	for _, h := range w.hosts {
		if h.on && !h.paused && w.store.reachable(h) {
			e.Up = append(e.Up, h.name)
		}
		if e.State.Primary != "" && slices.Contains(w.hosts[:w.plan.Data], h) && w.follows(w.host(e.State.Primary), h) {
			e.Attached = append(e.Attached, h.name)
		}
	}
	return e
}
