package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/store"
	"standfast/store/embed"
)

var pg4 = cluster.Member{Name: "pg4", Kind: cluster.Data, Priority: 100, Beat: "127.0.0.4:8301", Postgres: "127.0.0.4:5432"}

// agreedMembers founds a cluster in the node's store, as reigning sees it.
func agreedMembers(t *testing.T, n *Node) cluster.View {
	t.Helper()
	ctx := t.Context()
	v := reigning(n)
	for _, m := range v.Members {
		if err := n.store.PutMember(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.store.PutConfig(ctx, []byte("postgresql: {hba: [\"host app app 10.0.0.11/32 scram-sha-256\"]}\n"), 0); err != nil {
		t.Fatal(err)
	}
	s, err := n.store.WriteState(ctx, *v.State)
	if err != nil {
		t.Fatal(err)
	}
	v.State = &s
	see(n, v)
	return v
}

func names(t *testing.T, n *Node) string {
	t.Helper()
	all, err := n.store.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(without(all, ""), " ")
}

// TestChangesOfMembersAreRefused, before anything is recorded, in words that name the thing.
func TestChangesOfMembersAreRefused(t *testing.T) {
	same := func(*cluster.View) {}
	silent := func(name string) func(*cluster.View) {
		return func(v *cluster.View) { p := v.Peers[name]; p.Heard = time.Minute; v.Peers[name] = p }
	}
	add := func(m cluster.Member) func(*Node) error {
		return func(n *Node) error {
			return n.AddMember(context.Background(), api.AddMemberRequest{Member: m}, (&heard{}).progress)
		}
	}
	remove := func(name string) func(*Node) error {
		return func(n *Node) error {
			return n.RemoveMember(context.Background(), api.RemoveMemberRequest{Name: name}, (&heard{}).progress)
		}
	}
	moved, squatter, barman := pg4, pg4, pg4
	moved.Name, squatter.Beat, barman.Name = "pg3", "127.0.0.2:8301", "barman"
	for name, c := range map[string]struct {
		view func(*cluster.View)
		do   func(*Node) error
		want string
	}{
		"add, electing":         {func(v *cluster.View) { v.State.Phase = cluster.Electing }, add(pg4), "wait until a primary reigns"},
		"add, elsewhere":        {same, add(moved), "node replace pg3"},
		"add, address taken":    {same, add(squatter), "pg2 is at 127.0.0.2:8301 already"},
		"add, a slot's name":    {same, add(barman), "name of a replication slot"},
		"add, one is silent":    {silent("pg2"), add(pg4), "pg2 is not heard from"},
		"remove the primary":    {func(v *cluster.View) { v.State.Primary = "pg2" }, remove("pg2"), "pg2 is the primary: hand its role over first"},
		"remove itself":         {func(v *cluster.View) { v.State.Primary = "pg2" }, remove("pg1"), "can't carry out its own removal"},
		"remove, electing":      {func(v *cluster.View) { v.State.Phase = cluster.Electing }, remove("pg3"), "wait until a primary reigns"},
		"remove, no majority":   {silent("pg2"), remove("pg3"), "without pg3 there are pg1, pg2, of which more than half have to run, and pg2 is not heard from"},
		"remove, asked for":     {func(v *cluster.View) { v.Request = &cluster.Request{Kind: cluster.Switchover, To: "pg3"} }, remove("pg3"), "a switchover to pg3 is asked for"},
		"remove, too few":       {func(v *cluster.View) { v.Settings.Copies = 2 }, remove("pg3"), "without pg3 only pg2 could hold one"},
		"remove, none attached": {func(v *cluster.View) { p := v.Peers["pg2"]; p.Beat.Attached = 1; v.Peers["pg2"] = p }, remove("pg3"), "only nobody could hold one"},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := bare(t, "pg1")
			n.agreed.cfg.PostgreSQL.ReplicationClients = []config.ReplicationClient{{Name: "barman"}}
			v := agreedMembers(t, n)
			c.view(&v)
			see(n, v)
			err := c.do(n)
			if kindOf(err) != api.Conflict || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want a conflict that says %q", err, c.want)
			}
			if _, err := n.store.Change(t.Context()); !errors.Is(err, store.ErrNotFound) || names(t, n) != "pg1 pg2 pg3" {
				t.Errorf("something was begun: %v, members %s", err, names(t, n))
			}
		})
	}
}

