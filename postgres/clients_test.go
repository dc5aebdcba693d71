package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"standfast/cluster"
)

// TestClients opens and closes the door, with the site's lines and without.
func TestClients(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	a.cfg.Parameters["update_process_title"] = "off" // it would hide who is logging in
	a.SetConfig(a.cfg)
	must(t, a.Init(ctx))
	a.exec(t, "set synchronous_commit = local; create role app login password 'secret'")
	dial := func() (*pgx.Conn, error) {
		return pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=app password=secret dbname=postgres sslmode=require", a.cfg.Port))
	}
	if _, err := dial(); err == nil || !strings.Contains(err.Error(), "pg_hba.conf rejects") {
		t.Fatalf("a fresh server is not closed: %v", err)
	}
	must(t, a.OpenClients(ctx))
	if open, err := a.ClientsOpen(); err != nil || !open {
		t.Fatalf("ClientsOpen: %v, %v", open, err)
	}
	conn, err := dial()
	must(t, err)
	slow := enter(t, a)   // let in by the open file, and not through the door yet
	silent := greet(t, a) // likewise, and has not even said who it is
	must(t, a.CloseClients(ctx, true))
	for what, c := range map[string]net.Conn{"had not begun to log in": silent, "was logging in": slow} {
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a client that %s is still being listened to: %d bytes, %v", what, n, err)
		}
	}
	if err := conn.Ping(ctx); err == nil {
		t.Fatal("a session outlived CloseClients")
	}
	if _, err := dial(); err == nil {
		t.Fatal("let in after CloseClients")
	}
	must(t, a.Ping(ctx))

	cfg := a.cfg
	cfg.HBA = []string{"host all app 127.0.0.0/8 scram-sha-256"}
	a.SetConfig(cfg)
	must(t, a.OpenClients(ctx))
	conn, err = dial()
	must(t, err)
	conn.Close(ctx)
	cfg.HBA = []string{"host all app 127.0.0.0/8 no-such-method"}
	a.SetConfig(cfg)
	err = a.OpenClients(ctx)
	if err == nil || !strings.Contains(err.Error(), `invalid authentication method "no-such-method"`) {
		t.Fatalf("bad lines: %v", err)
	}
	must(t, a.Reload(ctx))
	if conn, err = dial(); err != nil {
		t.Fatalf("the lines in force before are gone: %v", err)
	}
	conn.Close(ctx)
}

// TestWhoHasNotBegun: a connection that has not said who it is may be one of ours, which other goroutines make meanwhile. It counts,
// so that the door waits for it, and is ended when it has had its time.
func TestWhoHasNotBegun(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	must(t, a.Init(bounded(t)))
	c := greet(t, a)
	for _, late := range []bool{false, true} {
		n, err := a.EndEntering(late)
		if err != nil || n != 1 {
			t.Errorf("late %v: %d that have not begun, %v", late, n, err)
		}
		must(t, c.SetReadDeadline(time.Now().Add(map[bool]time.Duration{false: 200 * time.Millisecond, true: 10 * time.Second}[late])))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) == late {
			t.Errorf("late %v: the connection: %v", late, err)
		}
	}
	must(t, a.Ping(bounded(t)))
}

// TestReplicationNeedsTheMembersCertificate tries every other way in.
func TestReplicationNeedsTheMembersCertificate(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	cfg := a.cfg
	cfg.HBA = []string{"host all,replication all all trust", "local all,replication all trust"} // the careless site
	a.SetConfig(cfg)
	must(t, a.OpenClients(ctx))
	strangerCert, strangerKey := w.certificate("stranger", w.dir)
	tcp := fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres ", a.cfg.Port)
	member := fmt.Sprintf(" sslmode=verify-ca sslrootcert=%s sslcert=%s sslkey=%s", a.cfg.CA, b.cfg.Cert, b.cfg.Key)
	stranger := fmt.Sprintf(" sslmode=verify-ca sslrootcert=%s sslcert=%s sslkey=%s", a.cfg.CA, strangerCert, strangerKey)
	for _, c := range []struct {
		conninfo string
		ok       bool
	}{
		{tcp + "user=standfast_replication replication=true" + member, true},
		{tcp + "user=standfast_rewind" + member, true},
		{tcp + "user=standfast_replication replication=true" + stranger, false},
		{tcp + "user=standfast_rewind" + stranger, false},
		{tcp + "user=standfast_replication replication=true sslmode=disable", false},
		{tcp + "user=standfast_replication replication=true sslmode=require", false},
		{tcp + "user=standfast_replication" + member, true}, // slot synchronization
		{strings.Replace(tcp, "dbname=postgres", "dbname=template1", 1) + "user=standfast_replication" + member, false},
		{tcp + "user=standfast_replication" + stranger, false},
		{tcp + "user=standfast_replication sslmode=require", false},
		{tcp + "user=standfast_rewind sslmode=require", false},
		{fmt.Sprintf("host=%s port=%d dbname=postgres user=standfast_replication replication=true", a.cfg.SocketDir, a.cfg.Port), false},
	} {
		conn, err := pgx.Connect(ctx, c.conninfo)
		if err == nil {
			conn.Close(context.Background())
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: let in: %v (%v)", strings.ReplaceAll(c.conninfo, w.dir, ""), err == nil, err)
		}
	}
	conn, err := pgx.Connect(ctx, tcp+"user=standfast_rewind"+member)
	must(t, err)
	defer conn.Close(ctx)
	for _, sql := range []string{"select count(*) from standfast.term", "select pg_read_file('PG_VERSION')", "create table x ()"} {
		if _, err := conn.Exec(ctx, sql); err == nil && sql != "create table x ()" {
			t.Errorf("the rewind role may: %s", sql)
		}
	}
}

