package etcd

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"standfast/store"
)

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.KV, error) {
	r, err := s.read(ctx, key)
	if err != nil {
		return store.KV{}, fmt.Errorf("get %s: %w", key, err)
	}
	if len(r.Kvs) == 0 {
		return store.KV{}, store.ErrNotFound
	}
	return pair(r.Kvs[0].Key, r.Kvs[0].Value, r.Kvs[0].ModRevision), nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]store.KV, error) {
	kvs, _, err := s.list(ctx, prefix)
	return kvs, err
}

// list also returns the revision that the list is of.
func (s *Store) list(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	r, err := s.read(ctx, prefix, clientv3.WithPrefix()) // etcd sorts by key
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	kvs := make([]store.KV, len(r.Kvs))
	for i, kv := range r.Kvs {
		kvs[i] = pair(kv.Key, kv.Value, kv.ModRevision)
	}
	return kvs, r.Header.Revision, nil
}

func (s *Store) read(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return repeat(ctx, s, func(ctx context.Context, c *clientv3.Client) (*clientv3.GetResponse, error) {
		floor := s.known()
		r, err := c.Get(ctx, key, opts...)
		if err == nil {
			s.note(r.Header, floor)
		}
		return r, err
	}, never)
}

// Put implements store.Store. It is sent once: a second copy that arrives late could undo what others wrote meanwhile.
func (s *Store) Put(ctx context.Context, key string, value []byte) (int64, error) {
	floor := s.known()
	r, err := once(ctx, s, func(ctx context.Context, c *clientv3.Client) (*clientv3.PutResponse, error) {
		return c.Put(ctx, key, string(value))
	})
	if err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	s.note(r.Header, floor)
	return r.Header.Revision, nil
}

// CompareAndPut implements store.Store. With rev > 0 it may be sent several times: revisions only rise, so that once a
// copy has succeeded or somebody else has written, no other copy ever can. With rev 0 that does not hold (the key may be
// created, deleted, and created again by a late copy), so that it is sent once.
func (s *Store) CompareAndPut(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	rev, err := s.compareAnd(ctx, key, rev, clientv3.OpPut(key, string(value)))
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return 0, fmt.Errorf("compare and put %s: %w", key, err)
	}
	return rev, err
}

// CompareAndDelete implements store.Store. It may be sent several times, like CompareAndPut.
func (s *Store) CompareAndDelete(ctx context.Context, key string, rev int64) error {
	if rev == 0 {
		return store.ErrConflict // nothing that exists has it
	}
	_, err := s.compareAnd(ctx, key, rev, clientv3.OpDelete(key))
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("compare and delete %s: %w", key, err)
	}
	return err
}

// compareAnd does what is asked if the key still has the revision, and returns the store's new one.
func (s *Store) compareAnd(ctx context.Context, key string, rev int64, do clientv3.Op) (int64, error) {
	floor := s.known()
	op := func(ctx context.Context, c *clientv3.Client) (*clientv3.TxnResponse, error) {
		return c.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
			Then(do).
			Commit()
	}
	var r *clientv3.TxnResponse
	var err error
	if rev == 0 {
		r, err = once(ctx, s, op)
	} else {
		r, err = repeat(ctx, s, op, func(r *clientv3.TxnResponse) bool { return !r.Succeeded })
	}
	if err != nil {
		return 0, err
	}
	s.note(r.Header, floor)
	if !r.Succeeded {
		return 0, store.ErrConflict
	}
	return r.Header.Revision, nil
}

// Delete implements store.Store. Like Put it is sent once.
func (s *Store) Delete(ctx context.Context, key string) error {
	floor := s.known()
	r, err := once(ctx, s, func(ctx context.Context, c *clientv3.Client) (*clientv3.DeleteResponse, error) {
		return c.Delete(ctx, key)
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	s.note(r.Header, floor)
	return nil
}

// Check implements store.Store. A transaction that only reads is answered after etcd's leader has heard a majority (raft's
// ReadIndex), without an entry in the log.
func (s *Store) Check(ctx context.Context) error {
	floor := s.known()
	r, err := repeat(ctx, s, func(ctx context.Context, c *clientv3.Client) (*clientv3.TxnResponse, error) {
		return c.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(probeKey), "=", 0)).
			Then(clientv3.OpGet(probeKey, clientv3.WithCountOnly())).
			Commit()
	}, func(*clientv3.TxnResponse) bool { return false })
	if err != nil {
		return fmt.Errorf("check for a majority: %w", err)
	}
	s.note(r.Header, floor)
	return nil
}

func pair(key, value []byte, rev int64) store.KV {
	return store.KV{Key: string(key), Value: value, Revision: rev}
}

func never(*clientv3.GetResponse) bool { return false }
