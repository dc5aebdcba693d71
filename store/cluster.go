package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"standfast/cluster"
)

// Cluster is the typed view of one cluster's records. Its keys, all under /standfast/<cluster>/:
//
//	state                     cluster.State, the one record that must be agreed; written by comparison only
//	state@<epoch %020d>       the same after the cluster was founded anew: a member of the epoch before that reaches this store
//	                          by its old addresses compares a key that is not there
//	former/<name>             cluster.Member of the epoch before, which is to be told that it is over
//	config                    the agreed configuration, YAML as it was given
//	request                   cluster.Request, an operator's wish
//	authority                 the certificate authority, sealed (certs.CA.Seal)
//	members/<name>            cluster.Member
//	tokens/<id>               Grant, an operator's token by its hash
//	change                    Change, of the members, while one is under way
//	reports/<term>/<name>     cluster.Report
//	history/<term %020d>      Entry
//	notes/<time %020d>-<name> Note
type Cluster struct {
	store  Store
	name   string
	prefix string
	epoch  atomic.Uint64 // of the record that was found last
}

// New returns the records of the cluster of that name in s. It owns nothing: closing s is its maker's business.
func New(s Store, name string) *Cluster {
	return &Cluster{store: s, name: name, prefix: "/standfast/" + name + "/"}
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Check reports whether a majority of the store answers; see Store.Check.
func (c *Cluster) Check(ctx context.Context) error { return c.store.Check(ctx) }

// State returns the agreed record by a linearizable read, or ErrNotFound before the first. Whoever knows of no epoch finds the newest.
func (c *Cluster) State(ctx context.Context) (cluster.State, error) {
	var s cluster.State
	kv, err := c.get(ctx, stateKey(cluster.Epoch(c.epoch.Load())), &s)
	if errors.Is(err, ErrNotFound) {
		kv, err = c.newestState(ctx, &s)
	}
	s.Revision = kv.Revision
	return s, err
}

// newestState looks for the record of whatever epoch there is.
func (c *Cluster) newestState(ctx context.Context, s *cluster.State) (KV, error) {
	kvs, err := c.store.List(ctx, c.prefix+"state")
	switch {
	case err != nil:
		return KV{}, fmt.Errorf("read state: %w", err)
	case len(kvs) == 0:
		return KV{}, fmt.Errorf("read state: %w", ErrNotFound)
	}
	kv := kvs[len(kvs)-1] // the keys' order is the epochs'
	if err := json.Unmarshal(kv.Value, s); err != nil {
		return kv, fmt.Errorf("read state: %w", err)
	}
	c.epoch.Store(uint64(s.Epoch))
	return kv, nil
}

// stateKey is where the record of an epoch is kept.
func stateKey(e cluster.Epoch) string {
	if e == 0 {
		return "state"
	}
	return fmt.Sprintf("state@%020d", e)
}

// WriteState replaces the agreed record if it still has next.Revision (0: if there is none), and returns next with its
// new revision. ErrConflict: surely not written. Any other error: unknown, read it again.
func (c *Cluster) WriteState(ctx context.Context, next cluster.State) (cluster.State, error) {
	b, err := json.Marshal(next)
	if err != nil {
		return next, fmt.Errorf("write state: %w", err)
	}
	rev, err := c.store.CompareAndPut(ctx, c.prefix+stateKey(next.Epoch), b, next.Revision)
	if err != nil {
		return next, fmt.Errorf("write state of term %d: %w", next.Term, err)
	}
	next.Revision = rev
	return next, nil
}

// PutReport publishes a member's sworn position. The member writes its own only, so nothing is compared.
func (c *Cluster) PutReport(ctx context.Context, r cluster.Report) error {
	return c.put(ctx, reportKey(r.Term, r.Member), r)
}

// Members returns the members, sorted by name.
func (c *Cluster) Members(ctx context.Context) ([]cluster.Member, error) {
	kvs, err := c.store.List(ctx, c.prefix+"members/")
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	members := make([]cluster.Member, 0, len(kvs))
	for _, kv := range kvs {
		var m cluster.Member
		if err := json.Unmarshal(kv.Value, &m); err != nil {
			return nil, fmt.Errorf("read member %s: %w", strings.TrimPrefix(kv.Key, c.prefix), err)
		}
		members = append(members, m)
	}
	slices.SortFunc(members, byName)
	return members, nil
}

// PutMember adds or replaces a member.
func (c *Cluster) PutMember(ctx context.Context, m cluster.Member) error {
	return c.put(ctx, "members/"+m.Name, m)
}

// DeleteMember removes a member; it is no error if there is none of that name.
func (c *Cluster) DeleteMember(ctx context.Context, name string) error {
	return c.delete(ctx, "members/"+name)
}

// PutFormer notes a member of the epoch before.
func (c *Cluster) PutFormer(ctx context.Context, m cluster.Member) error {
	return c.put(ctx, "former/"+m.Name, m)
}

// DeleteFormer forgets a member of the epoch before; it is no error if there is none of that name.
func (c *Cluster) DeleteFormer(ctx context.Context, name string) error {
	return c.delete(ctx, "former/"+name)
}

// AlterMember changes a member as it stands, or does nothing if change says so. ErrNotFound: there is none of that name.
// Unlike PutMember it can't bring back one that was removed meanwhile.
func (c *Cluster) AlterMember(ctx context.Context, name string, change func(*cluster.Member) bool) error {
	for {
		var m cluster.Member
		kv, err := c.get(ctx, "members/"+name, &m)
		if err != nil {
			return err
		}
		if !change(&m) {
			return nil
		}
		b, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("write member %s: %w", name, err)
		}
		if _, err = c.store.CompareAndPut(ctx, c.prefix+"members/"+name, b, kv.Revision); err == nil {
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return fmt.Errorf("write member %s: %w", name, err)
		}
	}
}

