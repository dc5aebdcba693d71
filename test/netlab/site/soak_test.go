//go:build e2e

package site_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"standfast/playground/load"
	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// Settings of TestSoak, which the Makefile hands on.
const (
	soakVar = "STANDFAST_SOAK"      // for how long, as "30m"; without it there is no random run
	seedVar = "STANDFAST_SOAK_SEED" // of the faults and their times; "": drawn
	modeVar = "STANDFAST_SOAK_MODE" // "": faults
)

// Modes of a random run. In all but the first nobody may take over, however long it lasts.
const (
	modeFaults   = "faults"
	modeQuiet    = "quiet"    // nothing happens
	modeLoss     = "loss"     // 5 % of the frames of one host after the other
	modeOverload = "overload" // twice as many busy processes as processors
)

// TestSoak is a long run: random faults, alone, in a row and two at the same time, or an hour in which nobody may take over.
// Each round is judged by the checker, and at the end a table sums them up. The same seed draws the same faults, roles and
// times; what they meet differs.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv(soakVar), "0s"))
	ok(t, err)
	if length == 0 {
		t.Skipf("a random run takes as long as it is told: make soak DURATION=30m, or %s=30m", soakVar)
	}
	seed := rand.Uint64N(1_000_000)
	if given := os.Getenv(seedVar); given != "" {
		seed, err = strconv.ParseUint(given, 10, 64)
		ok(t, err)
	}
	mode := cmp.Or(os.Getenv(modeVar), modeFaults)
	draw := map[string]func(*rand.Rand) round{modeFaults: drawRound, modeQuiet: still(nil), modeLoss: still(&frameLoss), modeOverload: still(&overload)}[mode]
	if draw == nil {
		t.Fatalf("%s=%s: there is no such mode", modeVar, mode)
	}
	t.Logf("soak: %s for %s, SEED=%d", mode, length, seed)
	sum := newSummary()
	rng := rand.New(rand.NewPCG(seed, 0))
	for n, began := 1, time.Now(); time.Since(began) < length && all.Err() == nil; n++ {
		r := draw(rng)
		var s *scene
		passed := t.Run(fmt.Sprintf("%03d", n), func(t *testing.T) {
			s = begin(t)
			r.run(s)
		})
		sum.add(n, r, s, passed)
	}
	t.Logf("soak: %s, SEED=%d, load %s\n%s", mode, seed, loadAverage(), sum)
}

// round is what one set of clients goes through.
type round struct {
	strikes []strike
	calm    time.Duration // before the end, without any fault
	unmoved bool          // nobody may take over
}

// strike is one fault of a round.
type strike struct {
	fault fault
	on    role
	lasts time.Duration
	over  bool          // it lasts on while the next one strikes
	pause time.Duration // after it
}

func (r round) String() string {
	var b strings.Builder
	for i, k := range r.strikes {
		if i > 0 {
			b.WriteString(map[bool]string{false: ", then ", true: ", with "}[r.strikes[i-1].over])
		}
		fmt.Fprintf(&b, "%s of %s (%.1f s)", k.fault.name, k.on, k.lasts.Seconds())
	}
	return cmp.Or(b.String(), "nothing")
}

// still draws rounds of a minute with one lasting trouble at most, in which nobody may take over.
func still(f *fault) func(*rand.Rand) round {
	return func(rng *rand.Rand) round {
		if f == nil {
			return round{calm: time.Minute, unmoved: true}
		}
		return round{strikes: []strike{{fault: *f, on: []role{thePrimary, aStandby}[rng.IntN(2)], lasts: time.Minute}}, unmoved: true}
	}
}

// drawRound draws one to three faults.
func drawRound(rng *rand.Rand) round {
	var r round
	roles := []role{thePrimary, thePrimary, aStandby, theLeader}
	for range 1 + rng.IntN(3) {
		k := strike{
			fault: everyFault[rng.IntN(len(everyFault))], on: roles[rng.IntN(len(roles))],
			lasts: time.Duration(rng.IntN(10_000)) * time.Millisecond, over: rng.IntN(4) == 0,
			pause: time.Duration(rng.IntN(4_000)) * time.Millisecond,
		}
		r.strikes = append(r.strikes, k)
		roles = []role{thePrimary, thePrimary, aStandby, theLeader, theSame, theThird}
	}
	return r
}

// run is one round. Faults that last at the same time are on different hosts.
func (r round) run(s *scene) {
	s.t.Log(r)
	var struck *netlab.Host
	var lasting []func()
	endAll := func() {
		for _, end := range slices.Backward(lasting) {
			end()
		}
		lasting = nil
	}
	for _, k := range r.strikes {
		h := s.whose(k.on, struck)
		if len(lasting) > 0 && h == struck {
			h = s.whose(theThird, struck)
		}
		struck = h
		lasting = append(lasting, s.strike(k.fault, h))
		s.last(k.lasts)
		if k.over && len(lasting) < 2 {
			continue
		}
		endAll()
		s.last(k.pause)
	}
	endAll()
	s.last(r.calm)
	if r.unmoved {
		s.unmoved()
	} else {
		s.end()
	}
	s.forget()
}

// forget removes the rows of all clients, for a host's disk is small.
func (s *scene) forget() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	conn, err := load.Config{Dial: cluster.Lab.Dial}.Connect(ctx, cluster.FloatingDSN(site.WritePort))
	ok(s.t, err)
	defer load.CloseNow(conn)
	_, err = conn.Exec(ctx, "TRUNCATE standfast_load, standfast_register")
	ok(s.t, err)
}

// loadAverage is that of the last 1, 5 and 15 minutes (proc(5)).
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
