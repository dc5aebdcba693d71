package sim

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// mutant is one rule broken on purpose, and the invariant that notices.
type mutant struct {
	name   string
	by     []Invariant // any of these may be first
	plan   Plan
	flaws  Flaw
	view   func(*cluster.View)
	acts   func(cluster.View, []cluster.Action) []cluster.Action
	route  func(cluster.View, cluster.Route) cluster.Route
	within uint64 // seeds
}

// brain is the sound one, seeing and doing what the mutant makes of it.
func (m mutant) brain() Brain {
	b := sound
	if m.view != nil {
		b.Decide = func(v cluster.View) []cluster.Action { m.view(&v); return sound.Decide(v) }
		b.Beat = func(v cluster.View) cluster.Beat { m.view(&v); return sound.Beat(v) }
	}
	if m.acts != nil {
		inner := b.Decide
		b.Decide = func(v cluster.View) []cluster.Action { return m.acts(v, inner(v)) }
	}
	if m.route != nil {
		b.Route = func(v cluster.View) cluster.Route { return m.route(v, sound.Route(v)) }
	}
	return b
}

// scene is a plan of three data members with the faults that bring out the mutants, close together.
func scene(every time.Duration, faults ...string) Plan {
	return Plan{
		Data: 3, Clients: 3, Copies: 1, Durability: cluster.Quorum, Faults: faults, Every: every,
		Start: 3 * time.Second, Length: 20 * time.Second, Break: 0.02, Die: 0.01, Hang: 0.01,
	}
}

func five(p Plan) Plan { p.Data, p.Copies = 5, 2; return p }

func async(p Plan) Plan { p.Durability = cluster.Async; return p }

func adopted(p Plan) Plan { p.Adopted = true; return p }

var (
	crashes   = scene(700*ms, "power-primary", "power", "pause", "postmaster", "isolate", "cut-pair", "slow", "stream")
	pauses    = scene(700*ms, "pause-primary", "pause", "agent-pause", "isolate-primary", "slow", "cut-pair", "agent-kill", "disk-hangs")
	changes   = scene(500*ms, "copies", "candidate", "power-primary", "power", "slow", "standby-data", "switchover")
	frozen    = scene(time.Second, "agent-pause-primary", "slow")
	dials     = scene(250*ms, "stream", "slow", "failover", "cut-pair", "agent-pause-primary")
	outages   = scene(150*ms, "store-outage", "copies", "copies", "candidate", "isolate-primary")
	patchy    = scene(300*ms, "uneven", "half-open", "half-open", "half-open", "power-primary")
	entries   = scene(250*ms, "candidate", "bystander-lost", "bystander-lost")
	revenants = scene(3*time.Second, "there-and-back")
	turns     = scene(300*ms, "failover", "failover", "power-primary", "isolate-primary", "uneven")
	amid      = scene(200*ms, "turn-amid-touch", "failover", "power-primary", "standby-data", "candidate", "candidate")
	leftover  = scene(300*ms, "failover", "failover", "agent-pause", "agent-pause", "disk-hangs", "agent-kill")
	entering  = scene(300*ms, "failover", "bystander-lost", "bystander-lost", "cut-one-way", "half-open", "candidate")
	late      = scene(300*ms, "failover", "switchover", "store-outage", "isolate")
	splits    = scene(600*ms, "isolate-primary", "isolate", "cut-one-way", "agent-pause-primary", "agent-kill", "slow")
)

