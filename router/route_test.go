package router

import (
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

func TestSessionGoesToThePrimaryAndBack(t *testing.T) {
	pg1, pg2 := newFake(t, "pg1"), newFake(t, "pg2")
	g := newRig(t, Config{}, pg1, pg2)
	g.to("pg2")
	c := g.login(WriteSide)
	if got := c.ready(); got != "pg2" {
		t.Fatalf("served by %q, want pg2", got)
	}
	if got := c.ask("hello"); got != "hello" {
		t.Fatalf("answer %q", got)
	}
	st := g.Stats()
	if st.Sides[WriteSide].Sessions != 1 || st.Sides[WriteSide].Out == 0 || st.Sides[WriteSide].In == 0 || st.KnownToStop != 1 {
		t.Errorf("stats of one session: %+v", st)
	}
	c.Close()
	eventually(t, "the server's end is closed", func() bool { return pg2.sessions() == 0 && g.Stats().Open == 0 })
	if st := g.Stats(); st.Sides[WriteSide].Sessions != 0 || st.KnownToStop != 0 {
		t.Errorf("stats after it: %+v", st)
	}
}

func TestNewConnectionsWaitForAPrimary(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.route(cluster.Route{Term: 1, Hold: true, Why: "choosing"})
	clients := []*client{g.login(WriteSide), g.login(WriteSide), g.login(ReadSide)}
	eventually(t, "all wait", func() bool {
		st := g.Stats()
		return st.Sides[WriteSide].Held == 2 && st.Sides[ReadSide].Held == 1
	})
	begin := time.Now()
	g.route(cluster.Route{Term: 2, Write: "pg1"})
	for _, c := range clients {
		if got := c.ready(); got != "pg1" {
			t.Errorf("served by %q", got)
		}
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("released after %s", d)
	}
}

func TestLimitsChangeWhileItRuns(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{Limits: Limits{MaxPerServer: 1, Queue: 1}}, pg1)
	g.to("pg1")
	g.login(WriteSide).ready()
	second := g.login(WriteSide)
	eventually(t, "it waits", func() bool { return g.Stats().Sides[WriteSide].Queued == 1 })
	if err := g.SetLimits(Limits{MaxPerServer: 2, HoldFor: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	second.ready()
	if e := g.login(WriteSide).fatal(); e.Code != tooManyConnections || !strings.Contains(e.Message, "all 2 sessions") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
	if err := g.SetLimits(Limits{Queue: -1}); err == nil {
		t.Error("negative limits were taken")
	}
}

func TestWithoutWaitingIsRefusedAtOnce(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	if err := g.SetLimits(Limits{}); err != nil {
		t.Fatal(err)
	}
	g.to("pg1")
	g.login(WriteSide).ready() // a primary that there is can be reached
	g.route(cluster.Route{Term: 2, Hold: true, Why: "waiting for reports of pg3"})
	if e := g.login(WriteSide).fatal(); e.Code != cannotConnectNow || !strings.Contains(e.Message, "no primary: waiting for reports of pg3") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
	pg1.set(func() { pg1.busy = 1000 })
	g.route(cluster.Route{Term: 3, Write: "pg1"})
	if e := g.login(WriteSide).fatal(); e.Code != cannotConnectNow || !strings.Contains(e.Message, "no session: pg1: the database system is starting up") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
}

func TestWaitIsBoundedAndSaysWhy(t *testing.T) {
	g := newRig(t, Config{Limits: Limits{HoldFor: 100 * time.Millisecond}})
	g.route(cluster.Route{Term: 1, Hold: true, Why: "waiting for reports of pg3"})
	e := g.login(WriteSide).fatal()
	if e.Code != cannotConnectNow || !strings.Contains(e.Message, "waiting for reports of pg3") || !strings.Contains(e.Message, "100ms") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
}

func TestNoMajorityIsToldAtOnceAlsoToThoseWhoWait(t *testing.T) {
	g := newRig(t, Config{})
	g.route(cluster.Route{Term: 1, Hold: true})
	waiting := g.login(WriteSide)
	eventually(t, "it waits", func() bool { return g.Stats().Sides[WriteSide].Held == 1 })
	g.route(cluster.Route{Term: 1, Why: "pg2 and pg3 are missing"})
	for _, c := range []*client{waiting, g.login(WriteSide), g.login(ReadSide)} {
		if e := c.fatal(); e.Code != cannotConnectNow || e.Message != "pg2 and pg3 are missing" || e.Severity != "FATAL" {
			t.Errorf("got %s %s %q", e.Severity, e.Code, e.Message)
		}
	}
	if st := g.Stats(); st.Refused != 3 {
		t.Errorf("refused %d, want 3", st.Refused)
	}
}

func TestServerThatRefusesIsWaitedFor(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	pg1.die()
	g.to("pg1")
	a, b := g.login(WriteSide), g.login(WriteSide)
	eventually(t, "both wait and it was tried", func() bool {
		st := g.Stats()
		return st.Sides[WriteSide].Held == 2 && st.DialFailed > 0
	})
	if st := g.Stats(); !strings.Contains(st.Servers[0].Down, "refused") {
		t.Errorf("down because of %q", st.Servers[0].Down)
	}
	pg1.revive()
	a.ready()
	b.ready()
}

func TestServerThatRefusesTooLongIsNamed(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{Limits: Limits{HoldFor: 200 * time.Millisecond}}, pg1)
	pg1.die()
	g.to("pg1")
	e := g.login(WriteSide).fatal()
	if e.Code != cannotConnectNow || !strings.Contains(e.Message, "pg1") || !strings.Contains(e.Message, "connection refused") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
}

// A connection that its server has not answered gets another one: a stalled primary's clients don't hang until
// they give up.
func TestUnansweredConnectionMovesToTheNewPrimary(t *testing.T) {
	pg1, pg2 := newFake(t, "pg1"), newFake(t, "pg2")
	pg1.set(func() { pg1.mute = true })
	g := newRig(t, Config{}, pg1, pg2)
	g.to("pg1")
	c := g.login(WriteSide)
	eventually(t, "it is with pg1", func() bool { return pg1.sessions() == 1 })
	g.route(cluster.Route{Term: 2, Hold: true})
	eventually(t, "it waits again", func() bool { return g.Stats().Sides[WriteSide].Held == 1 })
	g.route(cluster.Route{Term: 2, Write: "pg2"})
	if got := c.ready(); got != "pg2" {
		t.Errorf("served by %q", got)
	}
}

func TestServerThatClosesUnansweredIsTriedAgain(t *testing.T) {
	pg1 := newFake(t, "pg1")
	pg1.set(func() { pg1.rude = 2 })
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	g.login(WriteSide).ready()
}

func TestLostRoleCutsIdleSessionWithAReason(t *testing.T) {
	pg1, pg2 := newFake(t, "pg1"), newFake(t, "pg2")
	g := newRig(t, Config{}, pg1, pg2)
	g.to("pg1")
	c := g.login(WriteSide)
	c.ready()
	c.ask("something")
	g.route(cluster.Route{Term: 2, Write: "pg2"})
	if e := c.fatal(); e.Code != adminShutdown || !strings.Contains(e.Message, "pg1 is no longer the primary") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
	eventually(t, "the old primary's end is gone", func() bool { return pg1.sessions() == 0 })
	if st := g.Stats(); st.Cut != 1 {
		t.Errorf("cut %d", st.Cut)
	}
	if got := g.login(WriteSide); got.ready() != "pg2" {
		t.Error("not served by pg2")
	}
}

// An error in answer to a COMMIT reads as "rolled back"; nobody here can know.
func TestLostRoleCutsWaitingStatementWithoutAWord(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	c := g.login(WriteSide)
	c.ready()
	in := g.Stats().Sides[WriteSide].In
	c.query("hang")
	eventually(t, "the statement has passed", func() bool { return g.Stats().Sides[WriteSide].In > in })
	g.route(cluster.Route{Term: 2, Hold: true})
	c.cutWithoutWord()
}

func TestHoldKeepsTheSessionsOfTheSameTerm(t *testing.T) {
	pg1, pg2 := newFake(t, "pg1"), newFake(t, "pg2")
	g := newRig(t, Config{}, pg1, pg2)
	g.to("pg1")
	c := g.login(WriteSide)
	c.ready()
	g.route(cluster.Route{Term: 1, Hold: true, Why: "a switchover is under way"})
	late := g.login(WriteSide)
	eventually(t, "new ones wait", func() bool { return g.Stats().Sides[WriteSide].Held == 1 })
	if got := c.ask("still here"); got != "still here" {
		t.Errorf("answer %q", got)
	}
	g.route(cluster.Route{Term: 2, Hold: true})
	c.fatal()
	g.route(cluster.Route{Term: 2, Write: "pg2"})
	if got := late.ready(); got != "pg2" {
		t.Errorf("served by %q", got)
	}
}

func TestMovedServerLosesItsSessions(t *testing.T) {
	pg1, twin := newFake(t, "pg1"), newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	c := g.login(WriteSide)
	c.ready()
	g.addrs = map[string]string{"pg1": twin.addr()}
	g.to("pg1")
	c.fatal()
	g.login(WriteSide).ready()
	if twin.sessions() != 1 {
		t.Error("not served at the new address")
	}
}

func TestHostNamesAreLookedUp(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	g.addrs["pg1"] = strings.Replace(pg1.addr(), "127.0.0.1", "localhost", 1)
	g.to("pg1")
	g.login(WriteSide).ready()
}

// An agent sets the route ten times a second. The loops, which would keep a processor busy for a while after each time,
// are woken only by news.
func TestRouteWithoutNewsWakesNobody(t *testing.T) {
	pg1, pg2, pg3 := newFake(t, "pg1"), newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{Limits: Limits{ReadLag: 1000}}, pg1, pg2, pg3)
	route := func(lag2, lag3 cluster.LSN) {
		g.route(cluster.Route{Term: 1, Write: "pg1", Reads: []cluster.ReadTarget{{Name: "pg2", Lag: lag2}, {Name: "pg3", Lag: lag3}}})
	}
	route(0, 2000)
	epoch := g.table.epoch.Load()
	for range 4 {
		route(0, 2000)
		if name := g.login(ReadSide).ready(); name != "pg2" {
			t.Fatalf("went to %s", name)
		}
	}
	route(2000, 0) // nobody is cut for it, but who comes goes elsewhere
	for range 4 {
		if name := g.login(ReadSide).ready(); name != "pg3" {
			t.Fatalf("went to %s, which lags", name)
		}
	}
	if now := g.table.epoch.Load(); now != epoch {
		t.Errorf("the loops were told %d times of nothing new", now-epoch)
	}
	g.to("pg2", "pg3")
	if g.table.epoch.Load() == epoch {
		t.Error("a new primary went unnoticed")
	}
}