// TestAddMember writes its record and its router's lines, once, however often it is asked; a dry run writes nothing.
func TestAddMember(t *testing.T) {
	n, _ := bare(t, "pg1")
	agreedMembers(t, n)
	const line = "host app app 10.0.0.14/32 scram-sha-256"
	r := api.AddMemberRequest{Member: pg4, HBA: []string{line}, DryRun: true}
	h := &heard{}
	if err := n.AddMember(t.Context(), r, h.progress); err != nil || !h.said("more than half of 4 members is 3") || names(t, n) != "pg1 pg2 pg3" {
		t.Errorf("dry run: %v, %+v, members %s", err, h.steps, names(t, n))
	}
	r.DryRun = false
	for range 2 {
		if err := n.AddMember(t.Context(), r, h.progress); err != nil {
			t.Fatal(err)
		}
	}
	kv, err := n.store.Config(t.Context())
	if err != nil || strings.Count(string(kv.Value), line) != 1 || names(t, n) != "pg1 pg2 pg3 pg4" {
		t.Errorf("%v, members %s, configuration\n%s", err, names(t, n), kv.Value)
	}
	if _, err := n.store.Change(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the change has not ended: %v", err)
	}
	if err := n.RemoveMember(t.Context(), api.RemoveMemberRequest{Name: "pg4", HBA: r.HBA}, h.progress); err != nil {
		t.Fatal(err)
	}
	if kv, err = n.store.Config(t.Context()); err != nil || strings.Contains(string(kv.Value), line) || names(t, n) != "pg1 pg2 pg3" {
		t.Errorf("removed again: %v, members %s, configuration\n%s", err, names(t, n), kv.Value)
	}
}

// TestOneChangeAtATime: another waits for its end.
func TestOneChangeAtATime(t *testing.T) {
	n, _ := bare(t, "pg1")
	agreedMembers(t, n)
	if _, err := n.store.BeginChange(t.Context(), store.Change{Kind: store.Adding, Member: pg4, By: "anna"}); err != nil {
		t.Fatal(err)
	}
	err := n.RemoveMember(t.Context(), api.RemoveMemberRequest{Name: "pg3"}, (&heard{}).progress)
	if kindOf(err) != api.Conflict || !strings.Contains(err.Error(), "add is under way for pg4") || !strings.Contains(err.Error(), "anna") {
		t.Errorf("%v", err)
	}
	h := &heard{}
	if err := n.RemoveMember(t.Context(), api.RemoveMemberRequest{Name: "pg4"}, h.progress); err != nil || !h.said("pg4 is no member any more") {
		t.Errorf("what was begun is taken back: %v, %+v", err, h.steps)
	}
	if _, err := n.store.Change(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the change has not ended: %v", err)
	}
	h = &heard{}
	if err := n.RemoveMember(t.Context(), api.RemoveMemberRequest{Name: "pg4"}, h.progress); err != nil || len(h.steps) != 1 || h.steps[0].Step != api.StepNothing {
		t.Errorf("nobody of that name: %v, %+v", err, h.steps)
	}
}

