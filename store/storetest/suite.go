// Package storetest holds one suite that every implementation of store.Store has to pass, and starts real etcd servers
// for it: our own as child processes (Start, Main) and the distribution's (StartDebian).
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"standfast/store"
)

// World is a store under test.
type World struct {
	// Open returns another handle to the same data.
	Open func(t testing.TB) store.Store

	// Compact makes the store forget all past events.
	Compact func(t testing.TB)

	// Freeze makes the store unable to answer until the function that it returns is called.
	Freeze func(t testing.TB) (thaw func())
}

// patience is how long the suite waits for what has to happen soon. It only passes when something is wrong.
const patience = time.Minute

// Run runs the whole suite, each test under a prefix of its own.
func Run(t *testing.T, w World) {
	for name, test := range map[string]func(*testing.T, World, string){
		"Absent":          absent,
		"PutAndGet":       putAndGet,
		"List":            list,
		"Compare":         compare,
		"Revisions":       revisions,
		"Counter":         counter,
		"Linearizable":    linearizable,
		"WatchOrder":      watchOrder,
		"WatchSlowReader": watchSlowReader,
		"WatchCompaction": watchCompaction,
		"WatchFreeze":     watchFreeze,
		"WatchEnds":       watchEnds,
		"Unknown":         unknown,
		"Closed":          closed,
		"Records":         records,
		"Requests":        requests,
		"Snapshots":       snapshots,
		"Pruning":         pruning,
	} {
		t.Run(name, func(t *testing.T) { test(t, w, "/standfast/test-"+name+"/") })
	}
}

func absent(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	if _, err := s.Get(ctx, p+"none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get of an absent key: %v, want ErrNotFound", err)
	}
	if err := s.Delete(ctx, p+"none"); err != nil {
		t.Errorf("delete of an absent key: %v", err)
	}
	if kvs, err := s.List(ctx, p); err != nil || len(kvs) != 0 {
		t.Errorf("list of nothing: %v, %v", kvs, err)
	}
	if err := s.Check(ctx); err != nil {
		t.Errorf("check: %v", err)
	}
}

func putAndGet(t *testing.T, w World, p string) {
	a, b, ctx := open(t, w), open(t, w), within(t)
	value := []byte("one\x00\xff")
	rev := put(ctx, t, a, p+"k", value)
	value[0] = 'X' // the store has its own copy
	got := must(b.Get(ctx, p+"k"))(t)
	if got.Key != p+"k" || string(got.Value) != "one\x00\xff" || got.Revision != rev {
		t.Errorf("got %+v, written at revision %d", got, rev)
	}
	do(ctx, t, func() error { return b.Delete(ctx, p+"k") })
	if _, err := a.Get(ctx, p+"k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get after delete: %v, want ErrNotFound", err)
	}
}

func list(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	for _, k := range []string{"b/2", "a", "b/10", "b", "c"} {
		put(ctx, t, s, p+k, []byte(k))
	}
	var keys []string
	for _, kv := range must(s.List(ctx, p+"b"))(t) {
		keys = append(keys, string(kv.Value))
	}
	if want := []string{"b", "b/10", "b/2"}; !slices.Equal(keys, want) {
		t.Errorf("listed %q, want %q", keys, want)
	}
}

// compare tries what succeeds and what fails, on a fresh key if an outcome was unknown, which is always allowed.
func compare(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	for i := 0; !t.Failed() && !compareOn(ctx, t, s, fmt.Sprint(p, i)); i++ {
		if ctx.Err() != nil {
			t.Fatal("the outcome is unknown again and again")
		}
	}
}

func compareOn(ctx context.Context, t *testing.T, s store.Store, key string) (known bool) {
	known = true
	try := func(rev int64, want error) int64 {
		t.Helper()
		if !known {
			return 0
		}
		now, err := s.CompareAndPut(ctx, key, []byte("v"), rev)
		known = err == nil || errors.Is(err, store.ErrConflict)
		if known && !errors.Is(err, want) {
			t.Errorf("compare with revision %d: %v, want %v", rev, err, want)
		}
		return now
	}
	try(7, store.ErrConflict) // absent is not revision 7
	first := try(0, nil)
	try(0, store.ErrConflict)
	second := try(first, nil)
	try(first, store.ErrConflict)
	third := put(ctx, t, s, key, []byte("by somebody else"))
	try(second, store.ErrConflict)
	do(ctx, t, func() error { return s.Delete(ctx, key) })
	try(third, store.ErrConflict)
	try(0, nil)
	return known
}

