//go:build e2e

package system

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"standfast/api"
	"standfast/playground/load"
	"standfast/test/system/rig"
)

// TestCancelledCommit: no standby answers, a client gives up its commit's wait and tries the same row again, and then the primary
// is lost. The wait must not end as a success that only the lost server knows of; any other statement can be cancelled,
// through every router.
func TestCancelledCommit(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.run(s.r.WriteDSN(), "create table if not exists given_up (id text primary key)", "truncate given_up")
	for _, n := range s.r.Nodes {
		for _, inTLS := range []bool{false, true} {
			sleep := s.start(n, inTLS, "PgSleep", "select pg_sleep(600)")
			must(t, sleep.cancel())
			sleep.ended("57014")
		}
	}
	standbys := s.r.Others(s.primary)
	for _, n := range standbys {
		must(t, n.Signal(rig.Postgres, syscall.SIGSTOP)) // its router goes on
	}
	var waiting []*sent
	for _, n := range s.r.Nodes {
		for _, inTLS := range []bool{false, true} {
			commit := s.start(n, inTLS, "SyncRep", fmt.Sprintf("insert into given_up values ('%s %v')", n.Name, inTLS))
			must(t, commit.cancel())
			waiting = append(waiting, commit)
		}
	}
	for _, n := range s.r.Nodes {
		retry := s.start(n, false, "transactionid", fmt.Sprintf("insert into given_up values ('%s true') on conflict do nothing", n.Name))
		must(t, retry.cancel()) // it has written nothing
		retry.ended("57014")
	}
	for _, commit := range waiting {
		commit.goesOn()
	}
	s.withheld(len(waiting))

	s.primary.Freeze()
	for _, n := range standbys {
		must(t, n.Signal(rig.Postgres, syscall.SIGCONT))
	}
	s.reign(takeover)
	must(t, s.primary.Kill()) // it takes what it alone has with it
	must(t, s.primary.Start())
	for _, commit := range waiting {
		commit.ended("")
	}
	s.end()
}

// sent is a statement under way in a session through one node's router.
type sent struct {
	s    *scene
	text string
	conn *pgconn.PgConn
	done chan error
}

// start sends the statement and returns when it shows the wait event on the primary.
func (s *scene) start(through *rig.Node, inTLS bool, event, text string) *sent {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig(s.r.WriteThrough(through))
	must(s.t, err)
	if !inTLS {
		cfg.TLSConfig, cfg.Fallbacks = nil, nil // the request is then in plain text too
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	must(s.t, err)
	watch, err := pgx.Connect(ctx, s.r.DSN(s.primary.Address, s.r.Ports().Postgres))
	must(s.t, err)
	defer load.CloseNow(watch)
	w := &sent{s: s, text: text, conn: conn.PgConn(), done: make(chan error, 1)}
	running, stop := context.WithCancel(all)
	go func() { w.done <- w.conn.Exec(running, text).Close() }()
	s.t.Cleanup(func() { stop(); <-w.done })
	for seen := ""; seen != event; pause(ctx) {
		err := watch.QueryRow(ctx, "select coalesce(wait_event, '') from pg_stat_activity where pid = $1", w.conn.PID()).Scan(&seen)
		if err != nil {
			s.t.Fatalf("%q waits for %q, not for %q: %v", text, seen, event, err)
		}
	}
	return w
}

func (w *sent) cancel() error {
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	return w.conn.CancelRequest(ctx)
}

// ended waits for the statement's end, which is the error of that SQLSTATE; "": any that is not an answer of success.
func (w *sent) ended(code string) {
	w.s.t.Helper()
	select {
	case err := <-w.done:
		w.done <- err
		var answer *pgconn.PgError
		if err == nil || code != "" && (!errors.As(err, &answer) || answer.Code != code) {
			w.s.t.Errorf("%q ended with %v, want %s", w.text, err, code)
		}
	case <-time.After(takeover):
		w.s.t.Errorf("%q goes on", w.text)
	}
}

func (w *sent) goesOn() {
	w.s.t.Helper()
	select {
	case err := <-w.done:
		w.done <- err
		w.s.t.Errorf("%q ended, though nobody has confirmed it: %v", w.text, err)
	default:
	}
}

// withheld requires that the primary's member has kept at least n requests from its server, and that none was lost anywhere.
func (s *scene) withheld(n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	must(s.t, s.r.Await(ctx, "the requests are counted", func(all map[string]*api.Status) string {
		for name, st := range all {
			switch {
			case st.Router.CancelsLost > 0:
				return name + " has lost one"
			case name == s.primary.Name && st.Router.CancelsWithheld < uint64(n):
				return name + " has withheld fewer"
			}
		}
		return ""
	}))
}
