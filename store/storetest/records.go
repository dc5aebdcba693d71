package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/store"
)

// records writes and reads every kind of record.
func records(t *testing.T, w World, _ string) {
	ctx := within(t)
	a, b := store.New(open(t, w), "records"), store.New(open(t, w), "records")
	if _, err := a.State(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("state of a new cluster: %v, want ErrNotFound", err)
	}
	first := must(a.WriteState(ctx, cluster.State{Cluster: "records", Term: 1, Phase: cluster.Electing, Rule: cluster.NewRule(1, "pg2", "pg3")}))(t)
	got := must(b.State(ctx))(t)
	if got.Revision != first.Revision || got.Term != 1 || !got.Rule.Equal(first.Rule) {
		t.Errorf("read %+v, written %+v", got, first)
	}
	if _, err := b.WriteState(ctx, cluster.State{Term: 1}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a second first state: %v, want ErrConflict", err)
	}
	second := must(b.WriteState(ctx, got.Next("elected", "pg2", 7)))(t)
	if _, err := a.WriteState(ctx, first); !errors.Is(err, store.ErrConflict) {
		t.Errorf("write over an old revision: %v, want ErrConflict", err)
	}
	if second.Revision <= first.Revision || len(must(a.State(ctx))(t).Steps) != 1 {
		t.Errorf("second state %+v", second)
	}

	anew := store.New(open(t, w), "anew") // founded in epoch 7: whoever knows of none finds it, and can write nothing over it
	founded := must(anew.WriteState(ctx, cluster.State{Epoch: 7, Term: 101}))(t)
	of := store.New(open(t, w), "anew")
	if got := must(of.State(ctx))(t); got.Epoch != 7 || got.Term != 101 || got.Revision != founded.Revision {
		t.Errorf("read %+v", got)
	}
	if _, err := of.WriteState(ctx, cluster.State{Term: 3, Revision: founded.Revision}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a member of the epoch before writes over a revision that happens to be the same: %v, want ErrConflict", err)
	}

	for _, name := range []string{"pg2", "pg1"} {
		do(ctx, t, func() error { return a.PutMember(ctx, cluster.Member{Name: name, Kind: cluster.Data}) })
	}
	if m := must(b.Members(ctx))(t); len(m) != 2 || m[0].Name != "pg1" {
		t.Errorf("members %+v, want pg1 and pg2", m)
	}
	do(ctx, t, func() error { return a.DeleteMember(ctx, "pg1") })
	if m := must(b.Members(ctx))(t); len(m) != 1 {
		t.Errorf("after one was deleted: members %+v", m)
	}

	changes(t, a, b)
	rev := must(a.PutConfig(ctx, []byte("a: 1"), 0))(t)
	if _, err := b.PutConfig(ctx, []byte("a: 2"), 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("config over an unseen one: %v, want ErrConflict", err)
	}
	must(b.PutConfig(ctx, []byte("a: 3"), rev))(t)
	if kv := must(a.Config(ctx))(t); string(kv.Value) != "a: 3" {
		t.Errorf("config %q", kv.Value)
	}
	if _, err := a.Authority(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("authority of a new cluster: %v, want ErrNotFound", err)
	}
	do(ctx, t, func() error { return a.PutAuthority(ctx, []byte("sealed"), 0) })
	if err := b.PutAuthority(ctx, []byte("another"), 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an authority over an unseen one: %v, want ErrConflict", err)
	}
	if kv := must(b.Authority(ctx))(t); string(kv.Value) != "sealed" || kv.Revision == 0 {
		t.Errorf("authority %q of revision %d", kv.Value, kv.Revision)
	}
	grants(t, a, b)
	do(ctx, t, func() error {
		return a.PutNote(ctx, store.Note{At: 5, Member: "pg1", Kind: "joined", Text: "pg1 joined"})
	})
	if n := must(b.Notes(ctx))(t); len(n) != 1 || n[0].Kind != "joined" {
		t.Errorf("notes %+v", n)
	}
}

