package whatif

import (
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/sim"
)

var settings = cluster.Settings{
	Durability: cluster.Quorum, Copies: 1, Detect: 700 * time.Millisecond, Lease: 3 * time.Second, AgentGrace: 2 * time.Second, GuardDelay: time.Second, AntiFlap: 5 * time.Second,
}

// status is a healthy cluster of which "beta" is the primary; names are not the simulator's, nor in its order.
func status(change func(*api.Status)) *api.Status {
	st := &api.Status{Primary: "beta", Phase: cluster.Reigning, Term: 7, Commit: api.Commit{Rule: cluster.NewRule(1, "alpha", "gamma")}}
	for _, name := range []string{"alpha", "beta", "gamma"} {
		m := api.Member{Member: cluster.Member{Name: name, Kind: cluster.Data, Priority: 100}, Role: api.Standby, State: api.Running, Attached: true}
		if name == "beta" {
			m.Role, m.Attached, m.Writable = api.Primary, false, true
		}
		st.Members = append(st.Members, m)
	}
	change(st)
	return st
}

func well(*api.Status) {}

func TestAsk(t *testing.T) {
	down := func(st *api.Status) { st.Members[2].State, st.Members[2].Attached = api.Unreachable, false }
	paused, async := settings, settings
	paused.Paused, async.Durability = true, cluster.Async
	for name, c := range map[string]struct {
		question string
		status   func(*api.Status)
		settings cluster.Settings
		winners  string // any of them, each; "" nobody
		want     []string
	}{
		"the primary":          {"power off the primary", well, settings, "alpha gamma", []string{"Writes are out for about", "700ms of it passes before", "Nothing acknowledged is lost.", "if one more host fails, writing waits", "One more loss, ", "nobody takes writes until a host is back"}},
		"a standby":            {"power off gamma", well, settings, "beta", []string{"Clients notice nothing: beta stays", "Nothing acknowledged is lost."}},
		"both standbys":        {"lose alpha and gamma", well, settings, "", []string{"Nobody takes writes any more", "a change takes 2 of 3 members that hear each other", "Nothing acknowledged is lost."}},
		"two with the primary": {"lose beta, gamma", well, settings, "", []string{"as long as the disk of one of beta, gamma comes back"}},
		"one down already":     {"power off alpha", down, settings, "", []string{"Nobody takes writes any more", "gamma is not heard from, and is taken to be switched off"}},
		"one after the other":  {"power off beta then power off alpha", well, settings, "", []string{"Nobody takes writes any more"}},
		"paused":               {"power off beta", well, paused, "", []string{"automatic failover is paused"}},
		"async":                {"power off beta", well, async, "alpha gamma", []string{"Commits wait for no copy", "standfast salvage"}},
		"PostgreSQL":           {"kill postgres on beta", well, settings, "alpha beta gamma", []string{"Writes are out for about"}},
		"cut off":              {"cut beta from alpha, gamma", well, settings, "alpha gamma", []string{"becomes the primary"}},
		"a store":              {"stop etcd on gamma", well, settings, "beta", []string{"Clients notice nothing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := status(c.status)
			q, err := Parse(c.question, st)
			if err != nil {
				t.Fatal(err)
			}
			a, err := Ask(q, st, c.settings, nil)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Join(a.Text, "\n")
			for _, w := range a.Winners {
				if !strings.Contains(c.winners, w.Member) {
					t.Errorf("%s wins", w.Member)
				}
			}
			if (len(a.Winners) > 0) != (c.winners != "") || a.Writes != (c.winners != "") || len(a.Violations) > 0 {
				t.Errorf("winners %v, writes %v, %v", a.Winners, a.Writes, a.Violations)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if strings.Contains(text, "pg1") || strings.Contains(text, "pg2") || strings.Contains(text, "pg3") {
				t.Errorf("the simulator's names in\n%s", text)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.Status)
		want   string
	}{
		"electing":     {func(st *api.Status) { st.Phase, st.Primary = cluster.Electing, "" }, "nobody reigns now"},
		"not admitted": {func(st *api.Status) { st.Members[1].Writable = false }, "takes no writes now"},
	} {
		st := status(c.change)
		if _, err := Ask(Question{Faults: []Fault{{Kind: sim.PowerOff, Member: "alpha"}}}, st, settings, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	st := status(well)
	for text, want := range map[string]string{
		"power off alpha":                    "power off alpha",
		"Power  off ALPHA and gamma":         "power off alpha + power off gamma",
		"pause primary":                      "pause beta",
		"cut beta from alpha,gamma":          "cut beta from alpha, gamma",
		"isolate beta":                       "cut beta from alpha, gamma",
		"cut off alpha and beta":             "cut alpha from gamma + cut beta from gamma",
		"kill standfast on the primary":      "kill agent on beta",
		"hang disk on gamma":                 "hang disk on gamma",
		"stop etcd on alpha then lose gamma": "stop etcd on alpha, then lose: power off gamma",
		"blow up beta":                       "error: is not understood",
		"power off":                          "error: is not understood",
		"power off delta":                    `error: there is no member "delta"; there are alpha, beta, gamma`,
		"power off and":                      "error: ",
		"cut beta from beta":                 "error: itself",
		"cut off alpha, beta and gamma":      "error: name fewer",
		"power off alpha from beta":          "error: only a member that is cut",
		"":                                   "error: is not understood",
	} {
		q, err := Parse(text, st)
		var parts []string
		for _, f := range q.Faults {
			parts = append(parts, f.String())
		}
		got := strings.Join(parts, " + ")
		if len(q.Before) > 0 {
			got = q.Before[0].String() + ", then lose: " + got
		}
		if err != nil {
			got = "error: " + err.Error()
		}
		if bad, ok := strings.CutPrefix(want, "error: "); ok && err != nil && strings.Contains(err.Error(), bad) {
			continue
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
