//go:build e2e

package system

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
)

// TestLinearizable: across failovers, one register behaves as if there were one server only. Each operation commits, the reads
// too (an UPDATE that changes nothing), for a commit is what the promise is about: a plain SELECT on a primary that has just
// been replaced may be as old as the lease.
func TestLinearizable(t *testing.T) {
	r, primary, term := whole(t)
	s := &scene{t: t, r: r, primary: primary, term: term}
	s.run(r.WriteDSN(), "DROP TABLE IF EXISTS register", "CREATE TABLE register (v bigint NOT NULL)", "INSERT INTO register VALUES (0)")
	reg := &register{began: time.Now()}
	ctx, stop := context.WithCancel(all)
	defer stop()
	ways := []string{r.WriteDSN(), r.WriteDSN()}
	for _, n := range r.Nodes {
		ways = append(ways, r.WriteThrough(n))
	}
	for i, dsn := range ways {
		reg.clients.Go(func() { reg.client(ctx, i, dsn) })
	}
	reg.flow(t, 20)
	must(t, primary.KillPostmaster())
	must(t, r.AwaitReign(all, term, takeover))
	reg.flow(t, 20)
	second, term, err := r.AwaitWhole(all, healTime)
	must(t, err)
	second.Freeze()
	must(t, r.AwaitReign(all, term, takeover))
	reg.flow(t, 20)
	second.Thaw()
	_, _, err = r.AwaitWhole(all, healTime)
	must(t, err)
	reg.flow(t, 20)
	stop()
	reg.clients.Wait()
	reg.check(t)
}

// register is the history of operations on the one row.
type register struct {
	began   time.Time
	clients sync.WaitGroup
	mu      sync.Mutex
	ops     []porcupine.Operation
	known   int // operations whose outcome is known
}

// kind of an operation on the register, with what it was given.
type request struct {
	write    bool
	value    int64
	expected int64 // of a compare-and-set; -1: set whatever is there
}

// answer is what a read saw, or whether a compare-and-set took place.
type answer struct {
	value   int64
	done    bool
	unknown bool // no answer came: it may or may not have taken place
}

// client works one operation after another. After an unknown outcome it goes on under a new number, for what it asked may
// still take place.
func (reg *register) client(ctx context.Context, number int, dsn string) {
	var conn *pgx.Conn
	id, next := number, int64(number)<<32
	for ctx.Err() == nil {
		if conn == nil {
			conn = dial(ctx, dsn)
			if conn == nil {
				pause(ctx)
				continue
			}
		}
		next++
		q := request{write: rand.IntN(2) == 0, value: next, expected: -1}
		if q.write && rand.IntN(2) == 0 {
			q.expected = next - 1
		}
		a, sent := reg.do(ctx, conn, id, q)
		if a.unknown {
			forget(conn)
			conn = nil
			if sent {
				id += 1000
			}
		}
	}
	if conn != nil {
		forget(conn)
	}
}

func dial(ctx context.Context, dsn string) *pgx.Conn {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil
	}
	return conn
}

func forget(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // its server may be frozen
}

// do carries out one operation and records it. A read without an answer says nothing; a write without one may take effect at
// any later time.
func (reg *register) do(ctx context.Context, conn *pgx.Conn, id int, q request) (a answer, sent bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	call := time.Since(reg.began)
	var err error
	switch {
	case !q.write:
		err = conn.QueryRow(ctx, "UPDATE register SET v = v RETURNING v").Scan(&a.value)
	case q.expected < 0:
		_, err = conn.Exec(ctx, "UPDATE register SET v = $1", q.value)
		a.done = true
	default:
		err = conn.QueryRow(ctx, "UPDATE register SET v = $1 WHERE v = $2 RETURNING v", q.value, q.expected).Scan(&a.value)
		a.done = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
	}
	back := time.Since(reg.began)
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if err != nil {
		a = answer{unknown: true}
		if q.write {
			reg.ops = append(reg.ops, porcupine.Operation{ClientId: id, Input: q, Call: int64(call), Output: a, Return: math.MaxInt64})
		}
		return a, q.write
	}
	reg.known++
	reg.ops = append(reg.ops, porcupine.Operation{ClientId: id, Input: q, Call: int64(call), Output: a, Return: int64(back)})
	return a, true
}

// flow waits for so many more operations with a known outcome.
func (reg *register) flow(t *testing.T, more int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for seen := reg.count(); reg.count() < seen+more; pause(ctx) {
		if ctx.Err() != nil {
			t.Fatal("no operation on the register succeeds")
		}
	}
}

func (reg *register) count() int {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.known
}

// model is the register as one server would keep it.
var model = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		v, q, a := state.(int64), input.(request), output.(answer)
		switch {
		case !q.write:
			return a.value == v, v
		case a.unknown && (q.expected < 0 || q.expected == v):
			return true, q.value
		case a.unknown:
			return true, v
		case q.expected < 0:
			return true, q.value
		case a.done:
			return q.expected == v, q.value
		}
		// A compare-and-set that took place nowhere is only known to have seen another value.
		return q.expected != v, v
	},
}

func (reg *register) check(t *testing.T) {
	t.Helper()
	switch porcupine.CheckOperationsTimeout(model, reg.ops, time.Minute) {
	case porcupine.Illegal:
		t.Errorf("%d operations on one register are not what one server could have done", len(reg.ops))
	case porcupine.Unknown:
		t.Errorf("%d operations could not be judged within a minute", len(reg.ops))
	}
	t.Logf("%d operations, %d of known outcome, through two failovers", len(reg.ops), reg.known)
}

// TestModelCanFail: the checker finds a stale read and a lost write, or its approval would mean nothing.
func TestModelCanFail(t *testing.T) {
	op := func(id int, call, back int64, q request, a answer) porcupine.Operation {
		return porcupine.Operation{ClientId: id, Call: call, Return: back, Input: q, Output: a}
	}
	write := op(0, 0, 10, request{true, 7, -1}, answer{done: true})
	for name, ops := range map[string][]porcupine.Operation{
		"a stale read":                            {write, op(1, 20, 30, request{expected: -1}, answer{value: 0})},
		"a value that comes back":                 {write, op(1, 20, 30, request{true, 8, -1}, answer{done: true}), op(0, 40, 50, request{expected: -1}, answer{value: 7})},
		"two winners of the same compare-and-set": {op(0, 0, 10, request{true, 1, 0}, answer{done: true}), op(1, 0, 10, request{true, 2, 0}, answer{done: true})},
	} {
		if porcupine.CheckOperations(model, ops) {
			t.Errorf("%s was not found", name)
		}
	}
	maybe := op(0, 0, math.MaxInt64, request{true, 7, -1}, answer{unknown: true})
	if !porcupine.CheckOperations(model, []porcupine.Operation{maybe, op(1, 20, 30, request{expected: -1}, answer{value: 0}), op(1, 40, 50, request{expected: -1}, answer{value: 7})}) {
		t.Error("a write of unknown outcome must be allowed to take place late")
	}
}

// run carries out statements, one session for all.
func (s *scene) run(dsn string, statements ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	must(s.t, err)
	defer forget(conn)
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		must(s.t, err)
	}
}
