package load

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

func acked(id int64, timeline uint32, begin, end time.Duration) Op {
	return Op{ID: id, Begin: begin, End: end, Timeline: timeline, Server: map[uint32]string{1: "pg1", 2: "pg2"}[timeline]}
}

func TestLongestGap(t *testing.T) {
	ops := []Op{
		acked(1, 1, 0, 10*ms), acked(2, 1, 10*ms, 20*ms),
		{ID: 3, Begin: 20 * ms, End: 25 * ms, Outcome: Failed, Timeline: 1}, // an error is no acknowledgement
		acked(3, 2, 90*ms, 120*ms), acked(4, 2, 120*ms, 130*ms),
	}
	if g := LongestGap(ops, 0, 140*ms); g != (Gap{20 * ms, 120 * ms}) {
		t.Errorf("gap %v", g)
	}
	if g := LongestGap(ops, 0, 400*ms); g != (Gap{130 * ms, 400 * ms}) {
		t.Errorf("an outage that never ended was overlooked: %v", g)
	}
	if g := LongestGap(ops, 115*ms, 135*ms); g.Length() != 10*ms {
		t.Errorf("outside the window: %v", g)
	}
	if g := LongestGap(nil, 0, 50*ms); g.Length() != 50*ms {
		t.Errorf("nothing acknowledged at all: %v", g)
	}
}

func TestOverlaps(t *testing.T) {
	clean := []Op{acked(1, 1, 0, 10*ms), acked(2, 2, 5*ms, 20*ms), acked(3, 1, 8*ms, 30*ms)}
	if o := Overlaps(clean); len(o) != 0 {
		t.Errorf("an answer that took long is not a second writer: %v", o)
	}
	split := append(clean, acked(4, 1, 21*ms, 40*ms), acked(5, 2, 30*ms, 50*ms))
	o := Overlaps(split)
	if len(o) != 1 || o[0].Older.ID != 4 || o[0].Newer.ID != 2 {
		t.Errorf("two writers not seen: %+v", o)
	}
	split[3].Outcome = Failed
	if o := Overlaps(split); len(o) != 0 {
		t.Errorf("an attempt that failed acknowledged nothing: %v", o)
	}
}

func TestLost(t *testing.T) {
	ops := []Op{acked(1, 1, 0, 1), acked(2, 1, 1, 2), {ID: 3, Outcome: Failed}, acked(4, 2, 3, 4)}
	if got := lost(ops, map[int64]bool{1: true, 4: true, 3: true}); !slices.Equal(got, []int64{2}) {
		t.Errorf("lost %v, want row 2 alone", got)
	}
}