// TestRemoveWaitsForTheRule: the record of a member stays until the agreed rule does without it, and is then gone from under
// whoever would take it in again by an older record.
func TestRemoveWaitsForTheRule(t *testing.T) {
	n, _ := bare(t, "pg1")
	v := agreedMembers(t, n)
	done := make(chan error, 1)
	go func() {
		done <- n.RemoveMember(t.Context(), api.RemoveMemberRequest{Name: "pg3"}, (&heard{}).progress)
	}()
	leaving := func() bool {
		all, err := n.store.Members(t.Context())
		return err == nil && slices.ContainsFunc(all, func(m cluster.Member) bool { return m.Name == "pg3" && m.Leaving && !m.Electable() })
	}
	for end := time.Now().Add(10 * time.Second); !leaving(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("pg3 is not marked")
		}
	}
	select {
	case err := <-done:
		t.Fatalf("it has ended while the rule counts on pg3: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if names(t, n) != "pg1 pg2 pg3" {
		t.Errorf("members %s while the rule counts on pg3", names(t, n))
	}
	next := *v.State
	next.Rule = cluster.NewRule(1, "pg2")
	next, err := n.store.WriteState(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	see(n, v)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if names(t, n) != "pg1 pg2" {
		t.Errorf("members %s", names(t, n))
	}
	next.Rule = cluster.NewRule(1, "pg2", "pg3") // by a primary that does not know of it yet
	if _, err := n.store.WriteState(t.Context(), next); !errors.Is(err, store.ErrConflict) {
		t.Errorf("pg3 is taken into the rule again: %v", err)
	}
}

// TestInterruptedRemovalIsTakenBack: a member that is not let go is one like the others again.
func TestInterruptedRemovalIsTakenBack(t *testing.T) {
	n, _ := bare(t, "pg1")
	agreedMembers(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := n.RemoveMember(ctx, api.RemoveMemberRequest{Name: "pg3"}, (&heard{}).progress); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	all, err := n.store.Members(t.Context())
	if err != nil || len(all) != 3 || all[2].Leaving {
		t.Errorf("%v %+v", err, all)
	}
}

// TestOutside: a host that was removed says so, and one that was not added yet, what to do; its record is not written by itself.
func TestOutside(t *testing.T) {
	n, _ := bare(t, "pg3")
	v := agreedMembers(t, n)
	if err := n.store.DeleteMember(t.Context(), "pg3"); err != nil {
		t.Fatal(err)
	}
	if err := n.seedOnce(t.Context()); err != nil || names(t, n) != "pg1 pg2" {
		t.Errorf("%v, members %s", err, names(t, n))
	}
	if n.outside(v) != "" || !n.listed() {
		t.Errorf("a member is outside: %s", n.outside(v))
	}
	v.Members = v.Members[:2]
	n.members.Store(&v.Members)
	if text := n.outside(v); !strings.Contains(text, "pg3 was removed from this cluster and stays out") || n.listed() {
		t.Errorf("it says %q", text)
	}
	if v.Promised = 0; !strings.Contains(n.outside(v), "pg3 is not a member of this cluster yet") {
		t.Errorf("it says %q", n.outside(v))
	}
	s := n.buildStatus(v, cluster.Route{}, time.Now())
	if len(s.Warnings) != 1 || s.Me() != nil {
		t.Errorf("%q", s.Warnings)
	}
}

// TestLeavingIsTold, so that nobody forgets what was interrupted.
func TestLeavingIsTold(t *testing.T) {
	n, _ := bare(t, "pg1")
	v := agreedMembers(t, n)
	v.Members = slices.Clone(v.Members)
	v.Members[2].Leaving = true
	if s := n.buildStatus(v, cluster.Route{Term: 2, Write: "pg1"}, time.Now()); len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "pg3 is being removed") {
		t.Errorf("%q", s.Warnings)
	}
}

// TestDepartedAreRemembered until their slots are gone, and not those who come back.
func TestDepartedAreRemembered(t *testing.T) {
	n, _ := bare(t, "pg1")
	all := *n.members.Load()
	two := all[:2]
	n.members.Store(&two)
	if n.noteDeparted(all); !n.departed["pg3"] || len(n.departed) != 1 {
		t.Errorf("%v", n.departed)
	}
	n.members.Store(&all)
	if n.noteDeparted(two); len(n.departed) != 0 {
		t.Errorf("%v", n.departed)
	}
}

// TestEtcdOfAnAddedMember is not started before the others have it on their list, and what an earlier membership has left is taken
// away then, and only then.
func TestEtcdOfAnAddedMember(t *testing.T) {
	h := newHost(t)
	prepare := func() *etcd {
		t.Helper()
		n := &Node{cfg: h.config(t, "join=true"), log: quiet}
		n.cfg.Etcd.Endpoints = nil
		if err := errors.Join(n.makeDirs(), n.loadTLS(), n.prepareEtcd()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.etcd.close(); err != nil {
				t.Error(err)
			}
		})
		return n.etcd
	}
	e := prepare()
	if _, err := embed.Load(e.config); !e.waits || err == nil {
		t.Errorf("it waits %t, and its configuration is there (%v)", e.waits, err)
	}
	data := filepath.Join(e.conf.DataDir, "member")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if e = prepare(); !e.waits {
		t.Error("with data of an earlier membership it does not wait")
	}
	place := embed.Place{Number: "a1", Initial: map[string]string{"pg1": "https://127.0.0.2:2380", "w": e.conf.PeerURL}}
	if err := e.begin(place); err != nil || e.waits || e.hasData() {
		t.Errorf("%v: it waits %t, the data of an earlier membership is there: %t", err, e.waits, e.hasData())
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.begin(place); err != nil || !e.hasData() {
		t.Errorf("%v: it was killed at its first start, and its data is gone", err)
	}
	if e = prepare(); e.waits || e.conf.Added != "a1" || e.conf.State != embed.StateExisting || len(e.conf.InitialCluster) != 2 {
		t.Errorf("started again: waits %t, %+v", e.waits, e.conf)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if e = prepare(); !e.waits {
		t.Error("its data is lost, and it does not wait")
	}
}
