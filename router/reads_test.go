package router

import (
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

func TestReadsGoToTheLeastLoadedStandby(t *testing.T) {
	pg1, pg2, pg3 := newFake(t, "pg1"), newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg1, pg2, pg3)
	g.to("pg1", "pg2", "pg3")
	got := map[string][]*client{}
	for range 10 {
		c := g.login(ReadSide)
		name := c.ready()
		got[name] = append(got[name], c)
	}
	if len(got["pg2"]) != 5 || len(got["pg3"]) != 5 {
		t.Fatalf("spread unevenly: pg1 %d, pg2 %d, pg3 %d", len(got["pg1"]), len(got["pg2"]), len(got["pg3"]))
	}
	for _, c := range got["pg2"][:3] {
		c.Close()
	}
	eventually(t, "three are gone", func() bool { return pg2.sessions() == 2 && g.Stats().Sides[ReadSide].Sessions == 7 })
	for range 3 {
		if name := g.login(ReadSide).ready(); name != "pg2" {
			t.Errorf("went to %s, pg2 has fewer", name)
		}
	}
}

func TestEqualStandbysTakeTurns(t *testing.T) {
	pg2, pg3 := newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg2, pg3)
	g.to("", "pg2", "pg3")
	last := ""
	for range 6 {
		c := g.login(ReadSide)
		name := c.ready()
		if name == last {
			t.Fatalf("%s twice in a row", name)
		}
		last = name
		c.Close()
		eventually(t, "it is gone", func() bool { return g.Stats().Open == 0 })
	}
}

func TestReadsAvoidLaggingAndDrainingStandbys(t *testing.T) {
	pg1, pg2, pg3 := newFake(t, "pg1"), newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{Limits: Limits{ReadLag: 1000}}, pg1, pg2, pg3)
	route := cluster.Route{Term: 1, Write: "pg1", Reads: []cluster.ReadTarget{{Name: "pg2", Lag: 1001}, {Name: "pg3", Lag: 1000}}}
	g.route(route)
	for range 4 {
		if name := g.login(ReadSide).ready(); name != "pg3" {
			t.Fatalf("went to %s", name)
		}
	}
	g.SetDraining("pg3", true)
	if name := g.login(ReadSide).ready(); name != "pg1" {
		t.Errorf("went to %s, want the primary: one standby lags, the other is being drained", name)
	}
	if n := pg3.sessions(); n != 4 {
		t.Errorf("draining has ended sessions: %d of 4 left", n)
	}
	g.SetDraining("pg3", false)
	if name := g.login(ReadSide).ready(); name != "pg3" {
		t.Errorf("went to %s after the draining", name)
	}
}

func TestDrainedPrimaryHoldsNewSessions(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{Limits: Limits{HoldFor: 50 * time.Millisecond}}, pg1)
	g.to("pg1")
	g.SetDraining("pg1", true)
	if e := g.login(WriteSide).fatal(); e.Code != cannotConnectNow || !strings.Contains(e.Message, "pg1 is being drained") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
}

func TestReadFallsBackWhenTheStandbyRefuses(t *testing.T) {
	pg1, pg2 := newFake(t, "pg1"), newFake(t, "pg2")
	g := newRig(t, Config{}, pg1, pg2)
	pg2.die()
	g.to("pg1", "pg2")
	if name := g.login(ReadSide).ready(); name != "pg1" {
		t.Errorf("went to %s", name)
	}
}

func TestFallbackSessionsEndWithThePrimarysRole(t *testing.T) {
	pg1, pg2 := newFake(t, "pg1"), newFake(t, "pg2")
	g := newRig(t, Config{}, pg1, pg2)
	g.to("pg1")
	c := g.login(ReadSide)
	c.ready()
	g.route(cluster.Route{Term: 2, Write: "pg2", Reads: []cluster.ReadTarget{{Name: "pg1"}}})
	c.fatal()
}

func TestReadGraceOutlastsAnElection(t *testing.T) {
	pg1, pg2 := newFake(t, "pg1"), newFake(t, "pg2")
	g := newRig(t, Config{Limits: Limits{ReadGrace: time.Minute}}, pg1, pg2)
	g.to("pg1", "pg2")
	c := g.login(ReadSide)
	c.ready()
	for range 2 {
		g.route(cluster.Route{Term: 2, Hold: true})
		if got := c.ask("in between"); got != "in between" {
			t.Fatalf("answer %q", got)
		}
	}
	g.route(cluster.Route{Term: 2, Write: "pg1", Reads: []cluster.ReadTarget{{Name: "pg2"}}})
	if got := c.ask("after"); got != "after" {
		t.Fatalf("answer %q", got)
	}
	g.route(cluster.Route{Term: 2, Why: "no majority"})
	c.fatal()
}

func TestReadGraceEnds(t *testing.T) {
	pg2 := newFake(t, "pg2")
	g := newRig(t, Config{Limits: Limits{ReadGrace: 100 * time.Millisecond}}, pg2)
	g.to("", "pg2")
	c := g.login(ReadSide)
	c.ready()
	g.route(cluster.Route{Term: 1, Hold: true})
	if e := c.fatal(); !strings.Contains(e.Message, "pg2 no longer serves reads") {
		t.Errorf("got %q", e.Message)
	}
}

func TestQueueIsFirstInFirstOutAndBounded(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{Limits: Limits{MaxPerServer: 1, Queue: 2}}, pg1)
	g.to("pg1")
	first := g.login(WriteSide)
	first.ready()
	var queued []*client
	for i := range 2 {
		queued = append(queued, g.login(WriteSide))
		eventually(t, "it is in the queue", func() bool { return g.Stats().Sides[WriteSide].Queued == i+1 })
	}
	if e := g.login(WriteSide).fatal(); e.Code != tooManyConnections || !strings.Contains(e.Message, "pg1") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
	first.Close()
	queued[0].ready()
	if n := g.Stats().Sides[WriteSide].Queued; n != 1 {
		t.Errorf("%d in the queue, want the second alone", n)
	}
	queued[0].Close()
	queued[1].ready()
}

func TestQueueLetsGoWhoHangsUp(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{Limits: Limits{MaxPerServer: 1, Queue: 2}}, pg1)
	g.to("pg1")
	first := g.login(WriteSide)
	first.ready()
	impatient := g.login(WriteSide)
	eventually(t, "it is in the queue", func() bool { return g.Stats().Sides[WriteSide].Queued == 1 })
	impatient.Close()
	eventually(t, "it has left", func() bool { return g.Stats().Sides[WriteSide].Queued == 0 && g.Stats().Open == 1 })
}

func TestLimitOfSessions(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{MaxSessions: 2}, pg1)
	g.to("pg1")
	g.login(WriteSide).ready()
	g.login(ReadSide).ready()
	if e := g.login(WriteSide).fatal(); e.Code != tooManyConnections || !strings.Contains(e.Message, "limit of 2") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
	if st := g.Stats(); st.Full != 1 {
		t.Errorf("full %d", st.Full)
	}
	g.cancel(WriteSide, pg1.secret)
	if !pg1.got(pg1.secret) {
		t.Error("a cancel request did not get through at the limit")
	}
}
