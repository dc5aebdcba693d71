package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"standfast/store"
)

type kind int

const (
	read kind = iota
	swap
	remove
)

// request and reply are the operations on one key, as porcupine sees them. A value is its own name: none is written twice.
type request struct {
	kind  kind
	rev   int64
	value string
}

type reply struct {
	value   string // of a read
	rev     int64  // of a read: the revision, 0 for absent; of a swap: the new one
	ok      bool   // of a swap: it succeeded
	unknown bool
}

// register is the state of one key. known: an operation of unknown outcome gives a revision that nobody has been told.
type register struct {
	value   string
	rev     int64
	present bool
}

// model says which answers are possible. Operations of unknown outcome are passed to porcupine as ending at the end of
// time, with both outcomes allowed.
var model = porcupine.NondeterministicModel{
	Init:  func() []any { return []any{register{}} },
	Step:  step,
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string {
		return fmt.Sprintf("%+v -> %+v", in, out)
	},
}

func step(state, input, output any) []any {
	s, in, out := state.(register), input.(request), output.(reply)
	switch in.kind {
	case read:
		if out.unknown || (!s.present && out.rev == 0) ||
			(s.present && out.value == s.value && (s.rev < 0 || s.rev == out.rev)) {
			if s.present && !out.unknown {
				s.rev = out.rev // now it is known
			}
			return []any{s}
		}
	case swap:
		matches := (in.rev == 0 && !s.present) || (in.rev != 0 && s.present && s.rev == in.rev)
		after := register{in.value, out.rev, true}
		switch {
		case out.unknown && matches:
			after.rev = -1
			return []any{s, after}
		case out.unknown:
			return []any{s}
		case out.ok && matches:
			return []any{after}
		case !out.ok && !matches:
			return []any{s}
		}
	case remove:
		if out.unknown {
			return []any{s, register{}}
		}
		return []any{register{}}
	}
	return nil
}

// linearizable lets several handles read, compare-and-put and delete one key at once, the store being frozen for moments,
// and asks porcupine whether the answers have an order in which they make sense.
func linearizable(t *testing.T, w World, p string) {
	const clients, each = 5, 25
	ctx := within(t)
	start := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	var wg sync.WaitGroup
	for id := range clients {
		s := open(t, w)
		rng := rand.New(rand.NewPCG(uint64(id), 1))
		wg.Go(func() {
			seen := int64(0)
			for n := range each {
				in := request{kind: kind(rng.IntN(5) % 3), rev: seen, value: fmt.Sprint(id, "-", n)}
				called := time.Since(start).Nanoseconds()
				out := perform(ctx, s, p+"k", in)
				returned := time.Since(start).Nanoseconds()
				if out.unknown && in.kind == read {
					continue // says nothing
				}
				if out.unknown {
					returned = int64(time.Hour)
				} else if in.kind != remove {
					seen = out.rev
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: len(history), Input: in, Output: out, Call: called, Return: returned})
				mu.Unlock()
			}
		})
	}
	for range 2 {
		pauseFor(50 * time.Millisecond)
		thaw := w.Freeze(t)
		pauseFor(400 * time.Millisecond)
		thaw()
	}
	wg.Wait()
	swapped := 0
	for _, op := range history {
		if op.Output.(reply).ok {
			swapped++
		}
	}
	if swapped < 5 {
		t.Errorf("only %d writes succeeded: the test shows nothing", swapped)
	}
	switch porcupine.CheckOperationsTimeout(model.ToModel(), history, patience) {
	case porcupine.Illegal:
		t.Errorf("not linearizable: %+v", history)
	case porcupine.Unknown:
		t.Errorf("porcupine has not decided within %s", patience)
	}
}

func pauseFor(d time.Duration) { <-time.After(d) }

func perform(ctx context.Context, s store.Store, key string, in request) reply {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	switch in.kind {
	case read:
		kv, err := s.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			return reply{}
		}
		return reply{value: string(kv.Value), rev: kv.Revision, unknown: err != nil}
	case swap:
		rev, err := s.CompareAndPut(ctx, key, []byte(in.value), in.rev)
		if errors.Is(err, store.ErrConflict) {
			return reply{}
		}
		return reply{rev: rev, ok: err == nil, unknown: err != nil}
	default:
		return reply{unknown: s.Delete(ctx, key) != nil}
	}
}