// TestNames sees the rule in force, the older WAL senders ended, and the way out of k = 0.
func TestNames(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a, b := w.nodes["pg1"], w.nodes["pg2"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	w.follow(b, a)
	sender := a.value(t, "select pid::text from pg_stat_replication")
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2"), true))
	if a.value(t, "select count(*)::text from pg_stat_activity where pid = "+sender) != "0" {
		t.Fatal("the older WAL sender lives")
	}
	w.awaitStreaming(b, a)
	sender = a.value(t, "select pid::text from pg_stat_replication")
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	if a.value(t, "select pid::text from pg_stat_replication") != sender {
		t.Fatal("a WAL sender was ended unasked")
	}
	a.exec(t, "create table t (n int)")
	must(t, a.SetNames(ctx, cluster.NewRule(1), true)) // out of k = 0: from here on a commit waits
	conn := a.connect(t)
	pid := conn.PgConn().PID()
	done := make(chan struct{})
	wctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		conn.Exec(wctx, "insert into t values (1)")
	}()
	eventually(t, "the commit waits", func() bool {
		return a.value(t, fmt.Sprintf("select wait_event from pg_stat_activity where pid = %d", pid)) == "SyncRep"
	})
	cancel()
	<-done

	must(t, b.SetNames(ctx, cluster.NewRule(0), false))
	if got := b.observe(t).Postgres.Names; !got.Same(cluster.NewRule(1)) {
		t.Fatalf("a standby's names are %v", got)
	}
}

// TestEnterersSendersEndFirst reads in the server's log that the WAL sender of a member that enters the rule has ended
// before the names were read, and that of one that stays only after.
func TestEnterersSendersEndFirst(t *testing.T) {
	w := newWorld(t, "pg1", "pg2", "pg3")
	a, b, c := w.nodes["pg1"], w.nodes["pg2"], w.nodes["pg3"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	w.follow(b, a)
	w.follow(c, a)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2"), true))
	w.awaitStreaming(b, a)
	w.awaitStreaming(c, a)
	sender := func(n *node) string {
		return a.value(t, "select pid::text from pg_stat_replication where application_name = '"+n.cfg.Name+"'")
	}
	stays, enters := sender(b), sender(c)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2", "pg3"), true))
	text, err := os.ReadFile(a.cfg.LogFile)
	must(t, err)
	at := func(line string) int {
		i := regexp.MustCompile(line).FindIndex(text)
		if i == nil {
			t.Fatalf("no %q in the log", line)
		}
		return i[0]
	}
	ended := func(pid string) int { return at(`\[` + pid + `\] .*FATAL:  terminating`) }
	names := at(`parameter "synchronous_standby_names" changed to "ANY 1 .*pg3`)
	if ended(enters) > names {
		t.Error("the WAL sender of the member that enters outlived the change")
	}
	if ended(stays) < names {
		t.Error("the WAL sender of the member that stays was ended too early")
	}
}

// enter begins to log in over TCP and stops where the server asks for the password.
func enter(t *testing.T, n *node) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", n.addr())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	front := pgproto3.NewFrontend(c, c)
	front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "app", "database": "postgres"}})
	must(t, front.Flush())
	m, err := front.Receive()
	must(t, err)
	if _, ok := m.(*pgproto3.AuthenticationSASL); !ok {
		t.Fatalf("asked for a password, the server sent %T", m)
	}
	return c
}

// greet connects and asks for TLS, so that a process has been born for it, and says no more.
func greet(t *testing.T, n *node) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", n.addr(), 10*time.Second)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	b, err := (&pgproto3.SSLRequest{}).Encode(nil)
	must(t, err)
	_, err = c.Write(b)
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = c.Read(make([]byte, 1))
	must(t, err)
	return c
}
