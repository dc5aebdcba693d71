// Package load writes to a cluster as an application does, through one address and with retries, and keeps a record of
// every attempt, so that afterwards it can be said for how long writes were out, whether an acknowledged commit was lost,
// and whether two servers acknowledged at the same time. The demo, the benchmarks and the system tests all measure
// with it.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Config says whom to write to and how hard.
type Config struct {
	DSN     string          // a connection string of libpq's form, naming the floating address
	Dial    pgconn.DialFunc // how the address is reached; nil: from this process's network
	Clients int             // each commits one row at a time; 0: 4
	Timeout time.Duration   // of one attempt, to connect or to commit; 0: 15 s
	Pause   time.Duration   // after a failed attempt; 0: 5 ms
}

// Outcome is what a client knows of an attempt to commit one row.
type Outcome int

// An attempt that did not succeed may have committed all the same: the answer can get lost.
const (
	Acknowledged Outcome = iota // the server said COMMIT
	Failed                      // an error after the statement was sent, so it may have committed
	Refused                     // no session: the address refused the connection
	NoSession                   // no session for another reason: an error from the server, a reset, a timeout
)

// Op is one attempt. Times are since Run's start, by the monotonic clock.
type Op struct {
	ID         int64 // of the row; the same for all attempts at it
	Client     int
	Begin, End time.Duration
	Outcome    Outcome
	Server     string // member that the session was with, as its cluster_name says
	Timeline   uint32 // that it was on; unique to one reign
	Err        string // "" if acknowledged
}

// Run is a workload under way.
type Run struct {
	cfg   Config
	id    int64 // tells this run's rows from another's
	start time.Time
	stop  context.CancelFunc
	wait  sync.WaitGroup

	mu  sync.Mutex
	ops []Op
}

const makeTable = `CREATE TABLE IF NOT EXISTS standfast_load (run bigint, id bigint, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (run, id))`

// Start makes the table and sets the clients to work until Stop or until ctx ends.
func Start(ctx context.Context, cfg Config) (*Run, error) {
	if cfg.Clients == 0 {
		cfg.Clients = 4
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Pause == 0 {
		cfg.Pause = 5 * time.Millisecond
	}
	if err := prepare(ctx, cfg); err != nil {
		return nil, fmt.Errorf("start the workload: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	r := &Run{cfg: cfg, id: rand.Int64(), start: time.Now(), stop: stop}
	for c := range cfg.Clients {
		r.wait.Go(func() { (&client{run: r, number: c}).work(ctx) })
	}
	return r, nil
}

func prepare(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	conn, err := cfg.connect(ctx, cfg.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, makeTable)
	return err
}

func (c Config) connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if c.Dial != nil {
		cfg.DialFunc = c.Dial
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// Stop ends the clients and returns every attempt in the order of their ends.
func (r *Run) Stop() []Op {
	r.stop()
	r.wait.Wait()
	return r.Ops()
}

// Ops returns a copy of the attempts so far, in the order of their ends.
func (r *Run) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Op(nil), r.ops...)
}

// Since returns the attempts after the first n.
func (r *Run) Since(n int) []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Op(nil), r.ops[min(n, len(r.ops)):]...)
}

// Elapsed is the time on the clock that Op's times are read from.
func (r *Run) Elapsed() time.Duration { return time.Since(r.start) }

func (r *Run) record(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.End = time.Since(r.start) // under the lock, so that the order of the list is the order of the ends
	r.ops = append(r.ops, op)
}

// client is one session that is opened again whenever it breaks.
type client struct {
	run      *Run
	number   int
	conn     *pgx.Conn
	server   string
	timeline uint32
}

// work commits row after row. A row whose commit failed is tried again under the same key, as an application must: the
// first attempt may have committed, and then the second changes nothing.
func (c *client) work(ctx context.Context) {
	defer c.close()
	for seq := int64(1); ; {
		op := Op{ID: int64(c.number)<<40 | seq, Client: c.number, Begin: c.run.Elapsed()}
		c.attempt(ctx, &op)
		if ctx.Err() != nil {
			return // an attempt that was cut short by Stop says nothing about the cluster
		}
		c.run.record(op)
		if op.Outcome == Acknowledged {
			seq++
			continue
		}
		c.close()
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.run.cfg.Pause):
		}
	}
}

func (c *client) attempt(ctx context.Context, op *Op) {
	ctx, cancel := context.WithTimeout(ctx, c.run.cfg.Timeout)
	defer cancel()
	if c.conn == nil {
		if err := c.open(ctx); err != nil {
			op.Outcome, op.Err = NoSession, err.Error()
			if errors.Is(err, syscall.ECONNREFUSED) {
				op.Outcome = Refused
			}
			return
		}
	}
	op.Server, op.Timeline = c.server, c.timeline
	if _, err := c.conn.Exec(ctx, `INSERT INTO standfast_load (run, id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, c.run.id, op.ID); err != nil {
		op.Outcome, op.Err = Failed, err.Error()
	}
}

// open connects and asks once with whom: a session stays with its server, and a server with its timeline.
func (c *client) open(ctx context.Context) error {
	conn, err := c.run.cfg.connect(ctx, c.run.cfg.DSN)
	if err != nil {
		return err
	}
	var hex string
	err = conn.QueryRow(ctx, `SELECT current_setting('cluster_name'), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`).Scan(&c.server, &hex)
	if err == nil {
		_, err = fmt.Sscanf(hex, "%08X", &c.timeline)
	}
	if err != nil {
		closeNow(conn)
		return err
	}
	c.conn = conn
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		closeNow(c.conn)
		c.conn = nil
	}
}

// closeNow does not wait for a server that may be frozen.
func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // whatever it says, the session is over
}