func TestRouteThatIsRepeatedHurriesThoseWhoWait(t *testing.T) {
	pg1 := newFake(t, "pg1")
	g := newRig(t, Config{}, pg1)
	pg1.die()
	g.to("pg1")
	c := g.login(WriteSide)
	eventually(t, "it waits", func() bool { return g.Stats().Sides[WriteSide].Held == 1 })
	pg1.revive()
	g.to("pg1")
	if name := c.ready(); name != "pg1" {
		t.Errorf("served by %s", name)
	}
}

func TestServerThatStartsUpIsWaitedFor(t *testing.T) {
	pg1 := newFake(t, "pg1")
	pg1.set(func() { pg1.busy = 2 })
	g := newRig(t, Config{}, pg1)
	g.to("pg1")
	g.login(WriteSide).ready()
}

func TestServerThatNeverStartsUpIsQuoted(t *testing.T) {
	pg1 := newFake(t, "pg1")
	pg1.set(func() { pg1.busy = 1000 })
	g := newRig(t, Config{Limits: Limits{HoldFor: 200 * time.Millisecond}}, pg1)
	g.to("pg1")
	if e := g.login(WriteSide).fatal(); e.Code != cannotConnectNow || !strings.Contains(e.Message, "pg1: the database system is starting up") {
		t.Errorf("got %s %q", e.Code, e.Message)
	}
}
