package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/postgres"
)

// TestStatusOfAHealthyCluster: everything is told, and nothing is warned of.
func TestStatusOfAHealthyCluster(t *testing.T) {
	n, _ := bare(t, "pg1")
	v := reigning(n)
	s := n.buildStatus(v, cluster.Route{Term: 2, Write: "pg1"}, time.Now())
	if len(s.Warnings) > 0 {
		t.Errorf("warnings: %q", s.Warnings)
	}
	if s.Term != 2 || s.Primary != "pg1" || s.Since.UnixMilli() != 1700000000000 || s.Store.Kind != "external" || !s.Store.OK {
		t.Errorf("%+v", s)
	}
	if s.Commit.Hosts != 2 || s.Commit.Spare != 1 {
		t.Errorf("commit: %+v", s.Commit)
	}
	pg1, pg2 := s.Me(), s.Member("pg2")
	if pg1.Role != api.Primary || !pg1.Writable || pg1.State != api.Running || pg1.HeardMS != nil || pg1.Lag != nil || pg1.InRule {
		t.Errorf("pg1: %+v", pg1)
	}
	if pg2.Role != api.Standby || !pg2.Attached || !pg2.Readable || pg2.Writable || !pg2.InRule || *pg2.HeardMS != 50 || *pg2.Lag != 1000 || *pg2.ReceiveLag != 200 {
		t.Errorf("pg2: %+v", pg2)
	}
}

