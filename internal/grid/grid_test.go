package grid

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestUntil: waits end on the grid, and their lengths are bounded even if the clock was set in between.
func TestUntil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.Int64Range(2, int64(time.Hour)).Draw(t, "every"))
		now := time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "now"))
		left := Until(now, every)
		if left < every/2 || left >= every+every/2 {
			t.Fatalf("a wait of %s", left)
		}
		if off := now.Add(left).UnixNano() % int64(every); off != 0 {
			t.Fatalf("ends %d ns beside the grid", off)
		}
	})
}

// TestKeepsPace: a timer that fires a little late, or early by a clock that is slewed, loses no beat and adds none.
func TestKeepsPace(t *testing.T) {
	const every = 100 * time.Millisecond
	for _, off := range []time.Duration{-time.Millisecond, 0, time.Microsecond, 20 * time.Millisecond} {
		start := time.Unix(1700000000, 0)
		now := start
		for range 10 {
			now = now.Add(Until(now, every)).Add(off)
		}
		if got := now.Sub(start).Round(every); got != 10*every {
			t.Errorf("%s beside the grid each time: 10 beats in %s", off, got)
		}
	}
}
