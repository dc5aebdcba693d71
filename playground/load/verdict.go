package load

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Gap is a time in which no commit was acknowledged to any client.
type Gap struct {
	From, To time.Duration // the acknowledgements on either side
}

// Length is how long writes were out as far as clients could see.
func (g Gap) Length() time.Duration { return g.To - g.From }

// LongestGap finds the longest time without an acknowledgement between from and to. A run that ends in silence has its
// last gap reach to the end: an outage that never ended must not be overlooked.
func LongestGap(ops []Op, from, to time.Duration) Gap {
	longest, last := Gap{from, from}, from
	consider := func(at time.Duration) {
		if at-last > longest.Length() {
			longest = Gap{last, at}
		}
		last = at
	}
	for _, op := range ops {
		if op.Outcome == Acknowledged && op.End >= from && op.End <= to {
			consider(op.End)
		}
	}
	consider(to)
	return longest
}

// Overlap is a proof that two servers acknowledged at the same time: an attempt at Older began after Newer had been acknowledged,
// and was acknowledged nevertheless. Either Newer is on a newer timeline, which Older's server should have made way for; or both
// are on one timeline and Older's server had acknowledged before Newer too, so that Newer's was not its successor.
type Overlap struct{ Older, Newer Op }

// Overlaps lists such proofs, at most one for each pair of reigns: the time of one server on one timeline. Begin is compared with
// End, so that an answer that merely took long to reach its client is not taken for one. Ops are in the order of their ends.
func Overlaps(ops []Op) []Overlap {
	type span struct{ first, last Op } // the first acknowledged, the last to begin of those acknowledged
	reigns := map[reign]*span{}
	for _, op := range ops {
		if op.Outcome != Acknowledged {
			continue
		}
		s := reigns[op.reign()]
		if s == nil {
			s = &span{op, op}
			reigns[op.reign()] = s
		}
		if op.Begin > s.last.Begin {
			s.last = op
		}
	}
	var out []Overlap
	for a, older := range reigns {
		for b, newer := range reigns {
			switch {
			case a.timeline < b.timeline && older.last.Begin > newer.first.End:
				out = append(out, Overlap{older.last, newer.first})
			case a.timeline == b.timeline && a != b:
				if op, ok := between(ops, b, older.first.End, older.last.Begin); ok {
					out = append(out, Overlap{older.last, op})
				}
			}
		}
	}
	slices.SortFunc(out, func(x, y Overlap) int { return cmp.Compare(x.Newer.End, y.Newer.End) })
	return out
}

// between finds an acknowledgement of the reign whose whole attempt lies between the two moments.
func between(ops []Op, r reign, after, before time.Duration) (Op, bool) {
	i := slices.IndexFunc(ops, func(op Op) bool {
		return op.Outcome == Acknowledged && op.reign() == r && op.Begin > after && op.End < before
	})
	if i < 0 {
		return Op{}, false
	}
	return ops[i], true
}

// Count is how many attempts ended each way.
func Count(ops []Op) map[Outcome]int {
	n := map[Outcome]int{}
	for _, op := range ops {
		n[op.Outcome]++
	}
	return n
}

// Lost reads back every row of the run and returns the acknowledged ones that are not there. dsn should lead to the
// primary; "" is the run's own.
func (r *Run) Lost(ctx context.Context, dsn string) ([]int64, error) {
	if dsn == "" {
		dsn = r.cfg.DSN
	}
	found, err := r.ReadBack(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("read back what was acknowledged: %w", err)
	}
	var out []int64
	for _, op := range Missing(r.Ops(), found) {
		out = append(out, op.ID)
	}
	return out, nil
}

// Missing lists the attempts at one run's rows that were acknowledged and whose rows are not among those found.
func Missing(ops []Op, found map[int64]int32) []Op {
	var out []Op
	for _, op := range ops {
		if _, ok := found[op.ID]; op.Outcome == Acknowledged && !ok {
			out = append(out, op)
		}
	}
	return out
}

// Merge puts the attempts of several runs that share an Epoch into one list, in the order of their ends.
func Merge(runs map[int64][]Op) []Op {
	out := slices.Concat(slices.Collect(maps.Values(runs))...)
	slices.SortStableFunc(out, func(a, b Op) int { return cmp.Compare(a.End, b.End) })
	return out
}

// ReadBack returns the rows of the run that a server has, and of each the attempt that wrote it.
func (r *Run) ReadBack(ctx context.Context, dsn string) (map[int64]int32, error) {
	conn, err := r.cfg.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer CloseNow(conn)
	rows, err := conn.Query(ctx, `SELECT id, attempt FROM standfast_load WHERE run = $1`, r.id)
	if err != nil {
		return nil, err
	}
	found := map[int64]int32{}
	var id int64
	var attempt int32
	_, err = pgx.ForEachRow(rows, []any{&id, &attempt}, func() error { found[id] = attempt; return nil })
	return found, err
}
