package postgres_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/postgres"
)

// TestCloneKeepsPlaces clones a primary with a tablespace and a separate WAL directory, twice, the second time keeping
// the old data, and then fails to clone.
func TestCloneKeepsPlaces(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	for _, n := range []*node{a, b} {
		n.cfg.WALDir = filepath.Join(w.dir, n.cfg.Name, "wal")
		space := filepath.Join(w.dir, n.cfg.Name, "space")
		must(t, os.Mkdir(space, 0o700))
		w.own(space)
		n.cfg.Tablespaces = map[string]string{filepath.Join(w.dir, "pg1", "space"): filepath.Join(w.dir, "pg2", "space")}
		n.SetConfig(n.cfg)
	}
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "create tablespace space location '"+filepath.Join(w.dir, "pg1", "space")+"'")
	a.exec(t, "create table s tablespace space as select generate_series(1, 1000) as n")

	var calls int
	var last, total int64
	must(t, b.Clone(ctx, a.source(), func(d, all int64) { calls, last, total = calls+1, d, all }))
	if calls == 0 || last < 1<<20 || total < 1<<20 {
		t.Errorf("progress: %d calls, %d of %d bytes at last", calls, last, total)
	}
	if target, err := os.Readlink(filepath.Join(b.cfg.DataDir, "pg_wal")); err != nil || target != b.cfg.WALDir {
		t.Errorf("pg_wal leads to %q, %v", target, err)
	}
	must(t, b.StartStandby(ctx))
	b.relay.attach(a.addr())
	w.awaitStreaming(b, a)
	if got := b.value(t, "select count(*)::text from s"); got != "1000" {
		t.Fatalf("rows in the tablespace: %s", got)
	}
	if err := b.Clone(ctx, a.source(), nil); !errors.Is(err, postgres.ErrRunning) {
		t.Fatalf("cloned over a server that runs: %v", err)
	}
	must(t, b.Stop(ctx, postgres.Fast))
	must(t, os.WriteFile(filepath.Join(b.cfg.DataDir, "a note"), nil, 0o600))
	from := a.source()
	from.KeepOld = true
	must(t, b.Clone(ctx, from, nil))
	if _, err := os.Stat(b.cfg.DataDir + ".standfast.old/a note"); err != nil {
		t.Errorf("the old data was not kept: %v", err)
	}

	nowhere := postgres.Source{Host: "127.0.0.1", Port: freePort(t), KeepOld: true}
	if err := b.Clone(ctx, nowhere, nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("cloned from nowhere: %v", err)
	}
	if state, _, err := b.Data(ctx); err != nil || state != cluster.DataReady {
		t.Fatalf("a source that is away has cost the data: %s, %v", state, err)
	}

	other := filepath.Join(w.dir, "pg2", "other")
	must(t, os.Mkdir(other, 0o755))
	must(t, os.WriteFile(filepath.Join(other, "somebody's"), nil, 0o600))
	good := b.cfg
	bad := b.cfg
	bad.Tablespaces = map[string]string{filepath.Join(w.dir, "pg1", "space"): other}
	b.SetConfig(bad)
	if err := b.Clone(ctx, from, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("cloned over somebody's files: %v", err)
	}
	b.SetConfig(good)
	if state, _, err := b.Data(ctx); err != nil || state != cluster.DataPartial {
		t.Fatalf("half-made data is %s, %v", state, err)
	}
	if err := b.StartStandby(ctx); err == nil {
		t.Fatal("started half-made data")
	}
	must(t, b.Clone(ctx, from, nil))
	if _, err := os.Stat(b.cfg.DataDir + ".standfast.old/PG_VERSION"); err != nil {
		t.Errorf("an attempt that failed has cost the old data: %v", err)
	}
	if state, _, err := b.Data(ctx); err != nil || state != cluster.DataReady {
		t.Fatalf("after the clone: %s, %v", state, err)
	}
}

// TestData looks at directories of every kind.
func TestData(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	if state, _, err := a.Data(ctx); err != nil || state != cluster.NoData {
		t.Fatalf("an absent directory: %s, %v", state, err)
	}
	must(t, os.Mkdir(a.cfg.DataDir, 0o700))
	w.own(a.cfg.DataDir)
	if state, _, err := a.Data(ctx); err != nil || state != cluster.NoData {
		t.Fatalf("an empty directory: %s, %v", state, err)
	}
	precious := filepath.Join(a.cfg.DataDir, "thesis.txt")
	must(t, os.WriteFile(precious, []byte("years of work"), 0o600))
	if state, _, err := a.Data(ctx); err == nil || !strings.Contains(err.Error(), "is not empty and holds no PostgreSQL data (PG_VERSION: no such file or directory): move its contents away") {
		t.Fatalf("somebody's files are %s, %v", state, err)
	}
	if err := a.Init(ctx); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("initialised over somebody's files: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Fatal(err)
	}
	must(t, os.Remove(precious))
	must(t, a.Init(ctx))
	if got := a.value(t, "select pg_encoding_to_char(encoding) || ' ' || datcollate from pg_database where datname = 'postgres'"); got != "UTF8 C" {
		t.Errorf("encoding and order: %s", got)
	}
	if got := a.value(t, "select concat_ws(' ', current_setting('data_checksums'), current_setting('password_encryption'), current_setting('synchronous_commit'))"); got != "on scram-sha-256 on" {
		t.Errorf("checksums, passwords, commits: %s", got)
	}
	if info, err := os.Stat(filepath.Join(a.cfg.PasswordDir, "standfast_monitor.password")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the generated password's file: %v, %v", info, err)
	}
	if state, _, err := a.Data(ctx); err != nil || state != cluster.DataReady {
		t.Fatalf("after Init: %s, %v", state, err)
	}
	must(t, a.Stop(ctx, postgres.Fast))
	must(t, os.WriteFile(filepath.Join(a.cfg.DataDir, "PG_VERSION"), []byte("9.6\n"), 0o600))
	if err := a.Init(ctx); err == nil {
		t.Fatal("initialised over a cluster")
	}
	if _, _, err := postgres.New(a.cfg).Data(ctx); err == nil || !strings.Contains(err.Error(), "PostgreSQL 9.6") {
		t.Fatalf("another version's data: %v", err)
	}
}