func revisions(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	last := int64(0)
	for i := range 20 {
		rev := put(ctx, t, s, fmt.Sprint(p, i%3), nil)
		if rev <= last {
			t.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
	}
}

// counter raises one number from several handles at once: every success must count exactly once, and what is unknown at
// most once.
func counter(t *testing.T, w World, p string) {
	const writers, each = 4, 15
	ctx := within(t)
	var wg sync.WaitGroup
	var unknown atomic.Int64
	for range writers {
		s := open(t, w)
		wg.Go(func() {
			for done := 0; done < each && ctx.Err() == nil; {
				err := increment(ctx, s, p+"n")
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					unknown.Add(1)
				}
			}
		})
	}
	wg.Wait()
	var got int64
	if _, err := fmt.Sscan(string(must(open(t, w).Get(ctx, p+"n"))(t).Value), &got); err != nil {
		t.Fatal(err)
	}
	if sure := int64(writers * each); got < sure || got > sure+unknown.Load() {
		t.Errorf("counted %d, with %d successes and %d unknown outcomes", got, sure, unknown.Load())
	}
}

func increment(ctx context.Context, s store.Store, key string) error {
	kv, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	n := 0
	if err == nil {
		if _, err := fmt.Sscan(string(kv.Value), &n); err != nil {
			return err
		}
	}
	_, err = s.CompareAndPut(ctx, key, fmt.Append(nil, n+1), kv.Revision)
	return err
}

// unknown: a frozen store must not claim to know how a write ended, and must not answer reads from memory.
func unknown(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	rev := put(ctx, t, s, p+"k", []byte("old"))
	gone := put(ctx, t, s, p+"gone", nil)
	thaw := w.Freeze(t)
	for name, do := range map[string]func(context.Context) error{
		"put":                func(ctx context.Context) error { _, err := s.Put(ctx, p+"other", nil); return err },
		"create":             func(ctx context.Context) error { _, err := s.CompareAndPut(ctx, p+"new", nil, 0); return err },
		"compare and delete": func(ctx context.Context) error { return s.CompareAndDelete(ctx, p+"gone", gone) },
		"compare and put":    func(ctx context.Context) error { _, err := s.CompareAndPut(ctx, p+"k", []byte("new"), rev); return err },
		"delete":             func(ctx context.Context) error { return s.Delete(ctx, p+"other") },
		"get":                func(ctx context.Context) error { _, err := s.Get(ctx, p+"none"); return err },
		"list":               func(ctx context.Context) error { _, err := s.List(ctx, p); return err },
		"check":              s.Check,
	} {
		short, cancel := context.WithTimeout(ctx, 600*time.Millisecond)
		err := do(short)
		cancel()
		if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s while the store is frozen: %v, want an unknown outcome", name, err)
		}
	}
	thaw()
	settle(ctx, t, s, p+"k")
}

// settle ends the uncertainty about one compare-and-put: either value is right, and the late write may come between a read
// and the next write, but only once, and never after a write that compared.
func settle(ctx context.Context, t *testing.T, s store.Store, key string) {
	t.Helper()
	err := store.ErrConflict
	for tries := 0; tries < 2 && errors.Is(err, store.ErrConflict); tries++ {
		kv := must(s.Get(ctx, key))(t)
		if string(kv.Value) != "old" && string(kv.Value) != "new" {
			t.Errorf("value %q", kv.Value)
		}
		_, err = s.CompareAndPut(ctx, key, []byte("newest"), kv.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	if kv := must(s.Get(ctx, key))(t); string(kv.Value) != "newest" {
		t.Errorf("the late write came after one that compared: %q", kv.Value)
	}
}

func closed(t *testing.T, w World, p string) {
	s := w.Open(t)
	updates := s.Watch(t.Context(), p)
	next(t, updates)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-updates; ok {
		t.Error("a watch went on after close")
	}
	if _, ok := <-s.Watch(t.Context(), p); ok {
		t.Error("a watch was begun after close")
	}
	if _, err := s.Get(within(t), p+"k"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get after close: %v, want an error that says so", err)
	}
}

func open(t testing.TB, w World) store.Store {
	t.Helper()
	s := w.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// sure repeats a write whose outcome is unknown, as any client has to; it returns the revision, and how often it was unknown.
func sure(ctx context.Context, t testing.TB, write func() (int64, error)) (rev, doubts int64) {
	t.Helper()
	for {
		rev, err := write()
		if err == nil {
			return rev, doubts
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			t.Error(err)
			return 0, doubts
		}
		doubts++
	}
}

// put is a Put that is sure.
func put(ctx context.Context, t testing.TB, s store.Store, key string, value []byte) int64 {
	t.Helper()
	rev, _ := sure(ctx, t, func() (int64, error) { return s.Put(ctx, key, value) })
	return rev
}

// do is any other write that is sure.
func do(ctx context.Context, t testing.TB, write func() error) {
	t.Helper()
	sure(ctx, t, func() (int64, error) { return 0, write() })
}

// must returns the value or ends the test; the second call is for t to follow results of two values.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
