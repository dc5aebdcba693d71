package decide

import (
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// halting is the view of pg1, the primary of three, that an operator has asked to shut the cluster down.
func halting() cluster.View {
	m := func(name string) cluster.Member { return cluster.Member{Name: name, Kind: cluster.Data, Priority: 100} }
	peer := func(name string) cluster.Peer {
		return cluster.Peer{Heard: time.Hour, Beat: cluster.Beat{From: name, Term: 7, Promised: 7, Attached: 7, Up: true, Recovery: true, Data: cluster.DataReady}}
	}
	return cluster.View{
		Now: time.Hour, Self: "pg1", Members: []cluster.Member{m("pg1"), m("pg2"), m("pg3")}, StoreOK: true, Promised: 7, Admitted: 7, Asked: "r",
		Settings: cluster.Settings{Durability: cluster.Quorum, Copies: 1, Detect: time.Second, Lease: 3 * time.Second},
		State: &cluster.State{SystemID: "7", Term: 7, Timeline: 3, Fork: 0x5000, Phase: cluster.Reigning, Primary: "pg1", Last: "pg1",
			Rule: cluster.NewRule(1, "pg2", "pg3")},
		Postgres: cluster.Postgres{Data: cluster.DataReady, Running: true, Up: true, TermRow: 0x6000, NamesLSN: 0x6000, Names: cluster.NewRule(1, "pg2", "pg3"),
			Position: cluster.Position{Timeline: 3, LSN: 0x7000}, Standbys: []cluster.Standby{{Name: "pg2", Streaming: true, Flushed: 0x7000}, {Name: "pg3", Streaming: true, Flushed: 0x7000}}},
		Peers:   map[string]cluster.Peer{"pg2": peer("pg2"), "pg3": peer("pg3")},
		Request: &cluster.Request{ID: "r", Kind: cluster.Switchover, Term: 7, To: "pg1", By: "anna", From: "pg1", Halt: true},
	}
}

// TestHalt follows a cluster that is shut down and started again.
func TestHalt(t *testing.T) {
	v := halting()
	if acts := Decide(v); len(acts) != 1 || acts[0].String() != "hand over to pg1" {
		t.Fatalf("asked: %v", acts)
	}
	v.Postgres.Running, v.Postgres.Up, v.Admitted, v.Request.Begun = false, false, 0, true // stopped in order
	acts := Decide(v)
	w, ok := acts[len(acts)-1].(cluster.Write)
	if !ok || !w.Next.Halt || w.Next.Term != 8 || w.Next.Prefer != "pg1" || w.Next.Last != "pg1" || !w.Next.Rule.Equal(v.State.Rule) || w.Next.Avoid != "" {
		t.Fatalf("stopped: %+v", acts)
	}
	v.State, v.Request = &w.Next, nil
	if acts := Decide(v); len(acts) != 0 {
		t.Errorf("the primary of before: %v", acts)
	}
	if r := Route(v); r.Write != "" || r.Hold || !strings.Contains(r.Why, "anna shut the cluster down") {
		t.Errorf("clients are told %+v", r)
	}
	if Ended(v) {
		t.Error("it ends while others run")
	}
	for _, n := range []string{"pg2", "pg3"} {
		p := v.Peers[n]
		p.Beat.Term, p.Beat.Up = 8, false
		v.Peers[n] = p
	}
	if !Ended(v) {
		t.Error("it does not end")
	}

	standby := v
	standby.Self, standby.Promised, standby.Postgres.Running, standby.Postgres.Recovery = "pg2", 7, true, true
	standby.Peers = map[string]cluster.Peer{"pg1": {Heard: time.Hour, Beat: cluster.Beat{Term: 8}}}
	if acts := Decide(standby); len(acts) != 1 || !strings.HasPrefix(acts[0].String(), "stop: ") {
		t.Errorf("a standby: %v", acts)
	}
}

// TestStartedAgain: a member that was started while the cluster was shut down takes that back, once the primary of before is there or
// has been waited for; before it does, nothing is promised, reported or started.
func TestStartedAgain(t *testing.T) {
	again := func(self string, heard bool, age time.Duration) []cluster.Action {
		v := halting()
		v.State.Term, v.State.Phase, v.State.Primary, v.State.Prefer, v.State.Halt = 8, cluster.Electing, "", "pg1", true
		v.Self, v.Resumes, v.Request, v.Admitted, v.Postgres = self, true, nil, 0, cluster.Postgres{Data: cluster.DataReady}
		v.Since, v.Peers = v.Now-age, map[string]cluster.Peer{}
		if heard {
			v.Peers["pg1"] = cluster.Peer{Heard: v.Now}
		}
		return Decide(v)
	}
	for name, c := range map[string]struct {
		acts []cluster.Action
		want bool
	}{
		"the primary of before":       {again("pg1", false, 0), true},
		"another, and it is heard":    {again("pg2", true, 0), true},
		"another, alone":              {again("pg2", false, 0), false},
		"another, after some waiting": {again("pg2", false, time.Minute), true},
	} {
		if !c.want {
			if len(c.acts) != 0 {
				t.Errorf("%s: %v", name, c.acts)
			}
			continue
		}
		w, ok := c.acts[0].(cluster.Write)
		if len(c.acts) != 1 || !ok || w.Next.Halt || w.Next.Term != 8 || w.Next.Prefer != "pg1" || w.Next.Phase != cluster.Electing {
			t.Errorf("%s: %+v", name, c.acts)
		}
	}
}
