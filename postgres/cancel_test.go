package postgres_test

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"standfast/cluster"
	"standfast/postgres"
)

// statement runs in a session of its own, until it ends or the server does.
type statement struct {
	t    *testing.T
	on   *node
	conn *pgconn.PgConn
	done chan error
}

// begin runs each text in turn, the last beside the test. It returns when that one shows the wait event ("": any).
func (n *node) begin(t *testing.T, event string, texts ...string) *statement {
	t.Helper()
	conn := n.connect(t).PgConn()
	last := len(texts) - 1
	for _, text := range texts[:last] {
		must(t, conn.Exec(bounded(t), text).Close())
	}
	s := &statement{t: t, on: n, conn: conn, done: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	go func() { s.done <- conn.Exec(ctx, texts[last]).Close() }()
	t.Cleanup(func() { stop(); <-s.done })
	eventually(t, texts[last]+" waits for "+event, func() bool { return s.event() == event })
	return s
}

func (s *statement) event() string {
	return s.on.value(s.t, "select coalesce(wait_event, '') from pg_stat_activity where pid = $1", s.conn.PID())
}

// request is what libpq would send for it.
func (s *statement) request(secret []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(secret)))
	b = binary.BigEndian.AppendUint32(b, 80877102)
	return append(binary.BigEndian.AppendUint32(b, s.conn.PID()), secret...)
}

// cancel hands the statement's request over and returns why it was withheld.
func (s *statement) cancel() string {
	s.t.Helper()
	why, err := s.on.Cancel(bounded(s.t), s.request(s.conn.SecretKey()))
	must(s.t, err)
	return why
}

// cancelled requires that the statement ends by the request; goesOn that it does not.
func (s *statement) cancelled() {
	s.t.Helper()
	if why := s.cancel(); why != "" {
		s.t.Fatalf("withheld: %s", why)
	}
	select {
	case err := <-s.done:
		if err == nil || !strings.Contains(err.Error(), "57014") {
			s.t.Errorf("the statement ended with %v", err)
		}
		s.done <- err
	case <-time.After(30 * time.Second):
		s.t.Error("the statement goes on")
	}
}

func (s *statement) goesOn(event string) {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.done <- err
		s.t.Fatalf("the statement ended: %v", err)
	case <-time.After(100 * time.Millisecond): // a signal would have shown by now
	}
	if now := s.event(); now != event {
		s.t.Errorf("it waits for %q, not for %q any more", now, event)
	}
}

// TestCancelWithoutStandbys: nobody can confirm a commit, so none may be given up, and who has written may be about to.
func TestCancelWithoutStandbys(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	for _, n := range []*node{a, b} {
		n.cfg.Parameters["max_prepared_transactions"] = "5"
		n.SetConfig(n.cfg)
	}
	must(t, a.Init(ctx))
	w.follow(b, a)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2"), true))
	a.exec(t, "create table t (n int primary key)")
	b.relay.attach("")
	eventually(t, "the primary is alone", func() bool { return len(a.observe(t).Postgres.Standbys) == 0 })

	commit := a.begin(t, "SyncRep", "insert into t values (1)")
	explicit := a.begin(t, "SyncRep", "begin", "insert into t values (2)", "commit")
	prepared := a.begin(t, "SyncRep", "begin", "insert into t values (3)", "prepare transaction 'three'")
	for _, s := range []*statement{commit, explicit, prepared} {
		if why := s.cancel(); !strings.Contains(why, "waits for 1 other hosts, 0 of") {
			t.Errorf("withheld because %q", why)
		}
		s.goesOn("SyncRep")
	}
	writer := a.begin(t, "PgSleep", "begin", "insert into t values (4)", "select pg_sleep(600)")
	if why := writer.cancel(); !strings.Contains(why, "may be committing") {
		t.Errorf("withheld because %q", why)
	}
	writer.goesOn("PgSleep")

	a.begin(t, "PgSleep", "select pg_sleep(600)").cancelled()
	a.begin(t, "transactionid", "begin", "insert into t values (5)", "insert into t values (4)").cancelled()
	a.begin(t, "transactionid", "insert into t values (1) on conflict do nothing").cancelled() // the retry of who gave up

	b.relay.attach(a.addr())
	for _, s := range []*statement{commit, explicit, prepared} {
		if err := <-s.done; err != nil {
			t.Errorf("the commit: %v", err)
		}
		s.done <- nil
	}
	w.awaitStreaming(b, a)
	writer.cancelled() // it can't wait for long now
	if n := a.value(t, "select count(*)::text from t"); n != "2" {
		t.Errorf("%s rows, want those of both commits", n)
	}
}

