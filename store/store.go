// Package store holds what the members of a cluster must agree on: a small ordered key-value store with
// compare-and-swap and watches (Store), and over it the typed records of one cluster (Cluster).
//
// Implementations: store/etcd (a client of etcd, with the local endpoint preferred) and store/mem (an in-memory twin).
// store/storetest is the suite that every implementation has to pass. store/embed runs an etcd of our own.
//
// The rule about errors: ErrNotFound and ErrConflict are answers of the store. Every other error means that the outcome is
// unknown: a write may have happened, may happen later, or may never happen. Unknown is never to be read as lost.
package store

import (
	"context"
	"errors"
)

var (
	// ErrNotFound says that the key does not exist, by a linearizable read.
	ErrNotFound = errors.New("not found")

	// ErrConflict says that a comparison failed: the write has surely not happened and never will.
	ErrConflict = errors.New("conflict: somebody else has written meanwhile")
)

// KV is one key with its value. Revision is the store's revision at which the key was last written (etcd's mod revision);
// revisions are unique in a store and only rise. In an Event that deletes, it is the revision of the deletion.
type KV struct {
	Key      string
	Value    []byte
	Revision int64
}

// Event is one change of a key. With Deleted set, KV.Value is nil.
type Event struct {
	KV      KV
	Deleted bool
}

// Update is what a watch delivers: either everything there is (Full true: the content of the prefix is exactly Reset, which
// may be empty), or the changes since the previous Update, in the order of their revisions, none missing and none twice.
//
// Anew, only with Full, says that the store itself is another one than before, made anew or restored from a backup: its
// revisions may be lower than those seen, and what was known before may never have happened in it.
type Update struct {
	Full   bool
	Anew   bool
	Reset  []KV
	Events []Event
}

// Store is a linearizable key-value store. All calls try until they have an answer, an error that repeating cannot cure,
// or ctx ends, so ctx should carry a deadline.
type Store interface {
	// Get returns the key's newest value (linearizable), or ErrNotFound.
	Get(ctx context.Context, key string) (KV, error)

	// List returns all keys that begin with prefix, as of one revision, sorted by key.
	List(ctx context.Context, prefix string) ([]KV, error)

	// Put writes the key whatever it holds, and returns the new revision.
	Put(ctx context.Context, key string, value []byte) (int64, error)

	// CompareAndPut writes the key if its revision is still rev, and returns the new one. With rev 0 the key must not exist.
	CompareAndPut(ctx context.Context, key string, value []byte, rev int64) (int64, error)

	// Delete removes the key. It is no error if there is none.
	Delete(ctx context.Context, key string) error

	// CompareAndDelete removes the key if its revision is still rev, which is not 0; ErrConflict: it was surely not removed.
	CompareAndDelete(ctx context.Context, key string, rev int64) error

	// Watch delivers the content of prefix and then every change of it. It reconnects by itself for ever, beginning anew
	// with a full Update where it could have missed something. The channel is closed when ctx ends or the store is closed.
	// A slow reader delays only itself.
	Watch(ctx context.Context, prefix string) <-chan Update

	// Check asks by a guarded, read-only, linearizable transaction whether a majority of the store is there. It writes
	// nothing and costs one message to the leader.
	Check(ctx context.Context) error

	// Close ends all watches and waits for them.
	Close() error
}
