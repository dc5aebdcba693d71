package checker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/playground/load"
)

const ms = time.Millisecond

// by is a server that began its life at a time of its own.
func by(server string, started int64, timeline uint32) load.Executor {
	return load.Executor{Server: server, Started: time.UnixMicro(started), Timeline: timeline}
}

var (
	pg1 = by("pg1", 1, 1)
	pg2 = by("pg2", 2, 2)
)

func write(id int64, attempt int32, begin, end time.Duration, outcome load.Outcome, e load.Executor) load.Op {
	return load.Op{ID: id, Attempt: attempt, Begin: begin, End: end, Outcome: outcome, Executor: e}
}

// good is a history with a failover from pg1 to pg2 that breaks nothing: row 2 was retried, row 4 was shown and never acknowledged.
func good() (*History, []Final) {
	set := RegisterOp{Key: 1, Kind: SetIt, Value: 7, Begin: 0, End: 10 * ms, Found: 7}
	h := &History{
		Writes: map[int64][]load.Op{
			10: {write(1, 1, 0, 10*ms, load.Acknowledged, pg1), write(2, 1, 10*ms, 50*ms, load.Failed, pg1), write(2, 2, 50*ms, 60*ms, load.Acknowledged, pg2)},
			20: {write(1, 1, 5*ms, 55*ms, load.Acknowledged, pg1), write(4, 1, 56*ms, 57*ms, load.Failed, pg1), write(4, 2, 58*ms, 59*ms, load.Refused, load.Executor{})},
		},
		Seen:      map[Version]Sighting{{10, 1, 1}: {20 * ms, by("pg3", 3, 0), false}, {20, 4, 1}: {60 * ms, pg2, true}},
		Reads:     []Read{{End: 20 * ms, Rows: 1}, {End: 30 * ms, Outcome: load.NoSession, Err: "no"}},
		Registers: []RegisterOp{set, {Key: 1, Kind: ReadIt, Begin: 20 * ms, End: 30 * ms, Found: 7}},
	}
	rows := func() map[int64]map[int64]int32 { return map[int64]map[int64]int32{10: {1: 1, 2: 2}, 20: {1: 1, 4: 1}} }
	return h, []Final{{"pg2", pg2, rows()}, {"pg1", by("pg1", 4, 0), rows()}}
}

func TestNothingBroken(t *testing.T) {
	v := func() *Verdict { h, f := good(); return h.Judge(f, time.Second) }()
	if !v.Whole || v.Complaints() != nil || v.VisibleThenLost.OnPrimary+v.VisibleThenLost.OnStandby != 0 {
		t.Errorf("a good history is blamed: %+v", v)
	}
	if v.Acknowledged != 3 || v.Unknown != 2 || v.Refused != 1 || v.Reads != 1 || v.ReadErrors != 1 {
		t.Errorf("counted wrongly: %s", v)
	}
	if s := v.String(); !strings.Contains(s, "every acknowledged commit is there") || strings.Contains(s, "BROKEN") {
		t.Errorf("in words: %s", s)
	}
}

// TestBroken plants one fault in the good history and expects the verdict to name it, and nothing else.
func TestBroken(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(h *History, f []Final)
		want  string
	}{
		"a commit lost everywhere but on a standby": {func(h *History, f []Final) { delete(f[0].Rows[10], 1) }, "1 acknowledged commits are not on pg2"},
		"a commit that a standby lacks":             {func(h *History, f []Final) { delete(f[1].Rows[20], 1) }, "1 acknowledged commits are not on pg1"},
		"a run of which nothing is left":            {func(h *History, f []Final) { delete(f[0].Rows, 10) }, "2 acknowledged commits are not on pg2"},
		"the old primary acknowledges after the new one": {func(h *History, f []Final) {
			h.Writes[20] = append(h.Writes[20], write(4, 3, 61*ms, 70*ms, load.Acknowledged, pg1))
		}, "two servers acknowledged at the same time: pg1"},
		"two primaries on one timeline take turns": {func(h *History, f []Final) {
			twin := by("pg3", 3, 2)
			h.Writes[20] = append(h.Writes[20], write(4, 3, 61*ms, 62*ms, load.Acknowledged, twin), write(4, 4, 63*ms, 64*ms, load.Acknowledged, pg2))
		}, "two servers acknowledged at the same time: pg2"},
		"a stale read of a register": {func(h *History, f []Final) { h.Registers[1].Found = 0 }, "the operations on 1 of 1 registers are not what one server"},
		"a register that forgets": {func(h *History, f []Final) {
			h.Registers = append(h.Registers, RegisterOp{Key: 1, Kind: SetIt, Value: 8, Begin: 40 * ms, End: 50 * ms, Found: 8}, RegisterOp{Key: 1, Kind: ReadIt, Begin: 60 * ms, End: 70 * ms, Found: 7})
		}, "the operations on 1 of 1 registers are not"},
		"two winners of one compare-and-set": {func(h *History, f []Final) {
			cas := RegisterOp{Key: 2, Kind: CompareSet, Value: 1, Begin: 0, End: 10 * ms, Found: 1}
			other := cas
			other.Value, other.Found = 2, 2
			h.Registers = append(h.Registers, cas, other)
		}, "the operations on 1 of 2 registers are not"},
	} {
		t.Run(name, func(t *testing.T) {
			h, f := good()
			c.plant(h, f)
			v := h.Judge(f, 10*time.Second)
			got := v.Complaints()
			if v.Whole || len(got) != 1 || !strings.HasPrefix(got[0], c.want) || !strings.Contains(v.String(), "BROKEN: "+c.want) {
				t.Errorf("whole: %v, complaints %q, want one that begins with %q", v.Whole, got, c.want)
			}
		})
	}
}

