package ops

import (
	"testing"

	"standfast/api"
	"standfast/cluster"
)

func TestSource(t *testing.T) {
	bytes := func(n int64) *int64 { return &n }
	standby := func(name string, behind int64) api.Member {
		return api.Member{Member: cluster.Member{Name: name}, Role: api.Standby, State: api.Running, Attached: true, Readable: true, Lag: bytes(behind)}
	}
	primary := api.Member{Member: cluster.Member{Name: "pg1"}, Role: api.Primary, State: api.Running, Writable: true}
	cloning := api.Member{Member: cluster.Member{Name: "pg3"}, Role: api.Standby, State: api.Cloning}
	witness := api.Member{Member: cluster.Member{Name: "w1"}, Role: api.Witness, State: api.Watching}
	for name, c := range map[string]struct {
		members     []api.Member
		named, here string
		want        string // "": refused
		told        bool
	}{
		"the standby that lags least":       {members: []api.Member{primary, standby("pg2", 100), standby("pg3", 10)}, here: "pg1", want: "pg3"},
		"this host's standby before others": {members: []api.Member{primary, standby("pg2", 100), standby("pg3", 10)}, here: "pg2", want: "pg2"},
		"never this host's primary":         {members: []api.Member{primary, standby("pg2", 100)}, here: "pg1", want: "pg2"},
		"one that is cloned is no source":   {members: []api.Member{primary, cloning}, want: "pg1", told: true},
		"the one that is named":             {members: []api.Member{primary, standby("pg2", 0)}, named: "pg1", want: "pg1"},
		"a witness holds nothing":           {members: []api.Member{primary, witness}, named: "w1"},
		"nobody of that name":               {members: []api.Member{primary}, named: "pg9"},
		"named, and being cloned":           {members: []api.Member{primary, cloning}, named: "pg3"},
		"nothing is left":                   {members: []api.Member{cloning}},
	} {
		st := &api.Status{Primary: "pg1", Members: c.members}
		m, why, err := source(st, c.named, c.here)
		if m.Name != c.want || (err == nil) != (c.want != "") || (why != "") != c.told {
			t.Errorf("%s: got %q, %q, %v", name, m.Name, why, err)
		}
	}
}
