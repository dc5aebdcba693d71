package load

import (
	"context"
	"fmt"
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

// Overlap is a proof that two servers acknowledged at the same time: an attempt on the older timeline began after the
// newer one had acknowledged, and was acknowledged nevertheless.
type Overlap struct{ Older, Newer Op }

// Overlaps lists such proofs, one for each newer timeline. Begin is compared with End, so that an answer that merely took
// long to reach its client is not taken for one.
func Overlaps(ops []Op) []Overlap {
	first := map[uint32]Op{}
	for _, op := range ops {
		if _, ok := first[op.Timeline]; op.Outcome == Acknowledged && !ok {
			first[op.Timeline] = op // ops are in the order of their ends
		}
	}
	var out []Overlap
	for timeline, newer := range first {
		for _, op := range ops {
			if op.Outcome == Acknowledged && op.Timeline < timeline && op.Begin > newer.End {
				out = append(out, Overlap{op, newer})
				break
			}
		}
	}
	return out
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
	found, err := r.readBack(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("read back what was acknowledged: %w", err)
	}
	return lost(r.Ops(), found), nil
}

func lost(ops []Op, found map[int64]bool) []int64 {
	var out []int64
	for _, op := range ops {
		if op.Outcome == Acknowledged && !found[op.ID] {
			out = append(out, op.ID)
		}
	}
	return out
}

func (r *Run) readBack(ctx context.Context, dsn string) (map[int64]bool, error) {
	conn, err := r.cfg.connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer closeNow(conn)
	rows, err := conn.Query(ctx, `SELECT id FROM standfast_load WHERE run = $1`, r.id)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	found := make(map[int64]bool, len(ids))
	for _, id := range ids {
		found[id] = true
	}
	return found, err
}
