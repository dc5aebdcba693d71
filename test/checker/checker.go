package checker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"standfast/playground/load"
)

// Way is one way to the cluster.
type Way struct {
	Name    string
	DSN     string // a connection string of libpq's form
	Clients int    // of the kind that the way is for; 0: 1
}

// Config says how to reach the cluster and how hard to work.
type Config struct {
	Write   []Way           // lead to the primary: the floating address, every member's 5000
	Read    []Way           // where plain reads go: every member's 5001, and any of the above
	Dial    pgconn.DialFunc // how addresses are reached; nil: from this process's network
	Timeout time.Duration   // of one operation, connecting included; 0: 5 s
	Think   time.Duration   // of a writer after an acknowledged commit; 0: none
}

// pace is how long readers and register clients wait between operations: they are to see every fault, not to fill the machine.
const pace = 20 * time.Millisecond

// Run is a check under way.
type Run struct {
	Writers []*Writer // as Config.Write
	Readers []*Reader // as Config.Read

	id        int64 // in the tables
	cfg       Config
	start     time.Time
	registers *registers
	cancel    context.CancelFunc
	wait      sync.WaitGroup
}

// Writer is the workload through one way.
type Writer struct {
	*load.Run
	Name    string
	clients int
}

// Start makes the tables and sets the clients to work until Stop or until ctx ends. On an error nothing is left running.
func Start(ctx context.Context, cfg Config) (*Run, error) {
	if len(cfg.Write) == 0 {
		return nil, errors.New("start the checker: no way to write is given")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	r := &Run{id: rand.Int64(), cfg: cfg, start: time.Now()}
	ctx, r.cancel = context.WithCancel(ctx)
	if err := r.begin(ctx); err != nil {
		r.Stop()
		return nil, fmt.Errorf("start the checker: %w", err)
	}
	return r, nil
}

func (r *Run) begin(ctx context.Context) error {
	r.registers = newRegisters(r.id, r.start)
	if err := r.exec(ctx, r.cfg.Write[0], makeRegisters); err != nil {
		return fmt.Errorf("through %s: %w", r.cfg.Write[0].Name, err)
	}
	for _, w := range r.cfg.Write {
		cfg := r.load(w.DSN)
		cfg.Clients = max(1, w.Clients)
		run, err := load.Start(ctx, cfg)
		if err != nil {
			return fmt.Errorf("through %s: %w", w.Name, err)
		}
		r.Writers = append(r.Writers, &Writer{run, w.Name, cfg.Clients})
	}
	for i, w := range r.cfg.Write {
		c := &registerClient{registers: r.registers, cfg: r.load(w.DSN), number: int64(i + 1)}
		r.wait.Go(func() { c.work(ctx) })
	}
	for _, w := range r.cfg.Read {
		reader := &Reader{Name: w.Name, cfg: r.load(w.DSN), start: r.start, writers: r.Writers, seen: map[Version]Sighting{}}
		r.Readers = append(r.Readers, reader)
		for range max(1, w.Clients) {
			r.wait.Go(func() { reader.work(ctx) })
		}
	}
	return nil
}

func (r *Run) load(dsn string) load.Config {
	return load.Config{DSN: dsn, Dial: r.cfg.Dial, Timeout: r.cfg.Timeout, Think: r.cfg.Think, Epoch: r.start}
}

// Stop ends the clients and waits for them. It may be called again.
func (r *Run) Stop() {
	r.cancel()
	for _, w := range r.Writers {
		w.Stop()
	}
	r.wait.Wait()
}

// Elapsed is the time on the clock that all operations' times are read from.
func (r *Run) Elapsed() time.Duration { return time.Since(r.start) }

// Ops are all writers' attempts in the order of their ends.
func (r *Run) Ops() []load.Op { return load.Merge(r.writes()) }

// writes are the attempts by run.
func (r *Run) writes() map[int64][]load.Op {
	out := map[int64][]load.Op{}
	for _, w := range r.Writers {
		out[w.ID()] = w.Ops()
	}
	return out
}

// AwaitServed waits until ten more commits have been acknowledged through the way. The error has the way's last one.
func (w *Writer) AwaitServed(ctx context.Context) error {
	seen := len(w.Ops())
	return served(ctx, "nothing is acknowledged through "+w.Name, func() (int, string) {
		last := "no attempt has ended"
		since := w.Since(seen)
		for _, op := range slices.Backward(since) {
			if op.Err != "" {
				last = op.Err
				break
			}
		}
		return load.Count(since)[load.Acknowledged], last
	})
}

// served waits until the count, which begins at zero, is ten.
func served(ctx context.Context, complaint string, look func() (count int, last string)) error {
	for {
		count, last := look()
		if count >= 10 {
			return nil
		}
		if !rest(ctx, pace/2) {
			return fmt.Errorf("%s: %d times in %w; %s", complaint, count, context.Cause(ctx), last)
		}
	}
}

// rest waits, and says whether there is reason to go on.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