// Config returns the agreed configuration's bytes and revision, or ErrNotFound.
func (c *Cluster) Config(ctx context.Context) (KV, error) {
	kv, err := c.store.Get(ctx, c.prefix+"config")
	if err != nil {
		return kv, fmt.Errorf("read config: %w", err)
	}
	return kv, nil
}

// PutConfig replaces the configuration if it still has revision rev (0: if there is none), and returns the new revision.
func (c *Cluster) PutConfig(ctx context.Context, yaml []byte, rev int64) (int64, error) {
	rev, err := c.store.CompareAndPut(ctx, c.prefix+"config", yaml, rev)
	if err != nil {
		return 0, fmt.Errorf("write config: %w", err)
	}
	return rev, nil
}

// Authority returns the sealed certificate authority and its revision, or ErrNotFound.
func (c *Cluster) Authority(ctx context.Context) (KV, error) {
	kv, err := c.store.Get(ctx, c.prefix+"authority")
	if err != nil {
		return kv, fmt.Errorf("read the certificate authority: %w", err)
	}
	return kv, nil
}

// PutAuthority replaces the sealed certificate authority if it still has revision rev (0: if there is none).
func (c *Cluster) PutAuthority(ctx context.Context, sealed []byte, rev int64) error {
	if _, err := c.store.CompareAndPut(ctx, c.prefix+"authority", sealed, rev); err != nil {
		return fmt.Errorf("write the certificate authority: %w", err)
	}
	return nil
}

// PutRequest records an operator's wish in the place of the one of revision rev (0: if there is none), and returns its
// revision. ErrConflict: surely not written. Any other error: unknown, and it may be written later; whoever gets one does
// not stand by the request, so that nobody will carry it out.
func (c *Cluster) PutRequest(ctx context.Context, r cluster.Request, rev int64) (int64, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("write request: %w", err)
	}
	if rev, err = c.store.CompareAndPut(ctx, c.prefix+"request", b, rev); err != nil {
		return 0, fmt.Errorf("write request: %w", err)
	}
	return rev, nil
}

// Request returns the operator's wish by a linearizable read, or ErrNotFound if there is none.
func (c *Cluster) Request(ctx context.Context) (cluster.Request, error) {
	var r cluster.Request
	kv, err := c.get(ctx, "request", &r)
	r.Revision = kv.Revision
	return r, err
}

// WithdrawRequest deletes the request if it is the one with that ID; ErrNotFound: it is not. One that takes its place
// meanwhile stays.
func (c *Cluster) WithdrawRequest(ctx context.Context, id string) error {
	for {
		r, err := c.Request(ctx)
		if err != nil {
			return err
		}
		if r.ID != id {
			return fmt.Errorf("request %s: %w", id, ErrNotFound)
		}
		switch err := c.store.CompareAndDelete(ctx, c.prefix+"request", r.Revision); {
		case err == nil:
			return nil
		case !errors.Is(err, ErrConflict): // after one it is looked at again: a switchover may just have begun
			return fmt.Errorf("delete request %s: %w", id, err)
		}
	}
}

func (c *Cluster) get(ctx context.Context, key string, into any) (KV, error) {
	kv, err := c.store.Get(ctx, c.prefix+key)
	if err != nil {
		return kv, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(kv.Value, into); err != nil {
		return kv, fmt.Errorf("read %s: %w", key, err)
	}
	return kv, nil
}

func (c *Cluster) put(ctx context.Context, key string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	if _, err := c.store.Put(ctx, c.prefix+key, b); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

func (c *Cluster) delete(ctx context.Context, key string) error {
	if err := c.store.Delete(ctx, c.prefix+key); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func reportKey(t cluster.Term, member string) string {
	return fmt.Sprintf("reports/%020d/%s", t, member)
}

func byName(a, b cluster.Member) int { return strings.Compare(a.Name, b.Name) }
