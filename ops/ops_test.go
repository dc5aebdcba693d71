package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
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

// TestPatience: what passes by itself is looked at again, what does not is refused at once.
func TestPatience(t *testing.T) {
	looks := 0
	look := func(st *api.Status) func() (*api.Status, error) {
		return func() (*api.Status, error) {
			if looks++; looks < 3 {
				return st, nil
			}
			return three(nil), nil
		}
	}
	may := func(st *api.Status) error { return mayHandOver(st, "pg1") }
	if st, err := patiently(t.Context(), look(three(func(s *api.Status) { s.Members[0].State = api.Stopped })), may); err != nil || looks != 3 || st.Members[0].State != api.Running {
		t.Errorf("after %d looks: %v", looks, err)
	}
	looks = 0
	var refused *Refused
	if _, err := patiently(t.Context(), look(three(func(s *api.Status) { s.Members[0].Priority = 0 })), may); !errors.As(err, &refused) || looks != 1 {
		t.Errorf("after %d looks: %v", looks, err)
	}
	looks = 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := patiently(ctx, look(three(func(s *api.Status) { s.Members[0].Attached = false })), may); !errors.As(err, &refused) || !strings.Contains(err.Error(), "wait until it is running") {
		t.Errorf("after %d looks: %v", looks, err)
	}
}

// world answers restarts in the place of a cluster's members.
type world struct {
	st      *api.Status
	waits   map[string]int              // how often each member says that it has something to restart for
	after   func(w *world, name string) // what a restart brings about
	refuses string
	log     []string
}

func (w *world) restart(r api.RestartRequest, _ bool) (bool, error) {
	m := w.st.Member(r.Member)
	if r.Member == w.refuses {
		return false, errors.New(r.Member + " does not answer")
	}
	if m.Role != r.Role {
		return false, fmt.Errorf("%s is not a %s", r.Member, r.Role)
	}
	if r.OnlyPending && w.waits[r.Member] == 0 {
		return false, nil
	}
	w.waits[r.Member] = max(w.waits[r.Member]-1, 0)
	w.log = append(w.log, r.Member)
	if w.after != nil {
		w.after(w, r.Member)
	}
	return true, nil
}

