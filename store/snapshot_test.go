package store

import (
	"testing"

	"standfast/cluster"
)

// TestUnreadable: a full update with records that can't be decoded must not make a member think that there are none.
func TestUnreadable(t *testing.T) {
	f := newFolder("/p/")
	full := func(kvs ...KV) Snapshot {
		f.apply(Update{Full: true, Reset: kvs})
		return f.snapshot()
	}
	first := full(KV{"/p/state", []byte(`{"term":3}`), 7}, KV{"/p/members/a", []byte(`{"name":"a"}`), 8})
	if first.State.Term != 3 || first.State.Revision != 7 || len(first.Members) != 1 || first.Err != nil {
		t.Fatalf("%+v", first)
	}
	bad := full(KV{"/p/state", []byte(`{`), 9}, KV{"/p/members/a", []byte(`{`), 10})
	if bad.State == nil || bad.State.Term != 3 || len(bad.Members) != 1 || bad.Err == nil {
		t.Errorf("unreadable: %+v", bad)
	}
	if gone := full(); gone.State != nil || len(gone.Members) != 0 || gone.Err != nil {
		t.Errorf("gone: %+v", gone)
	}
}

// TestMisplaced: a report under another member's key is nobody's.
func TestMisplaced(t *testing.T) {
	f := newFolder("/p/")
	f.apply(Update{Full: true, Reset: []KV{
		{"/p/state", []byte(`{"term":3}`), 1},
		{"/p/" + reportKey(3, "pg1"), []byte(`{"term":3,"member":"pg2"}`), 2},
	}})
	if s := f.snapshot(); len(s.Reports) != 0 || s.Err == nil {
		t.Errorf("%+v", s)
	}
}

// TestWentBack: a record older than one seen before begins another generation, one that is as old or newer does not.
func TestWentBack(t *testing.T) {
	f := newFolder("/p/")
	for i, c := range []struct {
		revision   int64
		generation uint64
	}{{7, 0}, {7, 0}, {9, 0}, {5, 1}, {6, 1}} {
		f.apply(Update{Full: true, Reset: []KV{{"/p/state", []byte(`{"term":3}`), c.revision}}})
		if got := f.snapshot().Generation; got != c.generation {
			t.Errorf("%d: generation %d after revision %d, want %d", i, got, c.revision, c.generation)
		}
	}
}

// TestWhatChangesNothing: what a snapshot does not show makes no new one.
func TestWhatChangesNothing(t *testing.T) {
	f := newFolder("/p/")
	f.apply(Update{Full: true})
	for _, key := range []string{historyKey(cluster.Term(3)), "notes/1-a"} {
		for _, deleted := range []bool{false, true} {
			if f.apply(Update{Events: []Event{{KV: KV{Key: "/p/" + key}, Deleted: deleted}}}) {
				t.Errorf("%s counts as a change", key)
			}
		}
	}
}

// TestEpochs: of two foundings' records the newer one counts, in whatever order they come; each lies under its own key only.
func TestEpochs(t *testing.T) {
	old, anew := KV{"/p/state", []byte(`{"term":9}`), 3}, KV{"/p/" + stateKey(7), []byte(`{"term":2,"epoch":7}`), 2}
	for _, kvs := range [][]KV{{old, anew}, {anew, old}} {
		f := newFolder("/p/")
		f.apply(Update{Full: true, Reset: kvs})
		if s := f.snapshot(); s.State.Epoch != 7 || s.State.Term != 2 || s.State.Revision != 2 || s.Err != nil {
			t.Errorf("%+v", s)
		}
	}
	f := newFolder("/p/")
	f.apply(Update{Full: true, Reset: []KV{{"/p/state", []byte(`{"term":2,"epoch":7}`), 2}}})
	if s := f.snapshot(); s.State != nil || s.Err == nil {
		t.Errorf("a record under another epoch's key is believed: %+v", s)
	}
}

// TestGrantsInSnapshots: tokens come and go with the updates, and one that can't be read lets nobody in.
func TestGrantsInSnapshots(t *testing.T) {
	f := newFolder("/p/")
	put := func(value string) Update {
		return Update{Events: []Event{{KV: KV{"/p/tokens/op-a", []byte(value), 1}}}}
	}
	f.apply(Update{Full: true})
	if !f.apply(put(`{"id":"op-a","operator":"anna"}`)) {
		t.Error("a token is no news")
	}
	before := f.snapshot()
	if before.Grants["op-a"].Operator != "anna" {
		t.Errorf("%+v", before)
	}
	f.apply(put(`{`))
	if s := f.snapshot(); len(s.Grants) != 0 || s.Err == nil {
		t.Errorf("unreadable: %+v", s)
	}
	f.apply(put(`{"id":"op-a"}`))
	if !f.apply(Update{Events: []Event{{KV: KV{Key: "/p/tokens/op-a"}, Deleted: true}}}) {
		t.Error("a revoked token is no news")
	}
	if s := f.snapshot(); len(s.Grants) != 0 || s.Err != nil {
		t.Errorf("revoked: %+v", s)
	}
	if len(before.Grants) != 1 {
		t.Error("a snapshot was changed after it was delivered")
	}
}
