package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/postgres"
)

// declare gives every server of the world the same logical slots.
func (w *world) declare(slots ...postgres.Slot) {
	for _, n := range w.nodes {
		n.cfg.Slots = slots
		n.SetConfig(n.cfg)
	}
}

// in runs a statement in a database, as the superuser.
func (n *node) in(t *testing.T, database, sql string, args ...any) (ids []string) {
	t.Helper()
	ctx := bounded(t)
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", n.cfg.SocketDir, n.cfg.Port, database))
	must(t, err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(ctx, sql, args...)
	must(t, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return ids
}

// consume takes the next changes from the slot app and returns the rows that were inserted.
func (n *node) consume(t *testing.T) (rows []string) {
	t.Helper()
	for _, change := range n.in(t, "app", "select data from pg_logical_slot_get_changes('app', null, null, 'skip-empty-xacts', '1')") {
		if _, row, ok := strings.Cut(change, "INSERT: n[integer]:"); ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// followSlots is what a standby's agent does at intervals.
func (n *node) followSlots(t *testing.T, primary *node) error {
	t.Helper()
	ctx := bounded(t)
	return n.FollowLogicalSlots(ctx, postgres.Follow{From: primary.source(), Restart: func(ctx context.Context) error {
		return errors.Join(n.Stop(ctx, postgres.Fast), n.StartStandby(ctx))
	}})
}

// awaitSlot waits until the standby has the slot app ready for a failover, while a subscriber is at work: PostgreSQL 17 waits
// for the slot on the primary to move past where the standby began.
func (w *world) awaitSlot(n, primary *node) {
	t := w.t
	t.Helper()
	ready := "select slot_name::text from pg_replication_slots where slot_name = 'app'"
	if w.major >= 17 {
		ready += " and synced and not temporary"
	}
	eventually(t, n.cfg.Name+" has the slot", func() bool {
		primary.in(t, "app", "insert into n values (0) returning n::text")
		primary.exec(t, "checkpoint") // which logs the running transactions that a slot gets on by; the server alone does every 15 s
		primary.consume(t)
		must(t, n.followSlots(t, primary))
		return len(n.in(t, "postgres", ready)) == 1
	})
}

// TestLogicalSlotFollows: what a subscriber has not confirmed at the old primary it gets from the new one, it gets nothing
// from before its own start, and the old primary has the slot again when it has come back.
func TestLogicalSlotFollows(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	w.declare(postgres.Slot{Name: "app", Database: "app", Plugin: "test_decoding"})
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "create database app")
	a.in(t, "app", "create table n (n int)")
	a.in(t, "app", "insert into n values (0) returning n::text")
	w.follow(b, a)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2"), true))
	w.awaitStreaming(b, a)
	must(t, a.KeepLogicalSlots(ctx))
	must(t, a.KeepLogicalSlots(ctx))

	insert := func(n *node, row int) {
		n.in(t, "app", fmt.Sprintf("insert into n values (%d) returning n::text", row))
	}
	w.awaitSlot(b, a)
	insert(a, 1)
	if got := fmt.Sprint(a.consume(t)); got != "[1]" {
		t.Fatalf("before the failover: %s", got)
	}
	insert(a, 2)
	b.relay.attach("")
	b.relay.awaitHeld(t)
	must(t, a.KillAll(ctx))
	must(t, b.Promote(ctx, 2, cluster.NewRule(0)))
	must(t, b.KeepLogicalSlots(ctx))
	insert(b, 3)
	if got := fmt.Sprint(b.consume(t)); !strings.HasSuffix(got, "2 3]") { // some may come again
		t.Fatalf("after the failover: %s", got)
	}

	must(t, b.Checkpoint(ctx))
	must(t, a.Rewind(ctx, b.source()))
	must(t, a.StartStandby(ctx))
	a.relay.attach(b.addr())
	w.awaitStreaming(a, b)
	w.awaitSlot(a, b)
	if got := b.value(t, "select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots"); got != "app pg1" {
		t.Errorf("slots on the primary: %s", got)
	}
}

// TestLogicalSlotLost: a slot that was made and did not follow is not made again behind its subscriber's back, before it
// has been taken out of the declaration.
func TestLogicalSlotLost(t *testing.T) {
	w := newWorld(t, "pg1")
	app := postgres.Slot{Name: "app", Database: "postgres", Plugin: "test_decoding"}
	w.declare(app)
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	must(t, a.KeepLogicalSlots(ctx))
	a.exec(t, "select pg_drop_replication_slot('app')")
	var lost *postgres.SlotLostError
	if err := a.KeepLogicalSlots(ctx); !errors.As(err, &lost) || fmt.Sprint(lost.Names) != "[app]" {
		t.Fatalf("a slot that is gone: %v", err)
	}
	slots := "select count(*)::text from pg_replication_slots"
	if got := a.value(t, slots); got != "0" {
		t.Fatal("it was made again")
	}
	w.declare()
	must(t, a.KeepLogicalSlots(ctx))
	w.declare(app)
	must(t, a.KeepLogicalSlots(ctx))
	if got := a.value(t, slots); got != "1" {
		t.Fatal("it was not made anew")
	}
	w.declare(app, postgres.Slot{Name: "pg1", Database: "postgres", Plugin: "test_decoding"},
		postgres.Slot{Name: "other", Database: "nowhere", Plugin: "test_decoding"})
	err := a.KeepLogicalSlots(ctx)
	if err == nil || !strings.Contains(err.Error(), "a member's own slot has this name") || !strings.Contains(err.Error(), `database "nowhere" does not exist`) {
		t.Errorf("bad declarations: %v", err)
	}
	w.declare()
	must(t, a.KeepLogicalSlots(ctx))
	if got := a.value(t, slots); got != "0" {
		t.Error("a slot that is declared no longer is still there")
	}
}

// TestUnprovenSlotIsDropped: a copy that nothing is known about does not become a primary's slot.
func TestUnprovenSlotIsDropped(t *testing.T) {
	w := newWorld(t, "pg1")
	if w.major >= 17 {
		t.Skip("from version 17 on PostgreSQL keeps the slots of standbys itself")
	}
	a := w.nodes["pg1"]
	ctx := bounded(t)
	w.declare(postgres.Slot{Name: "app", Database: "postgres", Plugin: "test_decoding"})
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "select pg_create_logical_replication_slot('app', 'test_decoding')")
	must(t, a.Stop(ctx, postgres.Fast))
	must(t, a.StartStandby(ctx))
	eventually(t, "it answers", func() bool { return a.Ping(ctx) == nil })
	must(t, a.Promote(ctx, 2, cluster.NewRule(0)))
	if got := a.value(t, "select count(*)::text from pg_replication_slots"); got != "0" {
		t.Error("it was kept")
	}
}
