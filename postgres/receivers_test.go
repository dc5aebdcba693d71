package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/postgres"
)

// receiveFrom gives every server of the world the same replication clients.
func (w *world) receiveFrom(names ...string) {
	for _, n := range w.nodes {
		n.cfg.ReplicationClients = nil
		for _, name := range names {
			n.cfg.ReplicationClients = append(n.cfg.ReplicationClients, postgres.ReplicationClient{Name: name, Role: name})
		}
		n.SetConfig(n.cfg)
	}
}

const slotNames = "select coalesce(string_agg(slot_name, ' ' order by slot_name), '') from pg_replication_slots"

// TestClientSlots: a client's slot is on the primary and on the standby, moves along there, and goes when the client does.
func TestClientSlots(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	w.receiveFrom("barman")
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	w.follow(b, a)
	slots, dropped, err := a.KeepClientSlots(ctx)
	must(t, err)
	if len(slots) != 1 || slots[0].Name != "barman" || slots[0].Active || slots[0].Restart == 0 || slots[0].Status != "reserved" || len(dropped) != 0 {
		t.Fatalf("on the primary: %+v, %v", slots, dropped)
	}
	if got := a.value(t, "select rolcanlogin::text || rolreplication::text || rolsuper::text from pg_roles where rolname = 'barman'"); got != "truetruefalse" {
		t.Errorf("the role: %s", got)
	}
	a.exec(t, "create table n (n int)")
	a.exec(t, "select pg_switch_wal()")
	a.exec(t, "insert into n values (1)")
	a.exec(t, "select pg_replication_slot_advance('barman', pg_current_wal_flush_lsn())")
	at := a.value(t, "select restart_lsn::text from pg_replication_slots where slot_name = 'barman'")
	w.awaitFlushed(b, a, a.observe(t).Postgres.Position.LSN)
	eventually(t, "the standby's slot follows", func() bool {
		theirs, lacking, err := b.FollowClientSlots(bounded(t), a.source())
		must(t, err)
		if len(theirs) != 1 || len(lacking) != 0 {
			t.Fatalf("on the standby: %+v, %v", theirs, lacking)
		}
		return b.value(t, "select restart_lsn::text from pg_replication_slots where slot_name = 'barman'") == at
	})

	w.receiveFrom("pg2")
	if _, _, err := a.KeepClientSlots(ctx); err == nil || !strings.Contains(err.Error(), "a member's own slot has this name") {
		t.Errorf("a client of a member's name: %v", err)
	}
	w.receiveFrom()
	a.exec(t, "select pg_create_physical_replication_slot('by_hand')")
	_, _, err = a.KeepClientSlots(ctx)
	must(t, err)
	_, _, err = b.FollowClientSlots(ctx, a.source())
	must(t, err)
	if got := a.value(t, slotNames); got != "by_hand pg2" {
		t.Errorf("slots of the primary after the client has been taken out: %s", got)
	}
	if got := b.value(t, slotNames); strings.Contains(got, "barman") {
		t.Errorf("slots of the standby after the client has been taken out: %s", got)
	}
}

// TestClientSlotGivenUp: a client that stays away longer than PostgreSQL may keep WAL for it has its slot made anew, and whoever
// looks is told.
func TestClientSlotGivenUp(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	a.cfg.Parameters["max_slot_wal_keep_size"], a.cfg.Parameters["wal_keep_size"], a.cfg.Parameters["max_wal_size"] = "1MB", "0", "32MB"
	a.cfg.Parameters["min_wal_size"] = "8MB"
	w.receiveFrom("barman")
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	before, _, err := a.KeepClientSlots(ctx)
	must(t, err)
	for range 4 {
		a.exec(t, "select pg_logical_emit_message(false, 't', 'x')")
		a.exec(t, "select pg_switch_wal()")
		a.exec(t, "checkpoint")
	}
	if got := a.value(t, "select wal_status from pg_replication_slots"); got != "lost" {
		t.Fatalf("the slot is %s", got)
	}
	slots, dropped, err := a.KeepClientSlots(ctx)
	must(t, err)
	if fmt.Sprint(dropped) != "[barman]" || len(slots) != 1 || slots[0].Restart <= before[0].Restart || slots[0].Status != "reserved" {
		t.Errorf("after PostgreSQL has given the WAL up: %+v, %v", slots, dropped)
	}
}

// TestImpostor: PostgreSQL counts whoever bears a member's name. Somebody else who does is not taken for the member by an
// observation, and is ended.
func TestImpostor(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "select pg_create_physical_replication_slot('archive')")
	dir := filepath.Join(w.dir, "archive")
	must(t, exec.Command("mkdir", "-m", "777", dir).Run())
	rctx, cancel := context.WithCancel(ctx)
	var said bytes.Buffer
	receive := exec.CommandContext(rctx, filepath.Join(w.binDir, "pg_receivewal"), "-D", dir, "--slot=archive", "--no-loop",
		"-d", fmt.Sprintf("host=%s port=%d user=postgres application_name=pg2", a.cfg.SocketDir, a.cfg.Port))
	receive.Stdout, receive.Stderr, receive.WaitDelay = &said, &said, time.Second
	must(t, receive.Start())
	defer func() {
		cancel()
		_ = receive.Wait() // its WAL sender was ended
	}()
	eventually(t, "the impostor receives", func() bool {
		return a.value(t, "select count(*)::text from pg_stat_replication where application_name = 'pg2'") == "1"
	})
	o := a.observe(t)
	if !o.Impostors || len(o.Postgres.Standbys) != 0 {
		t.Errorf("observed: %+v", o)
	}
	roles, err := a.EndImpostors(ctx)
	must(t, err)
	if !slices.Equal(roles, []string{"postgres"}) {
		t.Errorf("ended: %v", roles)
	}
	eventually(t, "the impostor is gone: "+said.String(), func() bool { return !a.observe(t).Impostors })
}
