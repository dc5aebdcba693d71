package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"standfast/cluster"
)

// Snapshot is everything agreed, at one moment. It is never changed after it was delivered and must not be changed by
// its readers.
type Snapshot struct {
	State   *cluster.State            // nil before the first
	Reports map[string]cluster.Report // of State.Term, by member
	Members []cluster.Member          // sorted by name
	Former  []cluster.Member          // of the epoch before, sorted by name
	Config  KV                        // Value nil, Revision 0: there is none
	Request *cluster.Request          // nil: there is none
	Grants  map[string]Grant          // by ID
	At      time.Time                 // when it arrived here

	// Generation is raised when the store turns out to be another one than before, restored from a backup for example.
	// Revisions of different generations can't be compared.
	Generation uint64

	// Err says which records could not be decoded (written by a newer version, or by hand). Of these the last readable
	// version is shown.
	Err error
}

// Watch delivers the newest snapshot now and after every change, at once. A slow reader misses intermediate snapshots,
// never the newest. The channel is closed when ctx ends or the store is closed; the reader must not be the only thing
// that keeps it alive: end ctx.
func (c *Cluster) Watch(ctx context.Context) <-chan Snapshot {
	out := make(chan Snapshot)
	updates := c.store.Watch(ctx, c.prefix)
	go func() {
		defer close(out)
		f := newFolder(c.prefix)
		var newest Snapshot
		var ready chan<- Snapshot // nil while the reader has the newest
		for {
			select {
			case u, ok := <-updates:
				if !ok {
					return
				}
				if f.apply(u) {
					newest, ready = f.snapshot(), out
				}
			case ready <- newest:
				ready = nil
			}
		}
	}()
	return out
}

// folder folds updates into the records that a snapshot shows.
type folder struct {
	prefix  string
	state   *cluster.State
	reports map[cluster.Term]map[string]cluster.Report
	members map[string]cluster.Member
	former  map[string]cluster.Member
	config  KV
	request *cluster.Request
	grants  map[string]Grant
	age     uint64           // Snapshot.Generation
	errs    map[string]error // by key
}

func newFolder(prefix string) *folder {
	f := &folder{prefix: prefix}
	f.clear()
	return f
}

func (f *folder) clear() {
	f.state, f.config, f.request = nil, KV{}, nil
	f.reports = map[cluster.Term]map[string]cluster.Report{}
	f.members, f.former = map[string]cluster.Member{}, map[string]cluster.Member{}
	f.grants = map[string]Grant{}
	f.errs = map[string]error{}
}

// apply reports whether the update changed anything that a snapshot shows.
func (f *folder) apply(u Update) bool {
	changed := u.Full
	if u.Full {
		old := *f
		f.clear()
		if u.Anew || old.wentBack(u.Reset) {
			f.age++
			old = folder{}
		}
		for _, kv := range u.Reset {
			f.put(kv)
		}
		f.keepUnreadable(old)
	}
	for _, e := range u.Events {
		key := strings.TrimPrefix(e.KV.Key, f.prefix)
		if e.Deleted {
			changed = f.drop(key) || changed
		} else {
			changed = f.put(e.KV) || changed
		}
	}
	return changed
}

// wentBack reports whether the agreed record is older than one seen before, which only a restored store can show: a full update
// is read after all that was delivered earlier. It tells where revisions were raised by hand (etcdutl's --bump-revision), too.
func (f *folder) wentBack(kvs []KV) bool {
	for _, kv := range kvs {
		if f.state != nil && kv.Key == f.prefix+stateKey(f.state.Epoch) {
			return kv.Revision < f.state.Revision
		}
	}
	return false
}

