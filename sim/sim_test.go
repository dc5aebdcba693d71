package sim

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"standfast/decide"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "replay this seed alone, with its trace (-v)")
	seedsFlag  = flag.Int("seeds", 1000, "how many seeds the ordinary run plays")
	scenesFlag = flag.Int("scenes", 12, "how many seeds of each scene are played with nothing broken")
)

var sound = Brain{Decide: decide.Decide, Route: decide.Route, Beat: decide.Beat, Unmet: decide.Unmet, Shunned: decide.Shunned}

// TestSeeds plays ordinary schedules, every fault in them, until a million decisions are made.
func TestSeeds(t *testing.T) {
	if *seedFlag != 0 {
		replay(t, *seedFlag)
		return
	}
	var mu sync.Mutex
	var total Outcome
	next := uint64(0)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				next++
				seed := next
				stop := seed > uint64(*seedsFlag) || t.Failed()
				mu.Unlock()
				if stop {
					return
				}
				o := Run(Config{Seed: seed, Plan: Ordinary(seed), Brain: sound})
				mu.Lock()
				total.Steps += o.Steps
				total.Time += o.Time
				total.Acked += o.Acked
				total.Terms += o.Terms
				total.Lost += o.Lost
				mu.Unlock()
				if o.Violation != nil {
					t.Errorf("seed %d: %v\n%s\nreplay: go test ./sim -run TestSeeds -seed %d -v", seed, o.Violation, tail(Config{Seed: seed, Plan: Ordinary(seed), Brain: sound}, 60), seed)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds, %d decisions, %v of virtual time, %d terms, %d acknowledged commits, %d given up with consent", *seedsFlag, total.Steps, total.Time, total.Terms, total.Acked, total.Lost)
}

func replay(t *testing.T, seed uint64) {
	o := Run(Config{Seed: seed, Plan: Ordinary(seed), Brain: sound, Trace: func(l string) { fmt.Println(l) }})
	if o.Violation != nil {
		t.Fatal(o.Violation)
	}
	t.Logf("%+v", o)
}

// tail replays the run for the last lines of its trace.
func tail(c Config, n int) string {
	var lines []string
	c.Trace = func(l string) { lines = append(lines, l) }
	Run(c)
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// TestReplay checks that a seed tells the same story each time, or no failure could be looked into.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= 6; seed++ {
		c := Config{Seed: seed, Plan: Ordinary(seed), Brain: sound}
		if a, b := tail(c, 1<<20), tail(c, 1<<20); a != b {
			t.Errorf("seed %d does not repeat itself", seed)
		}
	}
}