// mutants break one rule each: in what the member sees, in what it does, or in how the agent does it.
var mutants = []mutant{
	{name: "a report before the receiver is gone", by: []Invariant{Sworn}, plan: crashes, view: func(v *cluster.View) {
		v.Relay.Held = v.Relay.Held || v.Relay.Term == 0
	}},
	{name: "a promotion left to PostgreSQL when its term is over", by: []Invariant{Kept, Sworn, Unique}, plan: leftover, flaws: PromotionLeft, within: 1000},
	{name: "admission by a member that the names do not have yet", by: []Invariant{Proven}, plan: five(entering), acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		if s := v.State; s != nil && s.Primary == v.Self && s.Phase == cluster.Reigning && v.Admitted != s.Term && v.Postgres.Up && !v.Postgres.Recovery && v.Postgres.TermRow != 0 &&
			s.Rule.Covers(v.Postgres.Names) && len(acts) > 0 && s.Rule.Met(func(m string) bool {
			return slices.ContainsFunc(v.Postgres.Standbys, func(x cluster.Standby) bool { return x.Name == m && x.Flushed >= v.Postgres.TermRow })
		}) {
			return []cluster.Action{cluster.Admit{Term: s.Term}}
		}
		return acts
	}},
	{name: "a request carried out though nobody stands by it", by: []Invariant{Asked}, plan: late, view: func(v *cluster.View) {
		if v.Request != nil {
			r := *v.Request
			r.From, v.Request, v.Asked = v.Self, &r, r.ID
		}
	}},
	{name: "a request stood by before it is acknowledged", by: []Invariant{Asked}, plan: late, flaws: AbandonedStands},
	{name: "n-k reports suffice", by: []Invariant{Kept}, plan: crashes, view: func(v *cluster.View) {
		if electing(v) {
			s := *v.State
			s.Rule.K++
			v.State = &s
		}
	}, acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		return rewrites(acts, func(n *cluster.State) {
			if electing(&v) {
				n.Rule.K--
			}
		})
	}},
	{name: "the new rule recorded before PostgreSQL works by it", by: []Invariant{Covered}, plan: changes, acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		if len(acts) > 0 && v.Admitted > 0 {
			if x, ok := acts[0].(cluster.SetNames); ok {
				next := *v.State
				next.Rule = x.Rule
				return []cluster.Action{cluster.Write{Cause: "too early", Next: next}}
			}
		}
		return acts
	}},
	{name: "names set before the joint rule is recorded", by: []Invariant{Covered}, plan: changes, acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		for i, a := range acts {
			if x, ok := a.(cluster.Write); ok && strings.HasPrefix(x.Cause, "extend") {
				acts[i] = cluster.SetNames{Rule: x.Next.Rule}
			}
		}
		return acts
	}},
	{name: "the new rule recorded before it is proven", by: []Invariant{Kept, Proven}, plan: changes, view: func(v *cluster.View) {
		if v.Admitted > 0 {
			for _, m := range v.Members {
				v.Postgres.Standbys = append(v.Postgres.Standbys, cluster.Standby{Name: m.Name, Streaming: true, Flushed: 1 << 60})
			}
		}
	}},
	{name: "attach without comparing the fork", by: []Invariant{Kept}, plan: crashes, view: func(v *cluster.View) {
		if v.State != nil && v.Postgres.Recovery && v.State.Phase == cluster.Reigning {
			v.Postgres.Position.Timeline = v.State.Timeline
		}
	}},
	{name: "the fork's place not compared, only the timeline", by: []Invariant{Kept, Sworn}, plan: crashes, view: func(v *cluster.View) {
		if v.State != nil && v.State.Phase == cluster.Reigning {
			s := *v.State
			s.History = slices.Clone(s.History)
			for i := range s.History {
				s.History[i].End = 1 << 60
			}
			v.State = &s
		}
	}},
	{name: "timelines below not skipped at promotion", by: []Invariant{Unique, Whole}, plan: crashes, flaws: TimelineUnskipped},
	{name: "a timeline reserved twice", by: []Invariant{Unique, Whole}, plan: crashes, acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		return rewrites(acts, func(n *cluster.State) {
			if v.State != nil && n.Term > v.State.Term {
				n.Timeline = max(2, v.State.Timeline)
			}
		})
	}},
	{name: "data touched while it counts", by: []Invariant{Untouched}, plan: crashes, flaws: TouchUnchecked, view: func(v *cluster.View) {
		if v.State != nil && v.State.Phase == cluster.Reigning && v.State.Primary != v.Self {
			s := *v.State
			s.Rule = s.Rule.Without(v.Self)
			v.State = &s
		}
	}},
	{name: "clients admitted because COMMIT returned", by: []Invariant{Proven}, plan: crashes, view: func(v *cluster.View) {
		if v.Postgres.TermRow > 0 && v.State != nil && v.Admitted != v.State.Term {
			v.Postgres.Standbys = nil
			for _, m := range v.State.Rule.Of {
				v.Postgres.Standbys = append(v.Postgres.Standbys, cluster.Standby{Name: m, Streaming: true, Flushed: v.Postgres.TermRow})
			}
		}
	}},
	{name: "no names at promotion", by: []Invariant{Covered}, plan: crashes, flaws: EmptyNames},
	{name: "a promise told before it is synced", by: []Invariant{Sworn}, plan: pauses, flaws: PromiseUnsynced},
	{name: "the relay's floor not raised", by: []Invariant{Sworn}, plan: frozen, flaws: FloorKept},
	{name: "a dial not checked again", by: []Invariant{Sworn}, plan: dials, flaws: DialUnchecked},
	{name: "old WAL senders kept after a rule change", by: []Invariant{Covered}, plan: changes, flaws: KeepOldSenders},
	{name: "leave to touch data got in one term and used in the next", by: []Invariant{Untouched}, plan: amid, within: 1000, flaws: TouchLate},
	{name: "a report before a cancelled rewind or clone has ended", by: []Invariant{Sworn}, plan: amid, view: func(v *cluster.View) {
		switch v.Doing.(type) {
		case cluster.Rewind, cluster.Clone:
			if electing(v) {
				v.Doing = nil
			}
		}
	}},
	{name: "the sender of a member that enters the rule is older than its entry", by: []Invariant{Kept}, plan: entries, within: 1000, flaws: StaleAck},
	{name: "a relay carries from whatever server it reaches", by: []Invariant{Kept, Proven}, plan: five(revenants), flaws: DialAnywhere},
	{name: "a half-open sender counts beside the new one", by: []Invariant{Kept, Proven}, plan: five(patchy), flaws: SharedSlots},
	{name: "a shared archive feeds detached members", by: []Invariant{Sworn, Kept}, plan: crashes, flaws: ArchiveOpen},
	{name: "the winner by LSN, whatever the timeline", by: []Invariant{Kept}, plan: crashes, view: reported(func(p cluster.Position) cluster.Position {
		return cluster.Position{Timeline: 1, LSN: p.LSN}
	})},
	{name: "the winner is not the most advanced", by: []Invariant{Kept}, plan: crashes, view: reported(func(p cluster.Position) cluster.Position {
		return cluster.Position{Timeline: 1<<30 - p.Timeline, LSN: 1<<60 - p.LSN}
	})},
	{name: "half-made data counts as whole", by: []Invariant{Sworn, Kept}, plan: crashes, flaws: NoMarker},
	{name: "the old primary left out of the new rule", by: []Invariant{Kept}, plan: crashes, acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		return rewrites(acts, func(n *cluster.State) {
			if electing(&v) && n.Phase == cluster.Elected {
				n.Rule = n.Rule.Without(v.State.Last)
			}
		})
	}},
	{name: "the winner counts in its own rule", by: []Invariant{Agreed}, plan: crashes, acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		return rewrites(acts, func(n *cluster.State) {
			if electing(&v) && n.Phase == cluster.Elected {
				n.Rule = n.Rule.With(n.Primary)
			}
		})
	}},
	{name: "the rule changed by the write that begins an election", by: []Invariant{Agreed}, plan: crashes, acts: func(v cluster.View, acts []cluster.Action) []cluster.Action {
		return rewrites(acts, func(n *cluster.State) {
			if v.State != nil && n.Term > v.State.Term && len(n.Rule.Of) > n.Rule.K {
				n.Rule = n.Rule.Without(n.Rule.Of[0])
			}
		})
	}},
	{name: "no fence on a newer term", by: []Invariant{Whole, OneLine}, plan: splits, acts: withoutFence},
	{name: "asynchronous: the lease does not end the old primary", by: []Invariant{OneLine, Kept}, plan: async(splits), acts: withoutFence},
	{name: "asynchronous: the election does not wait for the lease", by: []Invariant{OneLine, Kept}, plan: async(splits), view: func(v *cluster.View) {
		if electing(v) {
			v.ElectingSince = 1
		}
	}},
	{name: "a server restarted in place without an election", by: []Invariant{Kept, Covered, Routed}, plan: crashes, flaws: RestartInPlace},
	{name: "a write of unknown outcome repeated blindly", by: []Invariant{Agreed}, plan: splits, flaws: BlindRewrite},
	{name: "a write of unknown outcome left unsettled", by: []Invariant{Covered}, plan: outages, within: 1500, flaws: Unsettled},
	{name: "asynchronous: the guard fed though the lease is over", by: []Invariant{OneLine}, plan: async(splits), flaws: FedRegardless},
	{name: "a write of unknown outcome taken for done", by: []Invariant{Kept, Unique, Covered, Agreed, Proven}, plan: splits, flaws: UnknownIsSuccess},
	{name: "the router keeps the old primary", by: []Invariant{Routed}, plan: crashes, route: func(v cluster.View, r cluster.Route) cluster.Route {
		if r.Write == "" && v.State != nil {
			r.Write = v.State.Last
		}
		return r
	}},
	{name: "the router needs no majority", by: []Invariant{Routed}, plan: splits, route: func(v cluster.View, r cluster.Route) cluster.Route {
		if r.Write == "" && v.State != nil && v.State.Phase == cluster.Reigning {
			r.Write = v.State.Primary
		}
		return r
	}},
}

