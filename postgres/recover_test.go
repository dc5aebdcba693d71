package postgres_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/cluster"
	"standfast/postgres"
)

// archive has a server archive into a directory, and returns the commands that put WAL there and get it from there.
func (w *world) archive(n *node) (dir, get string) {
	dir = filepath.Join(w.dir, "archive")
	must(w.t, os.Mkdir(dir, 0o700))
	w.own(dir)
	n.cfg.Parameters["archive_mode"], n.cfg.Parameters["archive_command"] = "on", "cp %p "+dir+"/%f"
	n.SetConfig(n.cfg)
	return dir, "cp " + dir + "/%f %p"
}

// await waits until a server's query gives what is wanted.
func (n *node) await(t *testing.T, query, want string) {
	t.Helper()
	ctx := bounded(t)
	for n.value(t, query) != want {
		if ctx.Err() != nil {
			t.Fatalf("%s did not become %s", query, want)
		}
	}
}

// TestRecoverToBeforeAMistake backs a server up, drops a table afterwards, and recovers a copy to just before.
func TestRecoverToBeforeAMistake(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	_, get := w.archive(a)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "create table t as select generate_series(1, 1000) as n")
	if _, err := a.WriteTermRow(ctx, 7); err != nil {
		t.Fatal(err)
	}

	if err := a.BeginRestore(ctx); !errors.Is(err, postgres.ErrOccupied) {
		t.Fatalf("a restore over data: %v", err)
	}
	must(t, b.BeginRestore(ctx))
	must(t, postgres.Backup(ctx, b.cfg, a.source(), postgres.BackupSpec{Dir: b.cfg.DataDir, Plain: true, Label: "test"}, nil))
	must(t, postgres.VerifyBackup(ctx, b.cfg, b.cfg.DataDir))
	if d, _, err := b.Data(ctx); d != cluster.DataPartial || err != nil {
		t.Fatalf("before it is recovered it counts as %s, %v", d, err)
	}

	a.exec(t, "insert into t select generate_series(1001, 2000)")
	target, err := cluster.ParseLSN(a.value(t, "select pg_current_wal_insert_lsn()::text"))
	must(t, err)
	a.exec(t, "drop table t")
	file := a.value(t, "select pg_walfile_name(pg_switch_wal())")
	a.await(t, "select (last_archived_wal >= '"+file+"')::text from pg_stat_archiver", "true")

	if _, err := b.Recover(ctx, postgres.Recovery{Command: "echo no such repository; false"}, func(string) {}); err == nil || !strings.Contains(err.Error(), "no such repository") {
		t.Fatalf("a restore command that brings nothing: %v", err)
	}
	got, err := b.Recover(ctx, postgres.Recovery{Command: get, LSN: target, Above: 4}, func(string) {})
	must(t, err)
	_, id, err := a.Data(ctx)
	must(t, err)
	if got.Timeline != 5 || got.Term != 7 || got.LSN < target {
		t.Errorf("recovered: %+v; want timeline 5, above all that were used, and term 7", got)
	}
	d, mine, err := b.Data(ctx)
	if d != cluster.DataReady || err != nil || mine != got.SystemID || mine == id || !strings.HasPrefix(mine, id+"/") {
		t.Errorf("the data is %s of %s, %v; the old cluster's is %s", d, mine, err, id)
	}
	if left, _ := filepath.Glob(filepath.Join(b.cfg.DataDir, "*.signal")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	must(t, b.StartStandby(ctx))
	b.relay.awaitHeld(t)
	if rows := b.value(t, "select count(*)::text from t"); rows != "2000" {
		t.Errorf("%s rows", rows)
	}
	if s := b.value(t, "select current_setting('restore_command') || current_setting('recovery_target_lsn')"); s != "" {
		t.Errorf("of the recovery there is left: %s", s)
	}
	must(t, b.Promote(ctx, 6, cluster.NewRule(0)))
}

// TestRecoverCutShort begins anew over what an earlier attempt has left, and needs nobody's archive.
func TestRecoverCutShort(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "create table t as select generate_series(1, 1000) as n")
	must(t, b.BeginRestore(ctx))
	must(t, os.WriteFile(filepath.Join(b.cfg.DataDir, "half"), nil, 0o600))
	must(t, b.Vacant())
	must(t, b.BeginRestore(ctx))
	must(t, postgres.Backup(ctx, b.cfg, a.source(), postgres.BackupSpec{Dir: b.cfg.DataDir, Plain: true, Label: "test"}, nil))
	if _, err := b.Recover(ctx, postgres.Recovery{TargetName: "nobody made it"}, func(string) {}); err == nil || !strings.Contains(err.Error(), "before configured recovery target was reached") {
		t.Fatalf("a target that is not there: %v", err)
	}
	got, err := b.Recover(ctx, postgres.Recovery{}, func(string) {})
	if err != nil || got.Timeline != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := b.BeginRestore(ctx); !errors.Is(err, postgres.ErrOccupied) {
		t.Errorf("a restore over a restore that ended: %v", err)
	}
}
