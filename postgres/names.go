package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// SetNames makes PostgreSQL work by the rule and returns when a new session sees it in force. On a standby the names are
// never empty: a rule of k = 0 becomes one that nobody can meet there, and Promote takes care of the rest.
//
// With endSenders the WAL senders of members that enter the rule have ended before the names are written: one may be
// half open, its member's data touched since, and its old word would release commits at once. Every WAL sender that began
// before the change is ended after it, and has ended on return. Each sender releases waiting commits by its own copy of
// the rule, which it renews in its own time.
func (s *Server) SetNames(ctx context.Context, r cluster.Rule, endSenders bool) error {
	standby, err := s.StandbyData()
	if err != nil {
		return fmt.Errorf("set the commit rule: %w", err)
	}
	if standby && r.K == 0 {
		r = cluster.NewRule(1)
	}
	if err := s.setNames(ctx, r, endSenders); err != nil {
		return fmt.Errorf("set the commit rule to %s: %w", r, err)
	}
	return nil
}

func (s *Server) setNames(ctx context.Context, r cluster.Rule, endSenders bool) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	if r.K > 0 {
		if err := s.leaveSingleCopy(ctx); err != nil {
			return err
		}
	}
	if err := s.decodeBehind(ctx, r); err != nil {
		return err
	}
	if endSenders {
		if err := s.endEnterers(ctx, r); err != nil {
			return err
		}
	}
	want := pgconf.SyncNames(r)
	seen, err := s.writeNames(ctx, want)
	if err != nil || !endSenders {
		return err
	}
	return s.endOlderSenders(ctx, seen)
}

// writeNames puts the value in force and returns a time, by the server's clock, at which it was.
func (s *Server) writeNames(ctx context.Context, want string) (time.Time, error) {
	if err := s.alterSystem(ctx, "synchronous_standby_names", want); err != nil {
		return time.Time{}, err
	}
	return s.putNames(ctx, want)
}

// putNames puts in force what is written already.
func (s *Server) putNames(ctx context.Context, want string) (time.Time, error) {
	var seen time.Time
	err := s.reload(ctx, func(conn *pgx.Conn) (bool, error) {
		var have string
		err := conn.QueryRow(ctx, "select current_setting('synchronous_standby_names'), clock_timestamp()").Scan(&have, &seen)
		return have == want, err
	})
	return seen, err
}

// writtenNames are the names in postgresql.auto.conf, which the next reload puts in force; "" if there are none.
func (c Config) writtenNames() (string, error) {
	text, err := os.ReadFile(c.autoFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	auto, err := pgconf.Auto(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.autoFile(), err)
	}
	return auto["synchronous_standby_names"], nil
}

// endOlderSenders ends the WAL senders, of present and former members, that began before the given time and waits until they are gone.
func (s *Server) endOlderSenders(ctx context.Context, before time.Time) error {
	return s.safety.use(ctx, func(conn *pgx.Conn) error {
		return endSenders(ctx, conn, "backend_start < $1", before)
	})
}

// endEnterers ends the WAL senders of members that the rule names and the names in force do not, and waits until they are
// gone. Whoever connects after that is heard afresh.
func (s *Server) endEnterers(ctx context.Context, r cluster.Rule) error {
	return s.safety.use(ctx, func(conn *pgx.Conn) error {
		var have string
		if err := conn.QueryRow(ctx, "select current_setting('synchronous_standby_names')").Scan(&have); err != nil {
			return err
		}
		old, err := pgconf.ParseSyncNames(have)
		if err != nil {
			return err
		}
		enter := slices.DeleteFunc(slices.Clone(r.Of), old.Has)
		if len(enter) == 0 {
			return nil
		}
		return endSenders(ctx, conn, "application_name = any($1)", enter)
	})
}

// endAllSenders ends every WAL sender: those that a standby had when it was promoted go on along its old timeline, and
// count in the rule from the next reload on.
func (s *Server) endAllSenders(ctx context.Context) error {
	return s.safety.use(ctx, func(conn *pgx.Conn) error { return endSenders(ctx, conn, "true") })
}

// endSenders ends the WAL senders that the condition on pg_stat_activity names, and waits until they are gone.
func endSenders(ctx context.Context, conn *pgx.Conn, which string, args ...any) error {
	for {
		var left int
		err := conn.QueryRow(ctx, `select count(pg_terminate_backend(pid)) from pg_stat_activity
			where backend_type = 'walsender' and application_name not in ('standfast_clone', '`+backupApplication+`') and `+which, args...).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%d WAL senders do not end: %w", left, err)
		}
	}
}

// pause waits one poll.
func pause(ctx context.Context) error {
	select {
	case <-time.After(pollPace):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leaveSingleCopy goes from empty names to names nobody can meet and sees a commit wait. Backends skip waiting by a flag
// in shared memory that only the checkpointer sets, in its own time; until it is set, a new rule means nothing.
func (s *Server) leaveSingleCopy(ctx context.Context) error {
	var have string
	var recovery bool
	err := s.safety.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select current_setting('synchronous_standby_names'), pg_is_in_recovery()").Scan(&have, &recovery)
	})
	nobody := pgconf.SyncNames(cluster.NewRule(1))
	if err != nil || recovery || have != "" && have != nobody {
		return err
	}
	if have == "" { // otherwise an earlier attempt came this far and saw no commit wait
		if _, err := s.writeNames(ctx, nobody); err != nil {
			return err
		}
	}
	for {
		waits, err := s.commitWaits(ctx)
		if err != nil || waits {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("commits do not wait for a standby yet: %w", err)
		}
	}
}

// commitWaits commits something nobody needs, synchronously, and reports whether the commit waits. It ends the session
// of the waiting commit.
func (s *Server) commitWaits(ctx context.Context) (bool, error) {
	conn, err := s.config().connect(ctx, ourApplication)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "set synchronous_commit = on"); err != nil {
		return false, err
	}
	pid := conn.PgConn().PID()
	committed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "select pg_logical_emit_message(true, 'standfast', 'does a commit wait?')")
		committed <- err
	}()
	for {
		var waits bool
		err := s.safety.use(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, "select coalesce(bool_or(wait_event = 'SyncRep'), false) from pg_stat_activity where pid = $1", pid).Scan(&waits)
		})
		if err == nil && waits {
			err = s.safety.use(ctx, func(conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, "select pg_terminate_backend($1)", pid)
				return err
			})
			<-committed // ended by the server
			return true, err
		}
		select {
		case cerr := <-committed:
			return false, errors.Join(err, cerr)
		case <-time.After(pollPace):
		case <-ctx.Done():
			<-committed // its ctx has ended too
			return false, context.Cause(ctx)
		}
	}
}