// TestVisibleThenLost: counted, and told apart by where it was seen; nobody had been told that it was committed.
func TestVisibleThenLost(t *testing.T) {
	h, f := good()
	h.Seen[Version{20, 5, 1}] = Sighting{70 * ms, by("pg3", 3, 0), false}
	h.Seen[Version{10, 2, 1}] = Sighting{40 * ms, pg1, true} // the row is there, from the second attempt: the first was lost
	v := h.Judge(f, time.Second)
	if got := v.VisibleThenLost; got.OnPrimary != 1 || got.OnStandby != 1 || !slices.Equal(got.First, []Version{{10, 2, 1}, {20, 5, 1}}) {
		t.Errorf("counted %+v", got)
	}
	if !v.Whole {
		t.Errorf("nothing acknowledged is lost: %q", v.Complaints())
	}
}

// TestUnknownRegisterWrites: a write without an answer may take place late, or never, but not come and go.
func TestUnknownRegisterWrites(t *testing.T) {
	maybe := RegisterOp{Key: 1, Kind: SetIt, Value: 7, Begin: 0, End: 10 * ms, Unknown: true}
	read := func(at time.Duration, found int64) RegisterOp {
		return RegisterOp{Key: 1, Kind: ReadIt, Begin: at, End: at + 5*ms, Found: found}
	}
	if r := linearizable([]RegisterOp{maybe, read(20*ms, 0), read(30*ms, 7)}, time.Second); r.Broken != nil {
		t.Errorf("a write may take place after its client has given up: %+v", r)
	}
	if r := linearizable([]RegisterOp{maybe, read(20*ms, 7), read(30*ms, 0)}, time.Second); len(r.Broken) != 1 {
		t.Errorf("a value that comes and goes was not found: %+v", r)
	}
}

// TestUndecidedIsNotWhole gives porcupine no time for a history in which hundreds of orders are possible.
func TestUndecidedIsNotWhole(t *testing.T) {
	h, f := good()
	for i := range int64(24) {
		h.Registers = append(h.Registers, RegisterOp{Key: 2, Kind: SetIt, Value: i + 1, Unknown: true})
	}
	h.Registers = append(h.Registers, RegisterOp{Key: 2, Kind: ReadIt, Begin: 1, End: 2, Found: 99})
	v := h.Judge(f, 20*ms)
	if v.Whole || !slices.Equal(v.Registers.Undecided, []int64{2}) {
		t.Errorf("whole: %v, registers %+v", v.Whole, v.Registers)
	}
}

// TestRegistersAreGivenUp: a history ends before its decision could take too long.
func TestRegistersAreGivenUp(t *testing.T) {
	r := newRegisters(1, time.Now())
	first := r.use
	for _, u := range first {
		for range mostUnknown {
			r.record(RegisterOp{Key: u.key, Kind: SetIt, Unknown: true})
		}
	}
	for range 100 {
		if key := r.pick(); slices.ContainsFunc(first[:], func(u slot) bool { return u.key == key }) {
			t.Fatalf("register %d is used after %d operations of unknown outcome", key, mostUnknown)
		}
	}
}