// grants are written once, and are gone when they are removed.
func grants(t *testing.T, a, b *store.Cluster) {
	t.Helper()
	ctx := within(t)
	g := store.Grant{ID: "op-aaaaaaaa", Operator: "anna", Role: "read", Hash: "12", By: "operator", Created: 1, Expires: 2}
	do(ctx, t, func() error { return a.AddGrant(ctx, g) })
	if err := b.AddGrant(ctx, store.Grant{ID: g.ID, Role: "operate"}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a second token of one ID: %v, want ErrConflict", err)
	}
	if all := must(b.Grants(ctx))(t); len(all) != 1 || all[0] != g {
		t.Errorf("tokens %+v", all)
	}
	do(ctx, t, func() error { return b.RemoveGrant(ctx, g.ID) })
	if err := a.RemoveGrant(ctx, g.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("remove a token that is gone: %v, want ErrNotFound", err)
	}
	if all := must(a.Grants(ctx))(t); len(all) != 0 {
		t.Errorf("after it was removed: tokens %+v", all)
	}
}

// changes of the members: one at a time, and a member that was removed is not brought back by whoever alters it. pg2 is one.
func changes(t *testing.T, a, b *store.Cluster) {
	ctx := within(t)
	leave := func(m *cluster.Member) bool { m.Leaving = true; return true }
	if err := b.AlterMember(ctx, "pg1", leave); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("alter a member that was removed: %v, want ErrNotFound", err)
	}
	do(ctx, t, func() error { return b.AlterMember(ctx, "pg2", leave) })
	do(ctx, t, func() error { return a.AlterMember(ctx, "pg2", func(*cluster.Member) bool { return false }) })
	if m := must(a.Members(ctx))(t); len(m) != 1 || !m[0].Leaving {
		t.Errorf("members %+v, want pg2, leaving", m)
	}
	if _, err := a.Change(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a change nobody began: %v, want ErrNotFound", err)
	}
	pg4 := cluster.Member{Name: "pg4", Kind: cluster.Data}
	first := must(a.BeginChange(ctx, store.Change{Kind: store.Adding, Member: pg4}))(t)
	if old, err := b.BeginChange(ctx, store.Change{Kind: store.Removing, Member: cluster.Member{Name: "pg2"}}); !errors.Is(err, store.ErrBusy) || old.Member.Name != "pg4" {
		t.Errorf("a second change: %v of %+v, want ErrBusy of pg4", err, old.Member)
	}
	second := must(b.BeginChange(ctx, store.Change{Kind: store.Removing, Member: pg4}))(t)
	do(ctx, t, func() error { return a.EndChange(ctx, first) })
	if c := must(a.Change(ctx))(t); c.Kind != store.Removing {
		t.Errorf("what was replaced has ended its successor: %+v", c)
	}
	for range 2 { // may be repeated
		do(ctx, t, func() error { return a.EndChange(ctx, second) })
	}
	if _, err := a.Change(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the end: %v, want ErrNotFound", err)
	}
}

// requests are written over what their writer saw only, and taken back only by their name.
func requests(t *testing.T, w World, _ string) {
	ctx := within(t)
	s := open(t, w)
	a, b := store.New(s, "wish"), store.New(open(t, w), "wish")
	if err := a.WithdrawRequest(ctx, "1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("withdraw of what was never asked: %v, want ErrNotFound", err)
	}
	first := must(a.PutRequest(ctx, cluster.Request{ID: "1"}, 0))(t)
	if _, err := b.PutRequest(ctx, cluster.Request{ID: "2"}, 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a request over an unseen one: %v, want ErrConflict", err)
	}
	second := must(b.PutRequest(ctx, cluster.Request{ID: "2"}, first))(t)
	if err := a.WithdrawRequest(ctx, "1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("withdraw of what was replaced: %v, want ErrNotFound", err)
	}
	if err := s.CompareAndDelete(ctx, "/standfast/wish/request", first); !errors.Is(err, store.ErrConflict) {
		t.Errorf("delete of an older revision: %v, want ErrConflict", err)
	}
	if r := must(a.Request(ctx))(t); r.ID != "2" || r.Revision != second {
		t.Errorf("request %+v", r)
	}
	if err := b.WithdrawRequest(ctx, "2"); err != nil {
		t.Error(err)
	}
	if _, err := a.Request(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after it was withdrawn: %v", err)
	}
	if err := s.CompareAndDelete(ctx, "/standfast/wish/request", second); !errors.Is(err, store.ErrConflict) {
		t.Errorf("delete of what is gone: %v, want ErrConflict", err)
	}
}