func electing(v *cluster.View) bool { return v.State != nil && v.State.Phase == cluster.Electing }

// rewrites changes every record that is about to be written.
func rewrites(acts []cluster.Action, fn func(*cluster.State)) []cluster.Action {
	for i, a := range acts {
		if x, ok := a.(cluster.Write); ok {
			fn(&x.Next)
			acts[i] = x
		}
	}
	return acts
}

// reported changes the positions in the reports as the one who counts them sees them.
func reported(fn func(cluster.Position) cluster.Position) func(*cluster.View) {
	return func(v *cluster.View) {
		v.Reports = maps.Clone(v.Reports)
		for k, r := range v.Reports {
			r.Position = fn(r.Position)
			v.Reports[k] = r
		}
	}
}

func withoutFence(_ cluster.View, acts []cluster.Action) []cluster.Action {
	return slices.DeleteFunc(acts, func(a cluster.Action) bool { _, ok := a.(cluster.Fence); return ok })
}

// TestMutants shows that the simulator can fail: each broken rule is caught, within a bounded number of seeds, by an
// invariant that it is meant to be caught by.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			m.plan.Name = m.name
			within := m.within
			if within == 0 {
				within = 300
			}
			others := 0
			for seed := uint64(1); seed <= within; seed++ {
				o := Run(Config{Seed: seed, Plan: m.plan, Brain: m.brain(), Flaws: m.flaws})
				if o.Violation == nil {
					continue
				}
				if slices.Contains(m.by, o.Violation.Invariant) {
					t.Logf("caught by seed %d: %v", seed, o.Violation)
					return
				}
				others++
				if others == 1 {
					t.Logf("seed %d: caught otherwise: %v", seed, o.Violation)
				}
			}
			t.Errorf("not caught by %v in %d seeds (%d caught otherwise)", m.by, within, others)
		})
	}
}

// TestScenes plays the mutants' plans with nothing broken.
func TestScenes(t *testing.T) {
	for _, p := range []Plan{crashes, pauses, changes, splits, frozen, dials, outages, five(splits), five(patchy), async(splits), entries, five(revenants), turns, amid, five(entering), late, adopted(splits), adopted(crashes), five(adopted(pauses))} {
		for seed := range uint64(*scenesFlag) {
			c := Config{Seed: seed + 1, Plan: p, Brain: sound}
			if o := Run(c); o.Violation != nil {
				t.Errorf("plan of %v, seed %d: %v\n%s", p.Faults, c.Seed, o.Violation, tail(c, 60))
			}
		}
	}
}
