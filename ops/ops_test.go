package ops

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
)

// three is a healthy cluster with a witness; change spoils it.
func three(change func(*api.Status)) *api.Status {
	st := &api.Status{Primary: "pg2", Phase: cluster.Reigning}
	for _, n := range []string{"pg1", "pg2", "pg3", "w1"} {
		m := api.Member{Member: cluster.Member{Name: n, Kind: cluster.Data, Priority: 100}, Role: api.Standby, State: api.Running, Attached: true}
		switch n {
		case "pg2":
			m.Role = api.Primary
		case "w1":
			m.Role, m.State = api.Witness, api.Watching
		}
		st.Members = append(st.Members, m)
	}
	if change != nil {
		change(st)
	}
	return st
}

func TestMayHandOver(t *testing.T) {
	for name, c := range map[string]struct {
		to     string
		change func(*api.Status)
		want   string // "": allowed
	}{
		"to a standby":         {"pg1", nil, ""},
		"to the best":          {"", nil, ""},
		"to itself":            {"pg2", nil, "is the primary already"},
		"to a stranger":        {"pg9", nil, "there is no member pg9; there are pg1, pg2, pg3, w1"},
		"to a witness":         {"w1", nil, "is a witness"},
		"never primary":        {"pg1", func(s *api.Status) { s.Members[0].Priority = 0 }, "priority 0"},
		"unreachable":          {"pg1", func(s *api.Status) { s.Members[0].State = api.Unreachable }, "is not heard from"},
		"detached":             {"pg1", func(s *api.Status) { s.Members[0].Attached = false }, "does not follow pg2 now"},
		"cloning":              {"pg1", func(s *api.Status) { s.Members[0].State = api.Cloning }, "does not follow pg2 now (cloning)"},
		"electing":             {"", func(s *api.Status) { s.Phase, s.Primary = cluster.Electing, "" }, "nobody is primary now"},
		"nobody can take over": {"", func(s *api.Status) { s.Members[0].Attached, s.Members[2].Priority = false, 0 }, "no standby is ready"},
	} {
		err := mayHandOver(three(c.change), c.to)
		var refused *Refused
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: refused: %v", name, err)
		case c.want != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want a refusal with %q", name, err, c.want)
		}
	}
}

func TestRestartOrder(t *testing.T) {
	for name, c := range map[string]struct {
		members []string
		pending bool
		change  func(*api.Status)
		want    []string
		refusal string
	}{
		"all, the primary last": {nil, false, nil, []string{"pg1", "pg3", "pg2"}, ""},
		"one":                   {[]string{"pg3"}, false, nil, []string{"pg3"}, ""},
		"only where it is due":  {nil, true, func(s *api.Status) { s.Members[1].PendingRestart = true }, []string{"pg2"}, ""},
		"none due":              {nil, true, nil, nil, ""},
		"a witness":             {[]string{"w1"}, false, nil, nil, "is a witness"},
		"a stranger":            {[]string{"pg9"}, false, nil, nil, "no member pg9"},
		"one is away":           {nil, false, func(s *api.Status) { s.Members[2].State = api.Unreachable }, nil, "pg3 is not heard from"},
		"another is away":       {[]string{"pg1"}, false, func(s *api.Status) { s.Members[2].State = api.Unreachable }, []string{"pg1"}, ""},
	} {
		got, err := restartOrder(three(c.change), c.members, c.pending)
		if c.refusal == "" && (err != nil || !reflect.DeepEqual(got, c.want)) || c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)) {
			t.Errorf("%s: %v %v, want %v %s", name, got, err, c.want, c.refusal)
		}
	}
}

func TestEndpointsBeginWithTheFilesOwn(t *testing.T) {
	n, err := config.ParseNode("f", []byte("{cluster: main, name: b, members: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2, ports: {admin: 9443}}]}"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := endpoints(n, func(p config.Ports) int { return p.Admin }); !reflect.DeepEqual(got, []string{"10.0.0.2:9443", "10.0.0.1:8443"}) {
		t.Errorf("%v", got)
	}
}
