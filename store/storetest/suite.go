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
const patience = 20 * time.Second

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
	rev := must(a.Put(ctx, p+"k", value))(t)
	value[0] = 'X' // the store has its own copy
	got := must(b.Get(ctx, p+"k"))(t)
	if got.Key != p+"k" || string(got.Value) != "one\x00\xff" || got.Revision != rev {
		t.Errorf("got %+v, written at revision %d", got, rev)
	}
	if err := b.Delete(ctx, p+"k"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Get(ctx, p+"k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get after delete: %v, want ErrNotFound", err)
	}
}

func list(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	for _, k := range []string{"b/2", "a", "b/10", "b", "c"} {
		must(s.Put(ctx, p+k, []byte(k)))(t)
	}
	var keys []string
	for _, kv := range must(s.List(ctx, p+"b"))(t) {
		keys = append(keys, string(kv.Value))
	}
	if want := []string{"b", "b/10", "b/2"}; !slices.Equal(keys, want) {
		t.Errorf("listed %q, want %q", keys, want)
	}
}

func compare(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	try := func(rev int64, want error) int64 {
		t.Helper()
		now, err := s.CompareAndPut(ctx, p+"k", []byte("v"), rev)
		if !errors.Is(err, want) {
			t.Fatalf("compare with revision %d: %v, want %v", rev, err, want)
		}
		return now
	}
	try(7, store.ErrConflict) // absent is not revision 7
	first := try(0, nil)
	try(0, store.ErrConflict)
	second := try(first, nil)
	try(first, store.ErrConflict)
	third := must(s.Put(ctx, p+"k", []byte("by somebody else")))(t)
	try(second, store.ErrConflict)
	if err := s.Delete(ctx, p+"k"); err != nil {
		t.Fatal(err)
	}
	try(third, store.ErrConflict)
	try(0, nil)
}

func revisions(t *testing.T, w World, p string) {
	s, ctx := open(t, w), within(t)
	last := int64(0)
	for i := range 20 {
		rev := must(s.Put(ctx, fmt.Sprint(p, i%3), nil))(t)
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
	rev := must(s.Put(ctx, p+"k", []byte("old")))(t)
	thaw := w.Freeze(t)
	for name, do := range map[string]func(context.Context) error{
		"put":             func(ctx context.Context) error { _, err := s.Put(ctx, p+"other", nil); return err },
		"create":          func(ctx context.Context) error { _, err := s.CompareAndPut(ctx, p+"new", nil, 0); return err },
		"compare and put": func(ctx context.Context) error { _, err := s.CompareAndPut(ctx, p+"k", []byte("new"), rev); return err },
		"delete":          func(ctx context.Context) error { return s.Delete(ctx, p+"other") },
		"get":             func(ctx context.Context) error { _, err := s.Get(ctx, p+"none"); return err },
		"list":            func(ctx context.Context) error { _, err := s.List(ctx, p); return err },
		"check":           s.Check,
	} {
		short, cancel := context.WithTimeout(ctx, 600*time.Millisecond)
		err := do(short)
		cancel()
		if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s while the store is frozen: %v, want an unknown outcome", name, err)
		}
	}
	thaw()
	kv := must(s.Get(ctx, p+"k"))(t) // either value is right, but it must not change any more
	if string(kv.Value) != "old" && string(kv.Value) != "new" {
		t.Errorf("value %q", kv.Value)
	}
	must(s.CompareAndPut(ctx, p+"k", []byte("newest"), kv.Revision))(t)
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
