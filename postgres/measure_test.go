package postgres_test

import (
	"slices"
	"testing"

	"standfast/cluster"
	"standfast/measure"
)

// TestMeasure sees on a real primary and its standby what was done there.
func TestMeasure(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	w.follow(b, a)
	a.exec(t, "create database app")
	a.exec(t, "create table n (n int)")
	before, err := a.Measure(ctx)
	must(t, err)
	a.exec(t, "insert into n select generate_series(1, 1000)")
	holder, waiter := a.connect(t), a.connect(t)
	_, err = holder.Exec(ctx, "begin; lock table n")
	must(t, err)
	waited := make(chan error, 1)
	go func() { _, err := waiter.Exec(ctx, "select count(*) from n"); waited <- err }()
	eventually(t, "the measurement shows what goes on", func() bool {
		m, err := a.Measure(bounded(t))
		must(t, err)
		return m.LockWaiters == 1 && count(m.Connections, "idle in transaction") == 1 && count(m.Connections, "active") == 1 &&
			m.LongestXact > 0 && m.LongestIdle > 0 && count(m.Locks, "accessexclusivelock") > 0
	})
	_, err = holder.Exec(ctx, "commit")
	must(t, err)
	must(t, <-waited)
	w.awaitFlushed(b, a, a.observe(t).Postgres.Position.LSN)
	eventually(t, "the inserts are counted", func() bool { // statistics are told by the backends now and then
		m, err := a.Measure(bounded(t))
		must(t, err)
		return database(m, "postgres").Inserted-database(before, "postgres").Inserted >= 1000
	})
	m, err := a.Measure(ctx)
	must(t, err)
	if m.Recovery || m.MaxConnections != 30 || m.WAL.Position == 0 || m.WAL.Bytes == 0 || m.XIDAge == 0 || m.FreezeMaxAge == 0 || m.Took <= 0 || m.ChecksumFailures != 0 {
		t.Errorf("the primary: %+v", m)
	}
	if names := databases(m); !slices.Equal(names, []string{"postgres", "app"}) {
		t.Errorf("databases: %q", names)
	}
	if len(m.Receivers) != 1 || m.Receivers[0].Name != "pg2" || !m.Receivers[0].Streaming || m.Receivers[0].Client == "" || m.Receivers[0].Sync != "async" {
		t.Errorf("receivers: %+v", m.Receivers)
	}
	if len(m.Slots) != 1 || m.Slots[0].Name != "pg2" || m.Slots[0].Type != "physical" || !m.Slots[0].Active || m.Slots[0].Status != "reserved" {
		t.Errorf("slots: %+v", m.Slots)
	}
	var s measure.Postgres
	eventually(t, "a commit is replayed", func() bool { // what is flushed is replayed a moment later
		s, err = b.Measure(bounded(t))
		must(t, err)
		return !s.Replayed.IsZero()
	})
	if !s.Recovery || s.WAL.Position == 0 || s.ReplayPaused || len(s.Receivers) != 0 {
		t.Errorf("the standby: %+v", s)
	}
	sizes, wal, err := a.Sizes(ctx)
	must(t, err)
	if sizes["app"] < 1<<20 || sizes["postgres"] < 1<<20 || wal < 1<<20 {
		t.Errorf("sizes: %v, WAL %d", sizes, wal)
	}
}

func count(all []measure.Count, name string) int64 {
	for _, c := range all {
		if c.Name == name {
			return c.N
		}
	}
	return 0
}

func database(m measure.Postgres, name string) measure.Database {
	for _, d := range m.Databases {
		if d.Name == name {
			return d
		}
	}
	return measure.Database{}
}

func databases(m measure.Postgres) (names []string) {
	for _, d := range m.Databases {
		names = append(names, d.Name)
	}
	return names
}
