// Package mem is the in-memory twin of store/etcd: several handles to one shared state, each of which can be cut off or
// made to lose answers. Simulations and tests use it, and so could a cluster of one process.
package mem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"standfast/store"
)

var (
	// ErrUnreachable is what a handle that is down answers; nothing was written.
	ErrUnreachable = errors.New("store unreachable: this handle is down")

	// ErrAnswerLost is what a write answers whose outcome the caller is not to know; see Store.LoseAnswers.
	ErrAnswerLost = errors.New("answer lost: the outcome is unknown")

	errClosed = errors.New("store closed")
)

// Shared is the state behind all handles, as the members of an etcd cluster agree on it.
type Shared struct {
	mu        sync.Mutex
	epoch     int64 // raised by Restore
	rev       int64
	compacted int64 // log entries up to this revision are forgotten
	kvs       map[string]store.KV
	log       []store.Event // one entry per revision, the last one of revision rev
	changed   chan struct{} // closed and replaced whenever a watch may have something to do
}

// New returns an empty state.
func New() *Shared {
	return &Shared{kvs: map[string]store.KV{}, changed: make(chan struct{})}
}

// Open returns another handle.
func (sh *Shared) Open() *Store {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Store{shared: sh, ctx: ctx, cancel: cancel}
}

// Compact forgets all past events, so that a watch that is behind has to begin anew.
func (sh *Shared) Compact() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.compacted, sh.log = sh.rev, nil
}

// Backup is the content at one moment, for Restore.
type Backup struct {
	rev int64
	kvs map[string]store.KV
}

// Backup copies the content.
func (sh *Shared) Backup() Backup {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return Backup{sh.rev, maps.Clone(sh.kvs)}
}

// Restore puts a backup in the place of what there is, as an operator does with etcd: revisions go back too.
func (sh *Shared) Restore(b Backup) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.epoch++
	sh.rev, sh.compacted, sh.kvs, sh.log = b.rev, b.rev, maps.Clone(b.kvs), nil
	sh.wake()
}

// commit appends the event under the next revision. mu is held.
func (sh *Shared) commit(e store.Event) int64 {
	sh.rev++
	e.KV.Revision = sh.rev
	e.KV.Value = slices.Clone(e.KV.Value)
	if e.Deleted {
		delete(sh.kvs, e.KV.Key)
	} else {
		sh.kvs[e.KV.Key] = e.KV
	}
	sh.log = append(sh.log, e)
	sh.wake()
	return sh.rev
}

// wake lets all watches look again. mu is held.
func (sh *Shared) wake() {
	close(sh.changed)
	sh.changed = make(chan struct{})
}

// list copies what lies under the prefix, sorted. mu is held.
func (sh *Shared) list(prefix string) []store.KV {
	kvs := []store.KV{}
	for _, key := range slices.Sorted(maps.Keys(sh.kvs)) {
		if strings.HasPrefix(key, prefix) {
			kvs = append(kvs, copied(sh.kvs[key]))
		}
	}
	return kvs
}

func copied(kv store.KV) store.KV {
	kv.Value = slices.Clone(kv.Value)
	return kv
}

// Store is one handle. It is safe for concurrent use.
type Store struct {
	shared *Shared
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	// Guarded by shared.mu.
	down    bool
	lose    int  // answers to writes still to be lost
	applied bool // whether these writes happen
}

var _ store.Store = (*Store)(nil)

// SetDown cuts the handle off, or connects it again: while down every call fails at once with ErrUnreachable, and
// watches stand still.
func (s *Store) SetDown(down bool) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.down = down
	s.shared.wake()
}

// LoseAnswers makes the next n writes of this handle answer ErrAnswerLost: applied says whether they happen all the same.
func (s *Store) LoseAnswers(n int, applied bool) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.lose, s.applied = n, applied
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.KV, error) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return store.KV{}, err
	}
	kv, ok := s.shared.kvs[key]
	if !ok {
		return store.KV{}, store.ErrNotFound
	}
	return copied(kv), nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]store.KV, error) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	return s.shared.list(prefix), nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte) (int64, error) {
	return s.write(ctx, func() (int64, error) {
		return s.shared.commit(store.Event{KV: store.KV{Key: key, Value: value}}), nil
	})
}

// CompareAndPut implements store.Store.
func (s *Store) CompareAndPut(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	return s.write(ctx, func() (int64, error) {
		if s.shared.kvs[key].Revision != rev {
			return 0, store.ErrConflict
		}
		return s.shared.commit(store.Event{KV: store.KV{Key: key, Value: value}}), nil
	})
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	_, err := s.write(ctx, func() (int64, error) {
		if _, ok := s.shared.kvs[key]; !ok {
			return 0, nil
		}
		return s.shared.commit(store.Event{KV: store.KV{Key: key}, Deleted: true}), nil
	})
	return err
}

// CompareAndDelete implements store.Store.
func (s *Store) CompareAndDelete(ctx context.Context, key string, rev int64) error {
	_, err := s.write(ctx, func() (int64, error) {
		if kv, ok := s.shared.kvs[key]; !ok || kv.Revision != rev {
			return 0, store.ErrConflict
		}
		return s.shared.commit(store.Event{KV: store.KV{Key: key}, Deleted: true}), nil
	})
	return err
}

// Check implements store.Store.
func (s *Store) Check(ctx context.Context) error {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	return s.usable(ctx)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.shared.mu.Lock()
	s.cancel(errClosed)
	s.shared.mu.Unlock()
	s.wg.Wait()
	return nil
}

// write runs do unless the handle can't or its answer is to be lost.
func (s *Store) write(ctx context.Context, do func() (int64, error)) (int64, error) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	if s.lose > 0 {
		s.lose--
		if s.applied {
			_, _ = do() // its outcome is what the caller is not told
		}
		return 0, ErrAnswerLost
	}
	return do()
}

// usable says why the handle can't be used now. mu is held.
func (s *Store) usable(ctx context.Context) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if s.down {
		return ErrUnreachable
	}
	return nil
}