// TestRewindCutsWALThatWasNotReplayed lets a standby receive, but not replay, WAL past the fork: pg_rewind finds nothing
// to do there, and the WAL would be replayed at the next start.
func TestRewindCutsWALThatWasNotReplayed(t *testing.T) {
	w := newWorld(t, "pg1", "pg2", "pg3")
	a, b, c := w.nodes["pg1"], w.nodes["pg2"], w.nodes["pg3"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "create table t (n int)")
	w.follow(b, a)
	w.follow(c, a)
	w.awaitFlushed(b, a, a.observe(t).Postgres.Position.LSN)
	b.relay.attach("")
	b.relay.awaitHeld(t)
	must(t, c.Checkpoint(ctx))
	c.exec(t, "select pg_wal_replay_pause()")
	eventually(t, "replay is paused", func() bool { return c.value(t, "select pg_get_wal_replay_pause_state()") == "paused" })
	a.exec(t, "insert into t values (6666)")
	lsn, err := a.WriteTermRow(ctx, 3)
	must(t, err)
	w.awaitFlushed(c, a, lsn)
	must(t, a.KillAll(ctx))
	must(t, b.Promote(ctx, 2, cluster.NewRule(0)))
	must(t, b.Checkpoint(ctx))
	fork := b.observe(t).Postgres.Fork
	if p := c.observe(t).Postgres.Position; p.Timeline != 1 || p.LSN <= fork {
		t.Fatalf("pg3 is not past the fork %s: %s", fork, p)
	}
	c.relay.attach("")
	must(t, c.Rewind(ctx, b.source()))
	kept, err := filepath.Glob(c.Discarded() + "/*-timeline-1-from-*/00000001*")
	if err != nil || len(kept) == 0 {
		t.Errorf("the discarded WAL was not kept: %v, %v", kept, err)
	}
	salvaged(t, c, b)
	must(t, c.StartStandby(ctx))
	c.relay.awaitHeld(t)
	eventually(t, "pg3 answers", func() bool { return c.Ping(ctx) == nil })
	if p := c.observe(t).Postgres.Position; p.LSN > fork {
		t.Fatalf("pg3 still has WAL past the fork %s: %s", fork, p)
	}
	must(t, b.EnsureSlots(ctx, w.names))
	c.relay.attach(b.addr())
	w.awaitStreaming(c, b)
	b.exec(t, "insert into t values (1)")
	eventually(t, "pg3 has replayed", func() bool { return c.value(t, "select string_agg(n::text, ' ') from t") == "1" })
}

// salvaged sees that what was discarded is told of: the insert, and the term row after it.
func salvaged(t *testing.T, c, names *node) {
	t.Helper()
	ctx := bounded(t)
	found, err := c.Salvage(ctx)
	must(t, err)
	if len(found) != 1 || found[0].Timeline != 1 || found[0].Trouble != "" || found[0].Files == 0 || found[0].Partial || len(found[0].Transactions) != 2 {
		t.Fatalf("salvaged %+v", found)
	}
	insert := found[0].Transactions[0]
	if len(insert.Relations) != 1 || insert.Relations[0].Inserted != 1 || time.Since(insert.Committed).Abs() > time.Hour || insert.LSN <= found[0].Fork {
		t.Errorf("the insert: %+v", insert)
	}
	got, err := names.RelationNames(ctx, insert.Relations)
	must(t, err)
	key := insert.Relations[0]
	key.Inserted = 0
	if got[key] != "postgres: public.t" {
		t.Errorf("the names: %v", got)
	}
}

// TestRewindLeavesDataWhenTheSourceIsAway sees that what can't begin changes nothing.
func TestRewindLeavesDataWhenTheSourceIsAway(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.KillAll(ctx))
	if err := a.Rewind(ctx, postgres.Source{Host: "127.0.0.1", Port: freePort(t)}); err == nil {
		t.Fatal("rewound from nowhere")
	}
	if state, _, err := a.Data(ctx); err != nil || state != cluster.DataReady {
		t.Fatalf("data is %s, %v", state, err)
	}
}
