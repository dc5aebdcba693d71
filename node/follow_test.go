package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/decide"
)

const floating = "10.0.1.50"

// crew is a small cluster whose members hear each other's beats and follow one address. It stands in for the agents: what
// they see is set by the test, what they claim is what is tested.
type crew struct {
	t         *testing.T
	now       cluster.Instant
	names     []string
	primary   string // admitted in term; "": an election is under way
	term      cluster.Term
	up        map[string]bool // heard by the others
	readable  map[string]bool
	request   *cluster.Request
	followers map[string]*follower
	standby   bool                       // the address follows a standby
	heard     map[string]cluster.Instant // by hearer and heard
	said      map[string][]string        // likewise: the addresses in the newest beat
	moves     []string
	holding   string
}

func newCrew(t *testing.T, standby bool) *crew {
	c := &crew{t: t, now: time.Minute, names: []string{"pg1", "pg2", "pg3"}, primary: "pg1", term: 2, standby: standby,
		up: map[string]bool{}, readable: map[string]bool{"pg2": true, "pg3": true}, followers: map[string]*follower{}, heard: map[string]cluster.Instant{}, said: map[string][]string{}}
	for _, n := range c.names {
		c.up[n] = true
		c.restart(n)
	}
	return c
}

func (c *crew) restart(name string) { c.followers[name] = &follower{ip: floating} }

// view is what the member sees, and where its router sends clients.
func (c *crew) view(self string) (cluster.View, cluster.Route) {
	v := cluster.View{Now: c.now, Self: self, Request: c.request, Peers: map[string]cluster.Peer{},
		Settings: cluster.Settings{Detect: 2 * time.Second, Lease: 3 * time.Second},
		State:    &cluster.State{Term: c.term, Phase: cluster.Reigning, Primary: c.primary}}
	if c.primary == "" {
		v.State.Phase = cluster.Electing
	}
	r := cluster.Route{Term: c.term, Write: c.primary, Hold: c.primary == "" || decide.Holder(v.State, v.Request) != c.primary}
	alive := 0
	for _, n := range c.names {
		v.Members = append(v.Members, cluster.Member{Name: n, Kind: cluster.Data, Priority: 100})
		if n != self && c.up[self] && c.up[n] {
			c.heard[self+n], c.said[self+n] = c.now, nil
			if c.followers[n].claimed {
				c.said[self+n] = []string{floating}
			}
		}
		if n != self {
			v.Peers[n] = cluster.Peer{Heard: c.heard[self+n], Beat: cluster.Beat{Addresses: c.said[self+n]}}
		}
		if n == self || c.now-c.heard[self+n] < v.Settings.Lease {
			alive++
		}
		if c.readable[n] && n != c.primary && (n == self || c.now-c.heard[self+n] < v.Settings.Detect) {
			r.Reads = append(r.Reads, cluster.ReadTarget{Name: n})
		}
	}
	if self == c.primary {
		v.Admitted = c.term
	}
	if alive < 2 {
		r = cluster.Route{Term: c.term, Why: "no majority"}
	}
	return v, r
}

// pass lets time go by in steps of 50 ms. Of members that hear each other never two hold the address.
func (c *crew) pass(d time.Duration) {
	c.t.Helper()
	for range d / (50 * time.Millisecond) {
		c.now += 50 * time.Millisecond
		for _, n := range c.names {
			v, r := c.view(n)
			if c.standby {
				c.followers[n].followStandby(v, r)
			} else {
				c.followers[n].followPrimary(v, r)
			}
		}
		var holders []string
		for _, n := range c.names {
			if c.followers[n].claimed && c.up[n] {
				holders = append(holders, n)
			}
		}
		if len(holders) > 1 {
			c.t.Fatalf("at %v: held by %v", c.now, holders)
		}
		if h := strings.Join(holders, ""); h != c.holding {
			c.holding = h
			c.moves = append(c.moves, fmt.Sprintf("%v %s", c.now-time.Minute, h))
		}
	}
}

func (c *crew) want(moves ...string) {
	c.t.Helper()
	if !slices.Equal(c.moves, moves) {
		c.t.Errorf("moves %q, want %q", c.moves, moves)
	}
	c.moves = nil
}

