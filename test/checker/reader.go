package checker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/playground/load"
)

// Version is one attempt's row: another attempt at the same row that writes it after the first was lost is another version.
type Version struct {
	Run, ID int64
	Attempt int32
}

// Sighting is the first time that a version was seen by plain reads.
type Sighting struct {
	At        time.Duration // when the read ended
	By        load.Executor
	OnPrimary bool // seen, at any time, on a server that was not in recovery
}

// Read is one plain read.
type Read struct {
	Way        string
	Begin, End time.Duration
	Outcome    load.Outcome // Failed: an error, and a read has no effect that could be unknown
	load.Executor
	Rows int
	Err  string
}

// Reader is the readers through one way.
type Reader struct {
	Name    string
	cfg     load.Config
	start   time.Time
	writers []*Writer

	mu    sync.Mutex
	reads []Read
	seen  map[Version]Sighting
}

// newest is the newest rows of one client, and who showed them; a single row in any case.
const newest = `SELECT ` + load.Who + `, array_agg(id), array_agg(attempt)
	FROM (SELECT id, attempt FROM standfast_load WHERE run = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT 20) rows`

// work reads until ctx ends, in a new session after each error.
func (r *Reader) work(ctx context.Context) {
	var conn *pgx.Conn
	for {
		op := Read{Way: r.Name, Begin: time.Since(r.start)}
		conn = r.once(ctx, conn, &op)
		if !rest(ctx, pace) {
			break
		}
	}
	if conn != nil {
		load.CloseNow(conn)
	}
}

// once reads once and returns the session to go on with, nil if it has ended.
func (r *Reader) once(ctx context.Context, conn *pgx.Conn, op *Read) *pgx.Conn {
	one, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	var err error
	if conn == nil {
		if conn, err = r.cfg.Connect(one, r.cfg.DSN); err != nil {
			op.Outcome, op.Err = noSession(err), err.Error()
			r.record(ctx, *op, 0, nil, nil)
			return nil
		}
	}
	w := r.writers[rand.IntN(len(r.writers))]
	client := rand.IntN(w.clients)
	var ids []int64
	var attempts []int32
	err = conn.QueryRow(one, newest, w.ID(), load.RowID(client, 0), load.RowID(client+1, 0)).Scan(append(op.Fields(), &ids, &attempts)...)
	if err != nil {
		load.CloseNow(conn)
		conn, op.Outcome, op.Err = nil, load.Failed, err.Error()
	}
	op.Rows = len(ids)
	r.record(ctx, *op, w.ID(), ids, attempts)
	return conn
}

func noSession(err error) load.Outcome {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return load.Refused
	}
	return load.NoSession
}

func (r *Reader) record(ctx context.Context, op Read, run int64, ids []int64, attempts []int32) {
	if op.Err != "" && ctx.Err() != nil {
		return // cut short by Stop
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	op.End = time.Since(r.start)
	r.reads = append(r.reads, op)
	for i, id := range ids {
		v := Version{run, id, attempts[i]}
		s, old := r.seen[v]
		primary := op.Timeline != 0
		if !old || primary && !s.OnPrimary {
			r.seen[v] = Sighting{op.End, op.Executor, primary}
		}
	}
}

// history returns what was done and seen so far.
func (r *Reader) history() ([]Read, map[Version]Sighting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[Version]Sighting, len(r.seen))
	for v, s := range r.seen {
		seen[v] = s
	}
	return append([]Read(nil), r.reads...), seen
}

// AwaitServed waits until ten more reads have been answered through the way. The error has the way's last one.
func (r *Reader) AwaitServed(ctx context.Context) error {
	r.mu.Lock()
	seen := len(r.reads)
	r.mu.Unlock()
	return served(ctx, "nothing is read through "+r.Name, func() (count int, last string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		last = "no read has ended"
		for _, op := range r.reads[seen:] {
			if op.Outcome == load.Acknowledged {
				count++
			} else {
				last = op.Err
			}
		}
		return count, last
	})
}
