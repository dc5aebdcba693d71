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
	"slices"
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
	Every   time.Duration   // in place of Clients: so often a new session begins, commits one row, and ends; 0: see Clients
	Timeout time.Duration   // of one attempt, to connect or to commit; 0: 15 s
	Pause   time.Duration   // after a failed attempt; 0: 5 ms
	Think   time.Duration   // after an acknowledged one, for a load that is not to fill the machine; 0: none
	Epoch   time.Time       // what the times of Op count from, so that several runs can share one clock; zero: Start
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

var outcomes = [...]string{"acknowledged", "failed", "refused", "no session"}

func (o Outcome) String() string { return outcomes[o] }

// MarshalText is for histories that people read.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (o *Outcome) UnmarshalText(text []byte) error {
	i := slices.Index(outcomes[:], string(text))
	if i < 0 {
		return fmt.Errorf("read an outcome: there is no %q", text)
	}
	*o = Outcome(i)
	return nil
}

// Op is one attempt. Times are since Config.Epoch, by the monotonic clock.
type Op struct {
	ID         int64 // of the row; the same for all attempts at it
	Attempt    int32 // at the row, from 1: what is in the row says which of them wrote it
	Client     int
	Begin, End time.Duration
	Outcome    Outcome
	Executor          // of an acknowledged attempt: in its very transaction; else as the session began; empty without a session
	Err        string // "" if acknowledged
}

// Run is a workload under way.
type Run struct {
	cfg   Config
	id    int64     // tells this run's rows from another's
	start time.Time // Config.Epoch
	stop  context.CancelFunc
	wait  sync.WaitGroup

	mu  sync.Mutex
	ops []Op
}

const makeTable = `CREATE TABLE IF NOT EXISTS standfast_load (run bigint, id bigint, attempt int, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (run, id))`

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
	if cfg.Epoch.IsZero() {
		cfg.Epoch = time.Now()
	}
	ctx, stop := context.WithCancel(ctx)
	r := &Run{cfg: cfg, id: rand.Int64(), start: cfg.Epoch, stop: stop}
	if cfg.Every > 0 {
		r.wait.Go(func() { r.arrive(ctx) })
		return r, nil
	}
	for c := range cfg.Clients {
		r.wait.Go(func() { (&client{run: r, number: c}).work(ctx) })
	}
	return r, nil
}

func prepare(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	conn, err := cfg.Connect(ctx, cfg.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, makeTable)
	return err
}

// Connect opens a session by a connection string, dialling as the run does.
func (c Config) Connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if c.Dial != nil {
		cfg.DialFunc = c.Dial
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// ID is what the run's rows carry in their column run.
func (r *Run) ID() int64 { return r.id }

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

// arrive begins sessions whether or not those before have come to an end, as users come to a site. Each makes one attempt: it is not
// its business to come again.
func (r *Run) arrive(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for seq := int64(1); ; seq++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.wait.Go(func() {
			c := &client{run: r}
			defer c.close()
			op := Op{ID: RowID(0, seq), Attempt: 1, Begin: r.Elapsed()}
			c.attempt(ctx, &op)
			if ctx.Err() == nil {
				r.record(op)
			}
		})
	}
}

// client is one session that is opened again whenever it breaks.
type client struct {
	run    *Run
	number int
	conn   *pgx.Conn
	with   Executor
}

// work commits row after row. A row whose commit failed is tried again under the same key, as an application must: the
// first attempt may have committed, and then the second changes nothing.
func (c *client) work(ctx context.Context) {
	defer c.close()
	attempt := int32(1)
	for seq := int64(1); ; {
		op := Op{ID: RowID(c.number, seq), Attempt: attempt, Client: c.number, Begin: c.run.Elapsed()}
		c.attempt(ctx, &op)
		if ctx.Err() != nil {
			return // an attempt that was cut short by Stop says nothing about the cluster
		}
		c.run.record(op)
		rest := c.run.cfg.Think
		if op.Outcome == Acknowledged {
			seq, attempt = seq+1, 1
		} else {
			attempt++
			c.close()
			rest = c.run.cfg.Pause
		}
		if rest == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
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
	op.Executor = c.with
	if err := c.conn.QueryRow(ctx, insert, c.run.id, op.ID, op.Attempt).Scan(op.Fields()...); err != nil {
		op.Outcome, op.Err, op.Executor = Failed, err.Error(), c.with
	}
}

// open connects and asks with whom. A server in recovery has no position to write at, and refuses to tell it.
func (c *client) open(ctx context.Context) error {
	conn, err := c.run.cfg.Connect(ctx, c.run.cfg.DSN)
	if err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, "SELECT "+whoWrites).Scan(c.with.Fields()...); err != nil {
		CloseNow(conn)
		return err
	}
	c.conn = conn
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		CloseNow(c.conn)
		c.conn = nil
	}
}

// CloseNow does not wait for a server that may be frozen.
func CloseNow(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // whatever it says, the session is over
}