func TestPrimarysAddress(t *testing.T) {
	t.Run("follows at once when the old one has let go", func(t *testing.T) {
		c := newCrew(t, false)
		c.pass(time.Second)
		c.want("50ms pg1")
		c.followers["pg1"].yield() // PostgreSQL has died there
		c.primary, c.term = "", 3
		c.pass(100 * time.Millisecond)
		c.primary = "pg2"
		c.pass(time.Second)
		c.want("1.05s ", "1.15s pg2")
	})
	t.Run("does not wait for one that is silent", func(t *testing.T) {
		c := newCrew(t, false)
		c.pass(time.Second)
		c.up["pg1"] = false
		c.pass(2 * time.Second)
		c.primary, c.term = "pg3", 3
		c.pass(time.Second)
		c.want("50ms pg1", "1.05s ", "3.05s pg3")
		if !c.followers["pg3"].used || c.followers["pg1"].used {
			t.Error("pg3 has seen pg1 hold it, pg1 nobody")
		}
	})
	t.Run("waits for one that says it has it, but not for ever", func(t *testing.T) {
		c := newCrew(t, false)
		c.restart("pg2")
		other := &follower{ip: floating, claimed: true}
		c.followers["pg2"], c.primary = other, "pg1"
		v, r := c.view("pg1")
		f := c.followers["pg1"]
		if f.followPrimary(v, r) {
			t.Error("taken from a member that is heard")
		}
		c.now += handOver
		if v, r = c.view("pg1"); !f.followPrimary(v, r) {
			t.Error("not taken from one that does not let go")
		}
	})
	t.Run("goes with the majority", func(t *testing.T) {
		c := newCrew(t, false)
		c.pass(time.Second)
		c.up["pg2"], c.up["pg3"] = false, false
		c.pass(5 * time.Second)
		c.want("50ms pg1", "4s ")
	})
	t.Run("goes to a switchover's target ahead", func(t *testing.T) {
		c := newCrew(t, false)
		c.pass(time.Second)
		c.request = &cluster.Request{Kind: cluster.Switchover, Term: 2, To: "pg3", Begun: true}
		c.pass(200 * time.Millisecond)
		c.primary, c.term = "", 3 // the request's term is over
		c.pass(200 * time.Millisecond)
		c.primary = "pg3"
		c.pass(time.Second)
		c.want("50ms pg1", "1.05s pg3")
	})
	t.Run("comes back when a switchover fails", func(t *testing.T) {
		c := newCrew(t, false)
		c.pass(time.Second)
		c.request = &cluster.Request{Kind: cluster.Switchover, Term: 2, To: "pg3", Begun: true}
		c.pass(200 * time.Millisecond)
		c.request = nil
		c.pass(time.Second)
		c.want("50ms pg1", "1.05s pg3", "1.25s ", "1.3s pg1")
	})
	t.Run("stays off after a step down until a view shows it", func(t *testing.T) {
		c := newCrew(t, false)
		c.pass(time.Second)
		c.followers["pg1"].yield()
		c.pass(time.Second) // views from before it: still admitted
		c.want("50ms pg1", "1.05s ")
	})
}

