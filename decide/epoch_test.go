package decide

import (
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// solo is the view of pg3, the primary of a cluster that was founded anew from it, with pg2 taken in already.
func solo() cluster.View {
	m := func(name string) cluster.Member { return cluster.Member{Name: name, Kind: cluster.Data, Priority: 100} }
	return cluster.View{
		Now: time.Hour, Self: "pg3", Members: []cluster.Member{m("pg2"), m("pg3")}, Epoch: 7, StoreOK: true, Promised: 107, Admitted: 107,
		LeaseFrom: time.Hour, Settings: cluster.Settings{Durability: cluster.Quorum, Copies: 1, Detect: time.Second, Lease: 3 * time.Second},
		State: &cluster.State{SystemID: "7", Epoch: 7, Term: 107, Timeline: 103, Fork: 0x5000, Phase: cluster.Reigning, Primary: "pg3", Last: "pg3", Solo: true},
		Postgres: cluster.Postgres{Data: cluster.DataReady, Running: true, Up: true, TermRow: 0x6000, NamesLSN: 0x6000,
			Position: cluster.Position{Timeline: 103, LSN: 0x7000}, Names: cluster.NewRule(0)},
		Peers: map[string]cluster.Peer{"pg2": {Heard: time.Hour, Beat: cluster.Beat{From: "pg2", Epoch: 7, Term: 107, Attached: 107, Up: true, Data: cluster.DataReady}}},
	}
}

// TestSoloUntilThereIsACopy: commits do without a copy until a member streams for the first time, and never again after.
func TestSoloUntilThereIsACopy(t *testing.T) {
	v := solo()
	if acts := Decide(v); len(acts) != 0 {
		t.Errorf("with nobody to hold a copy: %v", acts)
	}
	v.Postgres.Standbys = []cluster.Standby{{Name: "pg2", Streaming: true, Flushed: 0x7000, Replayed: 0x7000}}
	acts := Decide(v)
	if len(acts) != 1 || acts[0].String() != "set names: ANY 1 of pg2" {
		t.Fatalf("pg2 streams: %v", acts)
	}
	v.Postgres.Names = cluster.NewRule(1, "pg2")
	acts = Decide(v)
	w, ok := acts[0].(cluster.Write)
	if !ok || !w.Next.Rule.Equal(cluster.NewRule(1, "pg2")) || w.Next.Solo || w.Next.Epoch != 7 {
		t.Fatalf("the names are in force: %+v", acts)
	}
	held := v
	held.Postgres.Standbys, held.UnmetSince = nil, v.Now-v.Settings.Detect // the change has ended its WAL sender
	if acts := Decide(held); len(acts) != 0 {
		t.Errorf("pg2's WAL sender is coming back: %v", acts)
	}
	v.State, v.Postgres.Standbys, v.UnmetSince = &w.Next, nil, time.Minute
	if k := wantedCopies(v); k != 1 {
		t.Errorf("pg2 is lost: commits would do with %d copies", k)
	}
	if next := nextTerm(solo(), "x"); !next.Solo || next.Epoch != 7 {
		t.Errorf("restarted before there was a copy: %+v", next)
	}
}

// TestSuperseded: whatever a member sees besides, a higher epoch ends what runs and begins nothing.
func TestSuperseded(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*cluster.View)
		want   string
	}{
		"a primary":             {func(*cluster.View) {}, "fence: "},
		"a standby":             {func(v *cluster.View) { v.Postgres.Recovery = true }, "stop: "},
		"nothing that runs":     {func(v *cluster.View) { v.Postgres = cluster.Postgres{Data: cluster.DataReady} }, ""},
		"no data":               {func(v *cluster.View) { v.Postgres = cluster.Postgres{Data: cluster.NoData} }, ""},
		"a record to be reborn": {func(v *cluster.View) { v.State, v.Postgres = nil, cluster.Postgres{Data: cluster.NoData} }, ""},
		"a witness":             {func(v *cluster.View) { v.Members[1].Kind, v.Postgres = cluster.Witness, cluster.Postgres{} }, ""},
		"an election": {func(v *cluster.View) {
			v.State.Phase, v.State.Primary, v.Postgres.Recovery, v.Postgres.Running = cluster.Electing, "", true, false
		}, ""},
		"the only report": {func(v *cluster.View) {
			v.State.Phase, v.State.Primary, v.Postgres.Recovery, v.Postgres.Running = cluster.Electing, "", true, false
			v.Reports = map[string]cluster.Report{"pg3": {Term: 107, Member: "pg3"}}
		}, ""},
	} {
		v := solo()
		c.change(&v)
		v.Superseded = 8
		acts := Decide(v)
		if c.want == "" && len(acts) != 0 || c.want != "" && (len(acts) != 1 || !strings.HasPrefix(acts[0].String(), c.want)) {
			t.Errorf("%s: %v, want %q", name, acts, c.want)
		}
		if r := Route(v); r.Write != "" || r.Hold || len(r.Reads) != 0 || !strings.Contains(r.Why, "stays out") {
			t.Errorf("%s: clients are led by %+v", name, r)
		}
		if !MustDetach(v) {
			t.Errorf("%s: its relay may carry", name)
		}
	}
	if v := solo(); Over(v) != "" {
		t.Error("one of the newest epoch is told to stay out")
	}
}