// TestCancelSealed: a request for nobody knows whom is delivered when all that waited as it came have been confirmed.
func TestCancelSealed(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	must(t, a.Init(bounded(t)))
	w.follow(b, a)
	must(t, a.SetNames(bounded(t), cluster.NewRule(1, "pg2"), true))
	a.exec(t, "create table t (n int primary key)")
	w.awaitStreaming(b, a)
	sealed := func() string {
		t.Helper()
		why, err := a.CancelSealed(bounded(t))
		must(t, err)
		return why
	}
	if why := sealed(); why != "" {
		t.Errorf("nobody waits, and it is withheld: %s", why)
	}
	receiver, err := strconv.Atoi(b.value(t, "select pid::text from pg_stat_wal_receiver"))
	must(t, err)
	must(t, unix.Kill(receiver, unix.SIGSTOP)) // for a moment it still counts as streaming
	commit := a.begin(t, "SyncRep", "insert into t values (1)")
	if sealed() == "" {
		t.Error("delivered while a commit waits for a standby that is silent")
	}
	commit.goesOn("SyncRep")
	must(t, unix.Kill(receiver, unix.SIGCONT))
	must(t, <-commit.done)
	commit.done <- nil
	w.awaitStreaming(b, a)
	if why := sealed(); why != "" {
		t.Errorf("the commit is confirmed, and it is withheld: %s", why)
	}
}

// TestCancelOfNothing: a process number is any number, before the server has seen the key.
func TestCancelOfNothing(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	must(t, a.Init(bounded(t)))
	sleep := a.begin(t, "PgSleep", "select pg_sleep(600)")
	idle := a.begin(t, "ClientRead", "select 1")
	request := sleep.request(sleep.conn.SecretKey())
	for name, pid := range map[string]uint32{"nobody": 1, "all": 0xffffffff, "0": 0, "the idle one": idle.conn.PID()} {
		binary.BigEndian.PutUint32(request[8:], pid)
		if why, err := a.Cancel(bounded(t), request); why != "" || err != nil {
			t.Errorf("%s: withheld %q, %v", name, why, err)
		}
	}
	if why, err := a.Cancel(bounded(t), sleep.request([]byte{1, 2, 3, 4})); why != "" || err != nil {
		t.Errorf("a wrong key: withheld %q, %v", why, err)
	}
	if why, err := a.Cancel(bounded(t), request[:8]); why != "" || err != nil {
		t.Errorf("half a request: withheld %q, %v", why, err)
	}
	sleep.goesOn("PgSleep")
	sleep.cancelled()
	must(t, a.KillAll(bounded(t)))
	if _, err := a.Cancel(bounded(t), idle.request(idle.conn.SecretKey())); err == nil {
		t.Error("delivered to a server that is down")
	}
}

// TestWithhold is about what can't be held still in a real server.
func TestWithhold(t *testing.T) {
	for name, c := range map[string]struct {
		b    postgres.Backend
		want string // part of the reason; "": delivered
	}{
		"nobody is waited for":                  {postgres.Backend{Wait: "SyncRep", Writes: true}, ""},
		"waiting":                               {postgres.Backend{Copies: 1, Standbys: 2, Wait: "SyncRep", Writes: true}, "2 of"},
		"flushing, 17":                          {postgres.Backend{Copies: 1, Standbys: 2, Wait: "WalSync", Writes: true, Snapshot: true}, "WalSync"},
		"flushing, 15":                          {postgres.Backend{Copies: 1, Standbys: 2, Wait: "WALSync", Writes: true, Snapshot: true}, "WALSync"},
		"another flushes for it":                {postgres.Backend{Copies: 1, Standbys: 2, Wait: "WALWrite", WaitType: "LWLock", Writes: true}, "WALWrite"},
		"COMMIT PREPARED, flushing":             {postgres.Backend{Copies: 1, Standbys: 2, Wait: "WALSync"}, "WALSync"},
		"COMMIT, computing":                     {postgres.Backend{Copies: 1, Standbys: 2, Writes: true}, "commits"},
		"an update, computing":                  {postgres.Backend{Copies: 1, Standbys: 1, Writes: true, Snapshot: true}, ""},
		"an update, computing, nobody is there": {postgres.Backend{Copies: 1, Writes: true, Snapshot: true}, "0 of"},
		"an update, too few are there":          {postgres.Backend{Copies: 2, Standbys: 1, Writes: true, Snapshot: true}, "1 of"},
		"an update that waits for a lock":       {postgres.Backend{Copies: 1, Writes: true, Snapshot: true, WaitType: "Lock", Wait: "tuple"}, ""},
		"a query, nobody is there":              {postgres.Backend{Copies: 1, Snapshot: true, Wait: "DataFileRead"}, ""},
	} {
		if got := c.b.Withhold(); got == "" != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: withheld %q, want %q", name, got, c.want)
		}
	}
}