// snapshots follows a cluster through an election.
func snapshots(t *testing.T, w World, p string) {
	ctx := within(t)
	writer, s := store.New(open(t, w), "snap"), open(t, w)
	c := store.New(s, "snap").Watch(ctx)
	expect := func(what string, ok func(store.Snapshot) bool) store.Snapshot {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case snap, open := <-c:
				if !open {
					t.Fatalf("closed while waiting for %s", what)
				}
				if ok(snap) {
					return snap
				}
			case <-deadline:
				t.Fatalf("no snapshot with %s", what)
			}
		}
	}
	expect("nothing", func(s store.Snapshot) bool { return s.State == nil && len(s.Members) == 0 })
	state := must(writer.WriteState(ctx, cluster.State{Term: 4, Phase: cluster.Electing}))(t)
	for _, r := range []cluster.Report{{Term: 3, Member: "old"}, {Term: 4, Member: "pg2"}, {Term: 5, Member: "early"}} {
		do(ctx, t, func() error { return writer.PutReport(ctx, r) })
	}
	asked := must(writer.PutRequest(ctx, cluster.Request{ID: "r", Term: 4}, 0))(t)
	for _, name := range []string{"b", "a"} {
		do(ctx, t, func() error { return writer.PutMember(ctx, cluster.Member{Name: name}) })
	}
	rev := must(writer.PutConfig(ctx, []byte("x"), 0))(t)
	all := expect("all records", func(s store.Snapshot) bool { return s.Config.Revision == rev })
	_, reported := all.Reports["pg2"]
	if !reported || len(all.Reports) != 1 || all.Request == nil || all.Request.Revision != asked || len(all.Members) != 2 || all.Members[0].Name != "a" ||
		all.State.Revision != state.Revision || all.Err != nil {
		t.Errorf("snapshot %+v", all)
	}
	state.Term = 5
	state = must(writer.WriteState(ctx, state))(t)
	early := expect("term 5", func(s store.Snapshot) bool { return s.State.Term == 5 })
	if _, ok := early.Reports["early"]; !ok || len(early.Reports) != 1 {
		t.Errorf("reports of term 5: %v", early.Reports)
	}
	if all.State.Term != 4 || len(all.Reports) != 1 {
		t.Errorf("an old snapshot has changed: %+v", all)
	}
	do(ctx, t, func() error { return writer.WithdrawRequest(ctx, "r") })
	expect("no request", func(s store.Snapshot) bool { return s.Request == nil })

	put(ctx, t, s, "/standfast/snap/state", []byte("{garbage"))
	bad := expect("an error", func(s store.Snapshot) bool { return s.Err != nil })
	if bad.State == nil || bad.State.Term != 5 {
		t.Errorf("with an unreadable state the last readable one must stay: %+v", bad.State)
	}
	_ = p
}

// pruning: history, notes and reports stay bounded.
func pruning(t *testing.T, w World, _ string) {
	ctx := within(t)
	s := open(t, w)
	c := store.New(s, "prune")
	for term := range cluster.Term(store.KeptHistory + 5) {
		do(ctx, t, func() error { return c.PutReport(ctx, cluster.Report{Term: term, Member: "pg1"}) })
		do(ctx, t, func() error {
			return c.PutHistory(ctx, store.Entry{Term: term, Reason: fmt.Sprint("because of ", term)})
		})
	}
	h := must(c.History(ctx))(t)
	if len(h) != store.KeptHistory || h[0].Term != 5 || h[len(h)-1].Term != store.KeptHistory+4 {
		t.Errorf("%d entries, from term %d to %d", len(h), h[0].Term, h[len(h)-1].Term)
	}
	if kvs := must(s.List(ctx, "/standfast/prune/reports/"))(t); len(kvs) != 1 {
		t.Errorf("%d reports are left, want the newest term's", len(kvs))
	}
}