// TestLeftByAnEarlierAgent: an address that is found here stays until it is known whose it is.
func TestLeftByAnEarlierAgent(t *testing.T) {
	fresh := func(standby bool) (*crew, *follower) {
		c := newCrew(t, standby)
		c.pass(time.Second)
		self := "pg1"
		if standby {
			self = "pg2"
		}
		c.restart(self)
		f := c.followers[self]
		f.here = true
		return c, f
	}
	for _, x := range []struct {
		name    string
		standby bool
		sees    func(c *crew, f *follower, v *cluster.View, r *cluster.Route)
		want    bool
	}{
		{"nothing is known yet", false, func(_ *crew, _ *follower, v *cluster.View, r *cluster.Route) {
			v.State, v.Peers, v.Admitted, *r = nil, nil, 0, cluster.Route{}
		}, true},
		{"it reigns, and has not admitted anybody yet", false, func(_ *crew, _ *follower, v *cluster.View, _ *cluster.Route) { v.Admitted = 0 }, true},
		{"it reigns, and hears nobody yet", false, func(_ *crew, _ *follower, v *cluster.View, r *cluster.Route) {
			v.Peers, *r = nil, cluster.Route{Term: 2}
		}, true},
		{"another reigns", false, func(_ *crew, _ *follower, v *cluster.View, _ *cluster.Route) { v.State.Primary = "pg3" }, false},
		{"an election has begun", false, func(_ *crew, _ *follower, v *cluster.View, _ *cluster.Route) { v.State.Phase = cluster.Electing }, false},
		{"a newer term is heard of", false, func(_ *crew, _ *follower, _ *cluster.View, r *cluster.Route) { r.Term = 3 }, false},
		{"another has it", false, func(c *crew, _ *follower, v *cluster.View, _ *cluster.Route) {
			v.Peers["pg3"] = cluster.Peer{Heard: c.now, Beat: cluster.Beat{Addresses: []string{floating}}}
		}, false},
		{"another is to have it", false, func(_ *crew, _ *follower, v *cluster.View, _ *cluster.Route) {
			v.Request = &cluster.Request{Kind: cluster.Switchover, Term: 2, To: "pg3", Begun: true}
		}, false},
		{"it has stepped down since", false, func(_ *crew, f *follower, _ *cluster.View, _ *cluster.Route) { f.yield() }, false},
		{"a standby that can't serve yet", true, func(_ *crew, _ *follower, _ *cluster.View, _ *cluster.Route) {}, true},
		{"a standby, and another has it", true, func(c *crew, _ *follower, v *cluster.View, _ *cluster.Route) {
			v.Peers["pg3"] = cluster.Peer{Heard: c.now, Beat: cluster.Beat{Addresses: []string{floating}}}
		}, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, f := fresh(x.standby)
			self := "pg1"
			if x.standby {
				self = "pg2"
			}
			v, r := c.view(self)
			x.sees(c, f, &v, &r)
			if got := f.resumes(v, r, x.standby); got != x.want {
				t.Errorf("stays: %v, want %v", got, x.want)
			}
		})
	}
	t.Run("a standby goes on with it though another would be chosen", func(t *testing.T) {
		c := newCrew(t, true)
		f := c.followers["pg3"]
		f.here = true
		v, r := c.view("pg3")
		if !f.followStandby(v, r) {
			t.Error("given up after a restart")
		}
	})
}

func TestReadersAddress(t *testing.T) {
	t.Run("stays where it is", func(t *testing.T) {
		c := newCrew(t, true)
		c.pass(time.Second)
		c.want("50ms pg2")
		c.readable["pg2"] = false // an election, say
		c.pass(900 * time.Millisecond)
		c.readable["pg2"] = true
		c.pass(5 * time.Second)
		c.want()
	})
	t.Run("moves once, and not back", func(t *testing.T) {
		c := newCrew(t, true)
		c.pass(time.Second)
		for range 10 { // cut off for three seconds, again and again
			c.up["pg2"] = false
			c.pass(3 * time.Second)
			c.up["pg2"] = true
			c.pass(3 * time.Second)
		}
		c.want("50ms pg2", "1.05s ", "3s pg3")
	})
	t.Run("goes to the primary when there is no other, and back when one stays", func(t *testing.T) {
		c := newCrew(t, true)
		c.pass(time.Second)
		c.readable["pg2"], c.readable["pg3"] = false, false
		c.pass(10 * time.Second)
		c.readable["pg3"] = true
		c.pass(3 * time.Second)
		c.readable["pg3"] = false // for a moment only
		c.pass(time.Second)
		c.readable["pg3"] = true
		c.pass(10 * time.Second)
		c.want("50ms pg2", "4.05s ", "4.1s pg1", "20.05s pg3")
	})
	t.Run("stays with a promoted standby only without another", func(t *testing.T) {
		c := newCrew(t, true)
		c.pass(time.Second)
		c.primary, c.term = "pg2", 3
		c.readable = map[string]bool{"pg1": true}
		c.pass(5 * time.Second)
		c.want("50ms pg2", "3s ", "3.05s pg1")

		c.readable = map[string]bool{}
		c.primary, c.term = "pg1", 4
		c.pass(10 * time.Second)
		c.want()
	})
}
