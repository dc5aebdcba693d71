package postgres_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/postgres"
)

// TestWhatASurvivorHolds: where WAL ends is read while the server runs and after it was killed, on one with the WAL elsewhere; then
// all of the data is set aside, once.
func TestWhatASurvivorHolds(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	a.cfg.WALDir = filepath.Join(w.dir, "pg1", "wal")
	a.SetConfig(a.cfg)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "checkpoint")
	began := time.Now().Add(-time.Minute)
	a.exec(t, "create table s as select 1")
	lsn, err := cluster.ParseLSN(a.value(t, "select pg_current_wal_insert_lsn()::text"))
	must(t, err)
	for _, how := range []string{"running", "killed"} {
		end, committed, err := a.WALEnd(ctx)
		must(t, err)
		if end.Timeline != 1 || end.LSN < lsn || end.LSN > lsn+1<<20 || committed.Before(began) || committed.After(time.Now().Add(time.Minute)) {
			t.Errorf("%s: WAL ends on %s, the newest commit is of %s; %s was written", how, end, committed, lsn)
		}
		if _, err := a.SetAside(".x"); how == "running" && err == nil {
			t.Fatal("data was set aside under a server that runs")
		}
		must(t, a.KillAll(ctx))
	}
	if data, _, err := a.Data(ctx); err != nil || data != cluster.NoData {
		t.Errorf("after it was set aside there is %s, %v", data, err)
	}
	for _, dir := range []string{a.cfg.DataDir + ".x/PG_VERSION", a.cfg.WALDir + ".x"} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("not kept: %v", err)
		}
	}
	must(t, a.Init(ctx)) // both directories are there, and empty
	must(t, a.Stop(ctx, postgres.Fast))
	kept, err := a.SetAside(".y")
	if err != nil || !slices.Contains(kept, a.cfg.DataDir+".y") {
		t.Errorf("kept %v, %v", kept, err)
	}
}