// keepUnreadable brings the agreed record back that a full update made undecodable: without it a member would think that
// there has never been one.
func (f *folder) keepUnreadable(old folder) {
	for key := range f.errs {
		if kind, _, _ := strings.Cut(key, "@"); kind == "state" && f.state == nil {
			f.state = old.state
		}
	}
	if f.errs["request"] != nil && f.request == nil {
		f.request = old.request
	}
	for key := range f.errs {
		name, ok := strings.CutPrefix(key, "members/")
		if m, had := old.members[name]; ok && had {
			f.members[name] = m
		}
	}
}

func (f *folder) put(kv KV) bool {
	key := strings.TrimPrefix(kv.Key, f.prefix)
	kind, rest, _ := strings.Cut(key, "/")
	kind, _, _ = strings.Cut(kind, "@")
	var err error
	switch kind {
	case "state":
		var s cluster.State
		if err = json.Unmarshal(kv.Value, &s); err == nil && stateKey(s.Epoch) != key {
			err = fmt.Errorf("it holds the record of epoch %d", s.Epoch)
		}
		if err == nil && (f.state == nil || s.Epoch >= f.state.Epoch) {
			s.Revision = kv.Revision
			f.state = &s
			maps.DeleteFunc(f.reports, func(t cluster.Term, _ map[string]cluster.Report) bool { return t < s.Term })
		}
	case "request":
		var r cluster.Request
		if err = json.Unmarshal(kv.Value, &r); err == nil {
			r.Revision = kv.Revision
			f.request = &r
		}
	case "config":
		f.config = kv
	case "members":
		var m cluster.Member
		if err = json.Unmarshal(kv.Value, &m); err == nil {
			f.members[rest] = m
		}
	case "former":
		var m cluster.Member
		if err = json.Unmarshal(kv.Value, &m); err == nil {
			f.former[rest] = m
		}
	case "tokens":
		delete(f.grants, rest) // one that can't be read lets nobody in
		var g Grant
		if err = json.Unmarshal(kv.Value, &g); err == nil {
			f.grants[rest] = g
		}
	case "reports":
		err = f.putReport(rest, kv.Value)
	default:
		return false
	}
	delete(f.errs, key)
	if err != nil {
		f.errs[key] = fmt.Errorf("read %s: %w", key, err)
	}
	return true
}

func (f *folder) putReport(key string, value []byte) error {
	var r cluster.Report
	if err := json.Unmarshal(value, &r); err != nil {
		return err
	}
	if reportKey(r.Term, r.Member) != "reports/"+key {
		return fmt.Errorf("it holds the report of %s in term %d", r.Member, r.Term)
	}
	if f.reports[r.Term] == nil {
		f.reports[r.Term] = map[string]cluster.Report{}
	}
	f.reports[r.Term][r.Member] = r
	return nil
}

func (f *folder) drop(key string) bool {
	delete(f.errs, key)
	kind, rest, _ := strings.Cut(key, "/")
	switch kind {
	case "state":
		f.state = nil
	case "former":
		delete(f.former, rest)
	case "request":
		f.request = nil
	case "config":
		f.config = KV{}
	case "members":
		delete(f.members, rest)
	case "tokens":
		delete(f.grants, rest)
	case "reports":
		for t, of := range f.reports {
			maps.DeleteFunc(of, func(m string, _ cluster.Report) bool { return reportKey(t, m) == key })
		}
	default:
		return false
	}
	return true
}

// snapshot copies what may still change.
func (f *folder) snapshot() Snapshot {
	s := Snapshot{State: f.state, Config: f.config, Request: f.request, Generation: f.age, Grants: maps.Clone(f.grants), Reports: map[string]cluster.Report{}, At: time.Now()}
	if f.state != nil {
		maps.Copy(s.Reports, f.reports[f.state.Term])
	}
	s.Members = slices.SortedFunc(maps.Values(f.members), byName)
	s.Former = slices.SortedFunc(maps.Values(f.former), byName)
	for _, key := range slices.Sorted(maps.Keys(f.errs)) {
		s.Err = errors.Join(s.Err, f.errs[key])
	}
	return s
}
