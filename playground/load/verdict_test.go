package load

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

func acked(id int64, timeline uint32, begin, end time.Duration) Op {
	return Op{ID: id, Begin: begin, End: end, Executor: Executor{Timeline: timeline, Server: map[uint32]string{1: "pg1", 2: "pg2"}[timeline]}}
}

func TestLongestGap(t *testing.T) {
	ops := []Op{
		acked(1, 1, 0, 10*ms), acked(2, 1, 10*ms, 20*ms),
		{ID: 3, Begin: 20 * ms, End: 25 * ms, Outcome: Failed, Executor: Executor{Timeline: 1}}, // an error is no acknowledgement
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

// TestOverlapsOnOneTimeline: without a store of terms two servers may take the same timeline; only their turns tell.
func TestOverlapsOnOneTimeline(t *testing.T) {
	by := func(server int64, op Op) Op {
		op.Started = time.UnixMicro(server)
		return op
	}
	restarted := []Op{by(1, acked(1, 1, 0, 10*ms)), by(2, acked(2, 1, 20*ms, 30*ms))}
	if o := Overlaps(restarted); len(o) != 0 {
		t.Errorf("a server that was started again is not a second one: %+v", o)
	}
	split := append(restarted, by(1, acked(3, 1, 31*ms, 40*ms)))
	if o := Overlaps(split); len(o) != 1 || o[0].Older.ID != 3 || o[0].Newer.ID != 2 {
		t.Errorf("two writers on one timeline not seen: %+v", o)
	}
}

func TestMissing(t *testing.T) {
	ops := []Op{acked(1, 1, 0, 1), acked(2, 1, 1, 2), {ID: 3, Outcome: Failed}, acked(4, 2, 3, 4)}
	if got := Missing(ops, map[int64]int32{1: 1, 4: 1, 3: 2}); !slices.Equal(got, []Op{ops[1]}) {
		t.Errorf("lost %v, want row 2 alone", got)
	}
}

// TestOutcomeText: a history that was written down can be read again.
func TestOutcomeText(t *testing.T) {
	for want := Acknowledged; want <= NoSession; want++ {
		text, err := want.MarshalText()
		var got Outcome
		if err != nil || got.UnmarshalText(text) != nil || got != want {
			t.Errorf("%v was read as %v", want, got)
		}
	}
	if err := new(Outcome).UnmarshalText([]byte("maybe")); err == nil {
		t.Error("no error for a word that is no outcome")
	}
}
