package sim

import (
	"testing"
	"time"

	"standfast/cluster"
)

// TestImagine: what everybody knows about three members must come out of it.
func TestImagine(t *testing.T) {
	three := []SceneMember{{100}, {100}, {100}}
	settings := cluster.Settings{Durability: cluster.Quorum, Copies: 1, Detect: 700 * ms, Lease: 3 * time.Second, AgentGrace: 2 * time.Second, GuardDelay: time.Second, AntiFlap: 5 * time.Second}
	paused := settings
	paused.Paused = true
	for name, c := range map[string]struct {
		scene   Scene
		primary []string // any of them
		least   time.Duration
		most    time.Duration
		terms   int
	}{
		"nothing":                {Scene{Primary: 1}, []string{"pg2"}, 0, 0, 0},
		"the primary's host":     {Scene{Blows: []Blow{{Kind: PowerOff}}}, []string{"pg2", "pg3"}, 700 * ms, 4 * time.Second, 1},
		"the primary, paused":    {Scene{Settings: paused, Blows: []Blow{{Kind: PowerOff}}}, []string{""}, 0, 0, 0},
		"a standby's host":       {Scene{Primary: 2, Blows: []Blow{{Kind: PowerOff}}}, []string{"pg3"}, 0, 0, 0},
		"both standbys":          {Scene{Primary: 2, Blows: []Blow{{Kind: PowerOff}, {Kind: PowerOff, Host: 1}}}, []string{""}, 0, 0, 0},
		"one standby, then more": {Scene{Before: []Blow{{Kind: PowerOff, Host: 1}}, Blows: []Blow{{Kind: PowerOff, Host: 2}}}, []string{""}, 0, 0, 0},
		"PostgreSQL":             {Scene{Blows: []Blow{{Kind: KillPostgres}}}, []string{"pg1", "pg2", "pg3"}, 10 * ms, 2 * time.Second, 1},
		"cut off":                {Scene{Blows: []Blow{{Kind: Cut, From: []int{1, 2}}}}, []string{"pg2", "pg3"}, 700 * ms, 8 * time.Second, 1},
		"the store of one":       {Scene{Blows: []Blow{{Kind: StopStore, Host: 1}}}, []string{"pg1"}, 0, 0, 0},
		"the store of two":       {Scene{Blows: []Blow{{Kind: StopStore, Host: 1}, {Kind: StopStore, Host: 2}}}, []string{"pg1"}, 0, 0, 0},
	} {
		for seed := uint64(1); seed <= 3; seed++ {
			s := c.scene
			s.Data, s.Brain, s.Seed = three, sound, seed
			if s.Settings.Copies == 0 {
				s.Settings = settings
			}
			e := Imagine(s)
			ok := false
			for _, p := range c.primary {
				ok = ok || e.Primary == p
			}
			if !e.Founded || e.Violation != nil || !ok || e.Outage < c.least || e.Outage > c.most || e.Terms < c.terms {
				t.Errorf("%s, seed %d: %+v", name, seed, e)
			}
		}
	}
}
