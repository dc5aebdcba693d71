package postgres_test

import (
	"slices"
	"strings"
	"testing"

	"standfast/cluster"
	"standfast/postgres"
)

// TestParameters sets good and bad ones on a running server.
func TestParameters(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	if err := a.CheckParameters(ctx, map[string]string{"work_mem": "lots"}); err == nil {
		t.Error("before there is data nothing is checked")
	}
	must(t, a.CheckParameters(ctx, map[string]string{"work_mem": "5MB"}))
	must(t, a.Init(ctx))
	for _, c := range []struct{ name, value, want string }{
		{"work_mem", "lots", `invalid value for parameter "work_mem": "lots"`},
		{"no_such_parameter", "1", `unrecognized configuration parameter "no_such_parameter"`},
		{"shared_preload_libraries", "no_such_library", `could not access file "no_such_library"`},
		{"shared_buffers", "4TB", "lower shared_buffers"},
		{"primary_conninfo", "host=elsewhere", "command line"},
		{"synchronous_standby_names", "", "commit rule"},
		{"Restart_After_Crash", "on", "command line"},
	} {
		if w.major < 15 && (c.name == "shared_preload_libraries" || c.name == "shared_buffers") {
			t.Logf("not checked before PostgreSQL 15: %s", c.name)
			continue
		}
		params := map[string]string{"shared_buffers": "16MB", "max_connections": "30", c.name: c.value}
		if _, err := a.ApplyParameters(ctx, params); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %s: %v", c.name, c.value, err)
		}
	}
	waiting, err := a.ApplyParameters(ctx, map[string]string{"shared_buffers": "24MB", "max_connections": "30", "work_mem": "5MB"})
	if err != nil || !slices.Equal(waiting.Restart, []string{"shared_buffers"}) || waiting.Raised != nil {
		t.Fatalf("waiting: %+v, %v", waiting, err)
	}
	if got := a.value(t, "show work_mem"); got != "5MB" {
		t.Fatalf("work_mem is %s", got)
	}
	must(t, a.Stop(ctx, postgres.Fast))
	must(t, a.StartStandby(ctx))
	eventually(t, "it answers", func() bool { return a.Ping(ctx) == nil })
	if got := a.value(t, "show shared_buffers"); got != "24MB" {
		t.Fatalf("after the restart shared_buffers is %s", got)
	}
}

// TestFilesCannotOverrideSafety writes into every file what a site or a stray tool might.
func TestFilesCannotOverrideSafety(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	a.exec(t, "alter system set primary_conninfo = 'host=elsewhere'")
	a.exec(t, "alter system set restart_after_crash = on")
	a.exec(t, "alter system set restore_command = 'cp /archive/%f %p'")
	a.exec(t, "alter system set work_mem = '6MB'")
	must(t, a.Reload(ctx))
	check := func() {
		t.Helper()
		for name, want := range map[string]string{"primary_slot_name": "pg1", "restart_after_crash": "off", "restore_command": "", "work_mem": "6MB"} {
			if got := a.value(t, "select setting from pg_settings where name = $1", name); got != want && name != "work_mem" {
				t.Errorf("%s is %q", name, got)
			}
		}
		if got := a.value(t, "show primary_conninfo"); !strings.Contains(got, a.cfg.RelayDir) {
			t.Errorf("primary_conninfo is %q", got)
		}
	}
	check()
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	must(t, a.Stop(ctx, postgres.Fast))
	must(t, a.StartStandby(ctx))
	eventually(t, "it answers", func() bool { return a.Ping(ctx) == nil })
	check()
	if got := a.value(t, "select count(*)::text from pg_file_settings where name in ('primary_conninfo', 'restore_command')"); got != "0" {
		t.Error("a start left settings of ours in a file")
	}
	if got := a.value(t, "show work_mem"); got != "6MB" {
		t.Errorf("the site's work_mem is %s", got)
	}
	if got := a.observe(t).Postgres.Names; !got.Same(cluster.NewRule(1)) {
		t.Errorf("names after a start: %v", got)
	}
}

// TestSlots makes, advances and renews them on a primary and on a standby.
func TestSlots(t *testing.T) {
	w := newWorld(t, "pg1", "pg2", "pg3")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	w.follow(b, a)
	must(t, b.EnsureSlots(ctx, w.names))
	must(t, b.EnsureSlots(ctx, w.names))
	if got := b.value(t, "select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots"); got != "pg1 pg3" {
		t.Fatalf("slots on the standby: %s", got)
	}
	a.exec(t, "create table t as select generate_series(1, 1000) as n")
	to := a.observe(t).Postgres.Position.LSN
	eventually(t, "the standby has replayed", func() bool { return b.observe(t).Postgres.Replayed >= to })
	for _, n := range []*node{a, b} {
		must(t, n.AdvanceSlots(ctx, map[string]cluster.LSN{"pg3": to, "pg2": to, "unknown": to}))
		if got := n.value(t, "select restart_lsn::text from pg_replication_slots where slot_name = 'pg3'"); got != to.String() {
			t.Errorf("%s: the slot is at %s, want %s", n.cfg.Name, got, to)
		}
		must(t, n.AdvanceSlots(ctx, map[string]cluster.LSN{"pg3": to - 8})) // backwards: left alone
	}
	// Too much WAL for the slot that nobody reads.
	a.exec(t, "alter system set max_slot_wal_keep_size = '1MB'")
	a.exec(t, "alter system set wal_keep_size = 0")
	a.exec(t, "alter system set max_wal_size = '32MB'")
	must(t, a.Reload(ctx))
	for range 4 {
		a.exec(t, "insert into t select 1 from generate_series(1, 10)")
		a.exec(t, "select pg_switch_wal()")
	}
	must(t, a.Checkpoint(ctx))
	if got := a.value(t, "select wal_status from pg_replication_slots where slot_name = 'pg3'"); got != "lost" {
		t.Fatalf("the slot is %s, which this test rests on", got)
	}
	must(t, a.EnsureSlots(ctx, w.names))
	if got := a.value(t, "select wal_status from pg_replication_slots where slot_name = 'pg3'"); got != "reserved" {
		t.Errorf("the slot is %s", got)
	}
	must(t, a.DropSlot(ctx, "pg3"))
	must(t, a.DropSlot(ctx, "pg3"))
}