// TestMemberStates: what a member is doing, in one word, from its beat.
func TestMemberStates(t *testing.T) {
	up := standby(4000).Beat
	down := cluster.Beat{Data: cluster.DataReady}
	note := func(b cluster.Beat, text string) cluster.Beat { b.Note = text; return b }
	data, witness := cluster.Member{Name: "pg2", Kind: cluster.Data}, cluster.Member{Name: "pg2", Kind: cluster.Witness}
	for name, c := range map[string]struct {
		beat   cluster.Beat
		member cluster.Member
		silent bool
		self   cluster.Postgres // not zero: the member is this one
		want   api.State
	}{
		"running":        {up, data, false, cluster.Postgres{}, api.Running},
		"stopped":        {down, data, false, cluster.Postgres{}, api.Stopped},
		"silent":         {up, data, true, cluster.Postgres{}, api.Unreachable},
		"silent witness": {cluster.Beat{}, witness, true, cluster.Postgres{}, api.Unreachable},
		"witness":        {cluster.Beat{}, witness, false, cluster.Postgres{}, api.Watching},
		"cloning":        {note(down, "cloning 1 of 4 MB (25 %), 100 MB/s"), data, false, cluster.Postgres{}, api.Cloning},
		"rewinding":      {note(down, "rewinding"), data, false, cluster.Postgres{}, api.Rewinding},
		"failed":         {note(down, "start failed: no space left on device"), data, false, cluster.Postgres{}, api.Failed},
		"initialising":   {note(down, cluster.Init{}.String()), data, false, cluster.Postgres{}, api.Initialising},
		"starting":       {note(down, cluster.Start{}.String()), data, false, cluster.Postgres{}, api.Starting},
		"starting here":  {down, data, false, cluster.Postgres{Running: true}, api.Starting},
		"stalled here":   {up, data, false, cluster.Postgres{Running: true, Up: true, Stalled: "it does not answer"}, api.Stalled},
	} {
		t.Run(name, func(t *testing.T) {
			v := cluster.View{Self: "pg1"}
			if c.self.Running {
				v.Self, v.Postgres = "pg2", c.self
			}
			if got := stateOf(c.beat, c.member, c.silent, v); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestWarnings: each thing that is unusual is said in a sentence that names it.
func TestWarnings(t *testing.T) {
	ready := cluster.Route{Term: 2, Write: "pg1"}
	for name, c := range map[string]struct {
		view  func(*cluster.View)
		route cluster.Route
		want  []string
	}{
		"all well":       {func(*cluster.View) {}, ready, nil},
		"not founded":    {func(v *cluster.View) { v.State = nil; v.Peers = map[string]cluster.Peer{"pg2": standby(1)} }, ready, []string{"not been founded", "waiting for pg3"}},
		"first election": {func(v *cluster.View) { v.State = nil }, ready, []string{"waiting for the first election"}},
		"no writes":      {func(*cluster.View) {}, cluster.Route{Why: "pg1 does not hear a majority"}, []string{"no writes: pg1 does not hear a majority"}},
		"no store":       {func(v *cluster.View) { v.StoreOK = false }, ready, []string{"store (etcd) does not answer"}},
		"silent":         {func(v *cluster.View) { v.Peers["pg3"] = cluster.Peer{Beat: standby(1).Beat, Heard: time.Minute} }, ready, []string{"pg3 is not heard from"}},
		"unheard":        {func(v *cluster.View) { delete(v.Peers, "pg3") }, ready, []string{"pg3 is not heard from"}},
		"failed": {func(v *cluster.View) {
			p := standby(1)
			p.Beat.Note = "clone failed: no space left on device"
			v.Peers["pg2"] = p
		}, ready, []string{"pg2: clone failed: no space left on device"}},
		"restart": {func(v *cluster.View) {
			p := standby(1)
			p.Beat.PendingRestart = true
			v.Peers["pg2"] = p
		}, ready, []string{"restart of pg2: standfast restart --pending"}},
		"clock": {func(v *cluster.View) {
			p := standby(1)
			v.Wall = 1_000_000_000
			p.Beat.Wall = v.Wall - 180_000
			v.Peers["pg2"] = p
		}, ready, []string{"the clock of pg2 is 3m0s behind that of pg1"}},
		"clock near": {func(v *cluster.View) {
			p := standby(1)
			v.Wall = 1_000_000_000
			p.Beat.Wall = v.Wall + 4000
			v.Peers["pg2"] = p
		}, ready, nil},
		"two away": {func(v *cluster.View) {
			v.StoreOK = false
			delete(v.Peers, "pg2")
			delete(v.Peers, "pg3")
		}, ready, []string{"no majority of the members' etcd: until one of pg2, pg3 is back"}},
		"paused": {func(v *cluster.View) { v.Settings.Paused = true }, ready, []string{"standfast resume"}},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := bare(t, "pg1")
			v := reigning(n)
			c.view(&v)
			s := n.buildStatus(v, c.route, time.Now())
			all := strings.Join(s.Warnings, "\n")
			for _, w := range c.want {
				if !strings.Contains(all, w) {
					t.Errorf("%q does not say %q", all, w)
				}
			}
			if (len(c.want) == 0) != (len(s.Warnings) == 0) {
				t.Errorf("warnings: %q", s.Warnings)
			}
		})
	}
}

// TestStatusIsBuiltWhenItMatters: what a balancer acts on shows at once, positions now and then.
func TestStatusIsBuiltWhenItMatters(t *testing.T) {
	n, _ := bare(t, "pg1")
	route := cluster.Route{Term: 2, Write: "pg1"}
	v := reigning(n)
	n.onView(v, route)
	first := n.Snapshot()
	v.Postgres.Position.LSN += 100
	n.onView(v, route)
	if n.Snapshot() != first {
		t.Error("built again for a position")
	}
	for name, change := range map[string]func(){
		"route":    func() { route.Write = "" },
		"admitted": func() { v.Admitted = 0 },
		"server":   func() { v.Postgres.Up = false },
		"request":  func() { v.Request = &cluster.Request{ID: "1"} },
		"phase":    func() { s := *v.State; s.Phase = cluster.Electing; v.State = &s },
	} {
		before := n.Snapshot()
		change()
		n.onView(v, route)
		if n.Snapshot() == before {
			t.Errorf("%s: not built", name)
		}
	}
	if got := n.view.Load(); got.Postgres.Position.LSN != v.Postgres.Position.LSN {
		t.Error("the view itself is not the newest")
	}
}

// TestLagOfThisMember is measured from when it fell behind.
func TestLagOfThisMember(t *testing.T) {
	n, _ := bare(t, "pg2")
	v := reigning(n)
	v.Peers = map[string]cluster.Peer{"pg1": {Heard: v.Now, Beat: cluster.Beat{Term: 2, Admitted: 2, Up: true, Data: cluster.DataReady, Position: cluster.Position{Timeline: 2, LSN: 5000}}}}
	v.Admitted, v.Relay = 0, cluster.Relay{Term: 2}
	v.Postgres.Recovery, v.Postgres.Ready, v.Postgres.Replayed = true, true, 5000
	if me := n.buildStatus(v, cluster.Route{}, time.Now()).Me(); *me.Lag != 0 || *me.LagSeconds != 0 || !me.Attached || me.Writable {
		t.Errorf("%+v", me)
	}
	v.Postgres.Replayed = 4000
	n.buildStatus(v, cluster.Route{}, time.Now())
	n.behindSince = n.behindSince.Add(-5 * time.Second)
	if me := n.buildStatus(v, cluster.Route{}, time.Now()).Me(); *me.Lag != 1000 || *me.LagSeconds < 5 {
		t.Errorf("%+v", me)
	}
	names := func(s *api.Status) []string {
		var out []string
		for _, m := range s.Members {
			if m.InRule {
				out = append(out, m.Name)
			}
		}
		return out
	}
	if got := names(n.buildStatus(v, cluster.Route{}, time.Now())); !slices.Equal(got, []string{"pg2", "pg3"}) {
		t.Errorf("in the rule: %v", got)
	}
}

// TestLostSlotsAreShown: a primary whose logical slots are gone says so in the status of every member, until they are there
// again; a look that failed otherwise changes nothing.
func TestLostSlotsAreShown(t *testing.T) {
	lost := errors.Join(errors.New("another slot's plugin is missing"), &postgres.SlotLostError{Names: []string{"app", "cdc"}})
	const want = "logical slots lost: app, cdc on pg1: "
	primary, _ := bare(t, "pg1")
	other, _ := bare(t, "pg2")
	warned := func() (here, there bool) {
		shown := func(n *Node, v cluster.View) bool {
			s := n.buildStatus(v, cluster.Route{Term: 2, Write: "pg1"}, time.Now())
			return slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.HasPrefix(w, want) })
		}
		var b cluster.Beat
		primary.completeBeat(&b)
		v := reigning(other)
		p := v.Peers["pg1"]
		p.Heard, p.Beat.Note = v.Now, b.Note
		v.Peers["pg1"] = p
		return shown(primary, reigning(primary)), shown(other, v)
	}
	for _, look := range []struct {
		err  error
		want bool
	}{{nil, false}, {lost, true}, {context.DeadlineExceeded, true}, {nil, false}} {
		primary.noteLostSlots(look.err)
		if here, there := warned(); here != look.want || there != look.want {
			t.Errorf("after a look that ended with %v: told here: %v, by another member: %v", look.err, here, there)
		}
	}
	primary.noteLostSlots(lost)
	if err := primary.keepLogicalSlots(t.Context()); err != nil { // it does not reign
		t.Fatal(err)
	}
	if note := primary.slotNote(); note != "" {
		t.Errorf("no primary any more, it still says %q", note)
	}
}
