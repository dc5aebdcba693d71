package checker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/playground/load"
)

// Kind is what was asked of a register.
type Kind string

// The kinds of operations. Each of them commits, whatever it finds.
const (
	ReadIt     Kind = "read"
	SetIt      Kind = "set"
	CompareSet Kind = "compare and set"
)

// RegisterOp is one operation on a register. A register holds 0 at first.
type RegisterOp struct {
	Key             int64
	Kind            Kind
	Value, Expected int64 // to be set; if this is what it holds
	Begin, End      time.Duration
	Unknown         bool  // no answer came: it may have taken place, or may yet
	Found           int64 // what the register holds after it
	load.Executor
}

// Bounds of one register's history, see the package comment.
const (
	slots       = 3 // registers in use at a time
	mostOps     = 100
	mostUnknown = 4
)

const makeRegisters = `CREATE TABLE IF NOT EXISTS standfast_register (run bigint, key bigint, v bigint NOT NULL, PRIMARY KEY (run, key))`

// Every statement inserts the register or updates it, even if by its own value, so that there is something to commit. Its
// arguments are the run, the key, the value and what is expected, as many of them as it takes.
var statements = map[Kind]struct {
	sql  string
	args int
}{
	ReadIt:     {upsert(`0`, `r.v`), 2},
	SetIt:      {upsert(`$3::bigint`, `$3::bigint`), 3},
	CompareSet: {upsert(`CASE WHEN $4::bigint = 0 THEN $3::bigint ELSE 0 END`, `CASE WHEN r.v = $4::bigint THEN $3::bigint ELSE r.v END`), 4},
}

func upsert(fresh, then string) string {
	return fmt.Sprintf(`INSERT INTO standfast_register AS r (run, key, v) VALUES ($1, $2, %s) ON CONFLICT (run, key) DO UPDATE SET v = %s RETURNING r.v, %s`, fresh, then, load.Who)
}

// registers are the ones in use, and the history of all.
type registers struct {
	run   int64
	start time.Time

	mu   sync.Mutex
	use  [slots]slot
	next int64 // key
	ops  []RegisterOp
}

// slot is a place for registers that follow one another.
type slot struct {
	key          int64
	ops, unknown int // on this key
}

func newRegisters(run int64, start time.Time) *registers {
	r := &registers{run: run, start: start}
	for i := range r.use {
		r.renew(i)
	}
	return r
}

func (r *registers) renew(i int) {
	r.next++
	r.use[i] = slot{key: r.next}
}

// pick chooses a register to work on.
func (r *registers) pick() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := rand.IntN(slots)
	if r.use[i].ops >= mostOps || r.use[i].unknown >= mostUnknown {
		r.renew(i)
	}
	return r.use[i].key
}

func (r *registers) record(op RegisterOp) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	for i := range r.use {
		if u := &r.use[i]; u.key == op.Key {
			u.ops++
			if op.Unknown {
				u.unknown++
			}
		}
	}
}

func (r *registers) history() []RegisterOp {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]RegisterOp(nil), r.ops...)
}

// registerClient works on registers, one operation at a time.
type registerClient struct {
	registers *registers
	cfg       load.Config
	number    int64
	conn      *pgx.Conn
	written   int64
	last      map[int64]int64 // what it knows each register to have held, to have something to compare with
}

func (c *registerClient) work(ctx context.Context) {
	c.last = map[int64]int64{}
	for {
		c.operate(ctx)
		if !rest(ctx, pace) {
			break
		}
	}
	if c.conn != nil {
		load.CloseNow(c.conn)
	}
}

func (c *registerClient) operate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if c.conn == nil {
		conn, err := c.cfg.Connect(ctx, c.cfg.DSN)
		if err != nil {
			return // nothing was sent
		}
		c.conn = conn
	}
	op := c.choose()
	op.Begin = time.Since(c.registers.start)
	statement := statements[op.Kind]
	args := []any{c.registers.run, op.Key, op.Value, op.Expected}[:statement.args]
	err := c.conn.QueryRow(ctx, statement.sql, args...).Scan(append([]any{&op.Found}, op.Fields()...)...)
	op.End = time.Since(c.registers.start)
	if err != nil {
		load.CloseNow(c.conn)
		c.conn, op.Unknown, op.Found = nil, true, 0
	} else {
		c.last[op.Key] = op.Found
	}
	if op.Unknown && op.Kind == ReadIt {
		return // it has changed nothing and said nothing
	}
	c.registers.record(op)
}

// choose draws the next operation. No value is written twice, so that a value found tells which operation wrote it.
func (c *registerClient) choose() RegisterOp {
	op := RegisterOp{Key: c.registers.pick(), Kind: ReadIt}
	switch rand.IntN(4) {
	case 0:
		op.Kind = SetIt
	case 1:
		op.Kind, op.Expected = CompareSet, c.last[op.Key]
	default:
		return op
	}
	c.written++
	op.Value = c.number<<40 | c.written
	return op
}
