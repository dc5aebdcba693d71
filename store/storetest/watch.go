package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"standfast/store"
)

// watchOrder writes from two handles while two others watch: both see the beginning whole and then the same events, all of
// them, once each, in the order of their revisions.
func watchOrder(t *testing.T, w World, p string) {
	const each = 60
	ctx := within(t)
	put(ctx, t, open(t, w), p+"before", nil)
	put(ctx, t, open(t, w), "/standfast/elsewhere", nil)
	watches := []<-chan store.Update{open(t, w).Watch(ctx, p), open(t, w).Watch(ctx, p)}
	for _, c := range watches {
		u := next(t, c)
		if !u.Full || len(u.Reset) != 1 || u.Reset[0].Key != p+"before" {
			t.Fatalf("the first update is %+v, want the whole content", u)
		}
	}
	var wg sync.WaitGroup
	var doubts atomic.Int64
	for i := range 2 {
		s := open(t, w)
		wg.Go(func() {
			for n := range each {
				_, d := sure(ctx, t, func() (int64, error) {
					if n%7 == 6 {
						return 0, s.Delete(ctx, fmt.Sprintf("%s%d-%d", p, i, n%7-1))
					}
					return s.Put(ctx, fmt.Sprintf("%s%d-%d", p, i, n%7), fmt.Append(nil, n))
				})
				doubts.Add(d)
			}
			put(ctx, t, s, fmt.Sprint(p, "end", i), nil)
		})
	}
	wg.Wait()
	var seen [2][]store.Event
	for i, c := range watches {
		seen[i] = collect(t, c, func(es []store.Event) bool { return count(es, p+"end") == 2 })
		for j := 1; j < len(seen[i]); j++ {
			if seen[i][j].KV.Revision <= seen[i][j-1].KV.Revision {
				t.Fatalf("revision %d after %d", seen[i][j].KV.Revision, seen[i][j-1].KV.Revision)
			}
		}
	}
	if !slices.EqualFunc(seen[0], seen[1], sameEvent) {
		t.Errorf("two watches saw different events:\n%v\n%v", seen[0], seen[1])
	}
	// A write that was repeated because its outcome was unknown may have happened twice.
	if want := 2 * (each + 1); len(seen[0]) < want || len(seen[0]) > want+int(doubts.Load()) {
		t.Errorf("%d events for %d writes, %d of them repeated", len(seen[0]), want, doubts.Load())
	}
}

// watchSlowReader: a reader that does not read must neither lose events nor hold up writers.
func watchSlowReader(t *testing.T, w World, p string) {
	ctx := within(t)
	s := open(t, w)
	c := s.Watch(ctx, p)
	next(t, c)
	for i := range 100 {
		put(ctx, t, s, p+"k", fmt.Append(nil, i))
	}
	events := collect(t, c, func(es []store.Event) bool { return len(es) > 0 && string(es[len(es)-1].KV.Value) == "99" })
	same := func(a, b store.Event) bool { return string(a.KV.Value) == string(b.KV.Value) } // written twice in doubt
	for i, e := range slices.CompactFunc(events, same) {
		if string(e.KV.Value) != fmt.Sprint(i) {
			t.Fatalf("event %d holds %q", i, e.KV.Value)
		}
	}
}

// watchCompaction: whatever is forgotten, at whatever moment, a watch ends up with what the store holds.
func watchCompaction(t *testing.T, w World, p string) {
	ctx := within(t)
	s := open(t, w)
	put(ctx, t, s, p+"gone", nil)
	c := s.Watch(ctx, p) // not read until much was compacted
	for i := range 40 {
		put(ctx, t, s, fmt.Sprint(p, "k", i%5), fmt.Append(nil, i))
		if i%9 == 0 {
			w.Compact(t)
		}
		if i == 20 {
			do(ctx, t, func() error { return s.Delete(ctx, p+"gone") })
		}
	}
	w.Compact(t)
	put(ctx, t, s, p+"end", nil)
	follow(t, c, p, must(s.List(ctx, p))(t))
}

// watchFreeze: a watch that the store could not serve for a while misses nothing, also if that was compacted meanwhile.
func watchFreeze(t *testing.T, w World, p string) {
	ctx := within(t)
	s, other := open(t, w), open(t, w)
	c := s.Watch(ctx, p)
	next(t, c)
	w.Freeze(t)()
	for i := range 10 {
		put(ctx, t, other, fmt.Sprint(p, i%3), fmt.Append(nil, i))
	}
	w.Compact(t)
	put(ctx, t, other, p+"end", nil)
	follow(t, c, p, must(other.List(ctx, p))(t))
}

func watchEnds(t *testing.T, w World, p string) {
	s := open(t, w)
	ctx, cancel := context.WithCancel(within(t))
	c := s.Watch(ctx, p)
	next(t, c)
	cancel()
	for range c { // must be closed, whatever it still delivers
	}
}

// follow reads until the key "end" arrived and compares what the updates amount to.
func follow(t *testing.T, c <-chan store.Update, p string, want []store.KV) {
	t.Helper()
	have := map[string]store.KV{}
	for {
		u := next(t, c)
		if u.Full {
			clear(have)
		}
		for _, kv := range u.Reset {
			have[kv.Key] = kv
		}
		for _, e := range u.Events {
			if e.Deleted {
				delete(have, e.KV.Key)
			} else {
				have[e.KV.Key] = e.KV
			}
		}
		if _, ok := have[p+"end"]; ok {
			break
		}
	}
	got := make([]store.KV, 0, len(have))
	for _, k := range slices.Sorted(maps.Keys(have)) {
		got = append(got, have[k])
	}
	if !slices.EqualFunc(got, want, func(a, b store.KV) bool { return sameEvent(store.Event{KV: a}, store.Event{KV: b}) }) {
		t.Errorf("the watch amounts to %v, the store holds %v", got, want)
	}
}

func next(t testing.TB, c <-chan store.Update) store.Update {
	t.Helper()
	select {
	case u, ok := <-c:
		if !ok {
			t.Fatal("the watch was closed")
		}
		return u
	case <-time.After(patience):
		t.Fatal("the watch delivers nothing")
	}
	return store.Update{}
}

// collect reads events until there are enough; a full update is an error, as nothing was compacted.
func collect(t testing.TB, c <-chan store.Update, enough func([]store.Event) bool) []store.Event {
	t.Helper()
	var all []store.Event
	for !enough(all) {
		u := next(t, c)
		if u.Full {
			t.Fatal("the watch began anew though nothing was compacted")
		}
		all = append(all, u.Events...)
	}
	return all
}

func count(es []store.Event, prefix string) (n int) {
	for _, e := range es {
		if len(e.KV.Key) >= len(prefix) && e.KV.Key[:len(prefix)] == prefix {
			n++
		}
	}
	return n
}

func sameEvent(a, b store.Event) bool {
	return a.KV.Key == b.KV.Key && string(a.KV.Value) == string(b.KV.Value) &&
		a.KV.Revision == b.KV.Revision && a.Deleted == b.Deleted
}
