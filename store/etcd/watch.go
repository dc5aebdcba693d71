package etcd

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"standfast/store"
)

const (
	// listTimeout bounds one attempt to read a watch's beginning.
	listTimeout = 5 * time.Second

	// rewatch is the pause before a watch that broke is made again at the same endpoint.
	rewatch = 100 * time.Millisecond
)

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string) <-chan store.Update {
	out := make(chan store.Update)
	spawned := s.spawn(func() {
		defer close(out)
		ctx, cancel := s.bound(ctx)
		defer cancel()
		w := watch{store: s, prefix: prefix, out: out}
		for ctx.Err() == nil {
			w.run(ctx)
		}
	})
	if !spawned {
		close(out)
	}
	return out
}

// watch is the merging of the watches of all endpoints into one.
type watch struct {
	store  *Store
	prefix string
	out    chan<- store.Update
	next   atomic.Int64 // the first revision that the reader does not know yet
	anew   bool         // etcd has become another one since the reader was told everything
}

// run delivers the whole content and then the changes, until something may have been missed.
func (w *watch) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	renewed := w.store.generation()
	kvs, rev, ok := w.begin(ctx)
	if !ok {
		return
	}
	deliver(ctx, w.out, store.Update{Full: true, Anew: w.anew, Reset: kvs})
	w.anew = false
	w.next.Store(rev + 1)

	in := make(chan clientv3.WatchResponse)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, e := range w.store.endpoints {
		wg.Go(func() { w.listen(ctx, e, in) })
	}
	for {
		select {
		case r := <-in:
			if r.CompactRevision > w.next.Load() {
				return // what the reader does not know is forgotten
			}
			w.pass(ctx, r)
		case <-renewed:
			w.anew = true
			return
		case <-ctx.Done():
			return
		}
	}
}

// generation is closed when etcd turns out to be another cluster than before.
func (s *Store) generation() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed
}

// begin lists the prefix, for as long as it takes.
func (w *watch) begin(ctx context.Context) ([]store.KV, int64, bool) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, listTimeout)
		kvs, rev, err := w.store.list(try, w.prefix)
		cancel()
		if err == nil {
			return kvs, rev, true
		}
		pause(ctx, rewatch)
	}
	return nil, 0, false
}

// pass delivers those events that no other endpoint has brought before. etcd never splits the events of one revision
// over two responses unless asked to (clientv3.WithFragment), so that comparing revisions suffices.
func (w *watch) pass(ctx context.Context, r clientv3.WatchResponse) {
	var u store.Update
	next := w.next.Load()
	for _, ev := range r.Events {
		if ev.Kv.ModRevision < next {
			continue
		}
		e := store.Event{KV: pair(ev.Kv.Key, ev.Kv.Value, ev.Kv.ModRevision), Deleted: ev.Type == clientv3.EventTypeDelete}
		if e.Deleted {
			e.KV.Value = nil
		}
		u.Events = append(u.Events, e)
	}
	if len(u.Events) == 0 {
		return
	}
	w.next.Store(u.Events[len(u.Events)-1].KV.Revision + 1)
	deliver(ctx, w.out, u)
}

// listen watches at one endpoint, again and again. A member without a leader breaks the watch (WithRequireLeader) rather
// than keeping silent.
func (w *watch) listen(ctx context.Context, e *endpoint, in chan<- clientv3.WatchResponse) {
	for ctx.Err() == nil {
		one, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for r := range e.client.Watch(one, w.prefix, clientv3.WithPrefix(), clientv3.WithRev(w.next.Load())) {
			if len(r.Events) > 0 || r.CompactRevision > 0 {
				deliver(ctx, in, r)
			}
		}
		cancel()
		pause(ctx, rewatch)
	}
}