func TestRestartOrder(t *testing.T) {
	everybody := map[string]int{"pg1": 1, "pg2": 1, "pg3": 1}
	for name, c := range map[string]struct {
		members []string
		pending bool
		waits   map[string]int
		change  func(*api.Status)
		after   func(w *world, name string)
		refuses string
		want    string // the restarts in order
		err     string
	}{
		"all, the primary last":     {want: "pg1 pg3 pg2"},
		"one":                       {members: []string{"pg3"}, want: "pg3"},
		"the primary":               {members: []string{"pg2"}, want: "pg2"},
		"only where it is due":      {pending: true, waits: map[string]int{"pg2": 1}, want: "pg2"},
		"raised":                    {pending: true, waits: everybody, want: "pg1 pg3 pg2"},
		"none due":                  {pending: true},
		"a witness":                 {members: []string{"w1"}, err: "is a witness"},
		"a stranger":                {members: []string{"pg9"}, err: "no member pg9"},
		"one is away":               {change: func(s *api.Status) { s.Members[2].State = api.Unreachable }, err: "pg3 is not heard from"},
		"one is away, others named": {members: []string{"pg1"}, change: func(s *api.Status) { s.Members[2].State = api.Unreachable }, want: "pg1"},
		"one that may wait is away": {pending: true, waits: everybody, change: func(s *api.Status) { s.Members[2].State = api.Unreachable }, err: "pg3 is not heard from"},
		"one can't be asked":        {pending: true, waits: everybody, refuses: "pg3", want: "pg1", err: "pg3 does not answer"},
		"its old flag says nothing": {pending: true, waits: everybody, change: func(s *api.Status) { s.Members[0].PendingRestart = true }, want: "pg1 pg3 pg2"},
		"nobody reigns":             {change: func(s *api.Status) { s.Primary = "" }, err: "nobody is primary"},
		"lowered: due on the standbys after the primary": {pending: true, waits: map[string]int{"pg2": 1}, want: "pg2 pg1 pg3", after: func(w *world, name string) {
			if name == "pg2" {
				w.waits["pg1"], w.waits["pg3"] = 1, 1
			}
		}},
		"one raised, another lowered": {want: "pg1 pg3 pg2 pg1 pg3", after: func(w *world, name string) {
			if name == "pg2" {
				w.waits["pg1"], w.waits["pg3"] = 1, 1
			}
		}},
		"a failover in the middle": {want: "pg1 pg3 pg2", after: func(w *world, name string) {
			if name == "pg3" {
				w.st.Primary, w.st.Members[1].Role, w.st.Members[0].Role = "pg1", api.Standby, api.Primary
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{st: three(c.change), waits: map[string]int{}, after: c.after, refuses: c.refuses}
			maps.Copy(w.waits, c.waits)
			r := round{status: func() (*api.Status, error) { return w.st, nil }, restart: w.restart}
			done, err := r.all(c.members, c.pending)
			if got := strings.Join(w.log, " "); got != c.want {
				t.Errorf("restarted %q, want %q", got, c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			slices.Sort(w.log)
			slices.Sort(done)
			if !slices.Equal(slices.Compact(w.log), done) {
				t.Errorf("says that it restarted %v", done)
			}
		})
	}
}

// TestRollingRestart: standbys, then the role is handed over, which starts the old primary anew; a restart in place of the primary is
// left only for what has to be lowered there first.
func TestRollingRestart(t *testing.T) {
	everybody := map[string]int{"pg1": 1, "pg2": 1, "pg3": 1}
	due := func(s *api.Status) { s.Members[1].PendingRestart = true }
	for name, c := range map[string]struct {
		members []string
		pending bool
		waits   map[string]int
		change  func(*api.Status)
		after   func(w *world, name string)
		stuck   bool   // nobody can take over
		want    string // what was done in order; > is the handover
		done    string
		err     string
	}{
		"all":                  {want: "pg1 pg3 >", done: "pg1 pg3 pg2"},
		"where it is due":      {pending: true, waits: everybody, change: due, want: "pg1 pg3 >", done: "pg1 pg3 pg2"},
		"the primary has none": {pending: true, waits: map[string]int{"pg1": 1}, want: "pg1", done: "pg1"},
		"its flag comes late":  {pending: true, waits: map[string]int{"pg2": 1}, want: "pg2", done: "pg2"},
		"the primary alone":    {members: []string{"pg2"}, want: ">", done: "pg2"},
		"a standby alone":      {members: []string{"pg3"}, want: "pg3", done: "pg3"},
		"nobody can take over": {stuck: true, want: "pg1 pg3", done: "pg1 pg3", err: "no standby is ready"},
		"lowered, so first on whoever is primary": {pending: true, waits: map[string]int{"pg2": 1}, change: due, want: "> pg1 pg2 pg3", done: "pg2 pg1 pg3", after: func(w *world, name string) {
			switch name {
			case ">": // the new primary has what the old one had
				w.waits["pg1"] = 1
			case "pg1":
				w.waits["pg2"], w.waits["pg3"] = 1, 1
			}
		}},
		"a failover in the middle": {want: "pg1 pg3 pg2", done: "pg1 pg3 pg2", after: func(w *world, name string) {
			if name == "pg3" {
				w.reign("pg1")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{st: three(c.change), waits: map[string]int{}, after: c.after}
			maps.Copy(w.waits, c.waits)
			r := round{status: func() (*api.Status, error) { return w.st, nil }, restart: w.restart, handOver: func() error {
				if c.stuck {
					return notYet("no standby is ready to take over")
				}
				w.log = append(w.log, ">")
				w.waits["pg2"] = 0
				w.reign("pg1")
				if c.after != nil {
					c.after(w, ">")
				}
				return nil
			}}
			done, err := r.rolling(c.members, c.pending)
			if got := strings.Join(w.log, " "); got != c.want || strings.Join(done, " ") != c.done {
				t.Errorf("did %q and says %q, want %q and %q", got, done, c.want, c.done)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// reign makes one the primary.
func (w *world) reign(name string) {
	for i := range w.st.Members {
		if m := &w.st.Members[i]; m.Role != api.Witness {
			m.Role = api.Standby
		}
	}
	w.st.Primary, w.st.Member(name).Role = name, api.Primary
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
