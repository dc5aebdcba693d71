package postgres_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/postgres"
)

// plain starts a server as a site would, with its Unix socket elsewhere, and returns the directory of that.
func plain(t *testing.T, w *world, a *node) string {
	t.Helper()
	sockets := filepath.Dir(a.cfg.SocketDir) + "/site"
	must(t, os.MkdirAll(sockets, 0o777))
	must(t, os.Chmod(sockets, 0o777))
	cmd := exec.Command(w.binDir+"/postgres", "-D", a.cfg.DataDir, "-c", "unix_socket_directories="+sockets, "-c", "listen_addresses="+a.cfg.Listen, "-c", "port="+strconv.Itoa(a.cfg.Port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.runAs}
	must(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { a.KillAll(context.Background()); <-done })
	return sockets
}

// asSite opens a session as the site does.
func asSite(t *testing.T, a *node, sockets string) *pgx.Conn {
	t.Helper()
	var conn *pgx.Conn
	eventually(t, "the plain server answers", func() (there bool) {
		var err error
		conn, err = pgx.Connect(t.Context(), "host="+sockets+" port="+strconv.Itoa(a.cfg.Port)+" user=postgres dbname=postgres sslmode=disable")
		return err == nil
	})
	return conn
}

// TestTakeOver runs a primary that something else has started, as it is: its process stays, a session that is open stays, and what the
// site had is there again after it was given back.
func TestTakeOver(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.Stop(ctx, postgres.Fast))
	site := map[string]string{}
	for name, text := range map[string]string{
		"pg_hba.conf":          "local all all trust\nhost all all 127.0.0.1/32 trust\n",
		"pg_ident.conf":        "# the site's\n",
		"postgresql.conf":      "work_mem = '7MB'\nsynchronous_standby_names = 'elsewhere'",
		"postgresql.auto.conf": "restart_after_crash = 'on'\nmaintenance_work_mem = '99MB'\n",
	} {
		path := filepath.Join(a.cfg.DataDir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if w.runAs != nil {
			must(t, os.Chown(path, int(w.runAs.Uid), int(w.runAs.Gid)))
		}
		site[path] = text
	}
	sockets := plain(t, w, a)
	conn := asSite(t, a, sockets)
	defer conn.Close(ctx)
	_, err := conn.Exec(ctx, "set synchronous_commit = local; drop role standfast_monitor, standfast_replication; drop schema standfast cascade")
	must(t, err)
	before := postmasterPID(t, a)

	cfg := a.cfg
	cfg.HBA, cfg.Parameters = []string{"local all all trust", "host all all 127.0.0.1/32 trust"}, map[string]string{"work_mem": "7MB"}
	first := postgres.New(cfg)
	for range 2 { // begun again it finds all done
		must(t, first.TakeOver(ctx))
	}
	must(t, first.Close(ctx))
	a.SetConfig(cfg)
	if found, err := a.Adopt(ctx); err != nil || !found || !a.InPlace() {
		t.Fatalf("adopted %t, in place %t, %v", found, a.InPlace(), err)
	}
	o := a.observe(t)
	if p := o.Postgres; p.Recovery || p.Names.K != 0 || p.Position.Timeline != 1 {
		t.Errorf("observed %+v", p)
	}
	for name, want := range map[string]string{"work_mem": "7MB", "restart_after_crash": "off", "ssl": "on", "wal_sender_timeout": "2s", "maintenance_work_mem": "99MB", "synchronous_standby_names": ""} {
		var have string
		must(t, conn.QueryRow(ctx, "select current_setting($1)", name).Scan(&have))
		if have != want {
			t.Errorf("%s is %q, want %q", name, have, want)
		}
	}
	// It is looked after like one of ours.
	_, err = a.WriteTermRow(ctx, 1)
	must(t, err)
	must(t, a.SetNames(ctx, cluster.NewRule(1, "pg2"), true))
	must(t, a.SetNames(ctx, cluster.NewRule(0), true))
	must(t, a.CloseClients(ctx, false))
	if c, err := pgx.Connect(ctx, "host="+sockets+" port="+strconv.Itoa(a.cfg.Port)+" user=standfast_x dbname=postgres sslmode=disable"); err == nil {
		c.Close(ctx)
		t.Error("clients are let in though they were to be kept out")
	}
	must(t, a.OpenClients(ctx))
	_, err = a.ApplyParameters(ctx, map[string]string{"work_mem": "9MB"})
	must(t, err)
	var have string
	must(t, conn.QueryRow(ctx, "select current_setting('work_mem')").Scan(&have))
	if have != "9MB" {
		t.Errorf("work_mem is %s, it was set to 9MB", have)
	}

	must(t, a.GiveBack(ctx))
	for path, text := range site {
		got, err := os.ReadFile(path)
		must(t, err)
		if strings.HasSuffix(path, "auto.conf") { // PostgreSQL writes it
			if !strings.Contains(string(got), "restart_after_crash = 'on'") || strings.Contains(string(got), "standby_names") {
				t.Errorf("%s is\n%s", path, got)
			}
		} else if strings.TrimSpace(string(got)) != strings.TrimSpace(text) {
			t.Errorf("%s is\n%s", path, got)
		}
	}
	eventually(t, "the site's own names are in force", func() bool {
		must(t, conn.QueryRow(ctx, "select current_setting('synchronous_standby_names')").Scan(&have))
		return have == "elsewhere"
	})
	if now := postmasterPID(t, a); now != before {
		t.Errorf("process %d was process %d: it has been restarted", now, before)
	}
	must(t, conn.QueryRow(ctx, "select count(*)::text from pg_roles where rolname like 'standfast%'").Scan(&have))
	if have != "0" {
		t.Errorf("%s roles of ours are left", have)
	}
}

// TestTakenOverServerEnds: what follows is a start of ours, and the site's files no longer count. Another start by something else is foreign.
func TestTakenOverServerEnds(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.Stop(ctx, postgres.Fast))
	path := filepath.Join(a.cfg.DataDir, "pg_hba.conf")
	must(t, os.WriteFile(path, []byte("local all all trust\n"), 0o644))
	conn := asSite(t, a, plain(t, w, a))
	conn.Close(ctx)
	must(t, a.TakeOver(ctx))
	if found, err := a.Adopt(ctx); err != nil || !found {
		t.Fatal(found, err)
	}
	must(t, a.KillAll(ctx))
	if a.InPlace() {
		t.Error("a dead server is in place")
	}
	conn = asSite(t, a, plain(t, w, a))
	conn.Close(ctx)
	if _, err := a.Adopt(ctx); !errors.Is(err, postgres.ErrForeignStart) {
		t.Errorf("another start is taken for the one that was taken over: %v", err)
	}
	must(t, a.KillAll(ctx))
	must(t, a.StartStandby(ctx))
	eventually(t, "it answers", func() bool { return a.Ping(ctx) == nil })
	if o := a.observe(t); !o.Postgres.Recovery || a.InPlace() {
		t.Errorf("in place %t, %+v", a.InPlace(), o.Postgres)
	}
	if _, err := a.ApplyParameters(ctx, map[string]string{"work_mem": "5MB"}); err != nil {
		t.Error(err)
	}
}
