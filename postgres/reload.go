package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"standfast/pgconf"
)

// confirmBound is how long a change of the configuration may take to come into force; the postmaster reads it within
// milliseconds unless it is stopped or the host is starved.
const confirmBound = 5 * time.Second

// Reload makes PostgreSQL read its configuration again and returns when a session that began afterwards has it: the
// postmaster has then read parameters and authentication files alike, and has passed the signal on to everybody.
func (s *Server) Reload(ctx context.Context) error {
	return s.reload(ctx, func(*pgx.Conn) (bool, error) { return true, nil })
}

// reload additionally waits until inForce, asked in a session of its own that began after the reload, is true.
func (s *Server) reload(ctx context.Context, inForce func(*pgx.Conn) (bool, error)) error {
	asked, err := s.askToReload()
	if err != nil {
		return err
	}
	return s.seeReloaded(ctx, asked, inForce)
}

// askToReload signals the postmaster to read its configuration and returns a time from before that, by the clock that it
// shares with the server.
func (s *Server) askToReload() (time.Time, error) {
	w := s.postmaster()
	if w == nil {
		return time.Time{}, errors.New("reload the configuration: PostgreSQL does not run")
	}
	if pid, status := s.config().lockFile(); pid != w.pid || status == "" {
		return time.Time{}, errors.New("reload the configuration: PostgreSQL has only just been started") // and would die of the signal
	}
	asked := time.Now().Truncate(time.Microsecond) // the server's times have no more
	if err := w.signal(unix.SIGHUP); err != nil {
		return time.Time{}, fmt.Errorf("reload the configuration: %w", err)
	}
	return asked, nil
}

// seeReloaded waits until a session that begins now shows that the configuration was read after asked, and inForce.
func (s *Server) seeReloaded(ctx context.Context, asked time.Time, inForce func(*pgx.Conn) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, confirmBound)
	defer cancel()
	for {
		done := false
		err := s.fresh(ctx, func(conn *pgx.Conn) error {
			var loaded time.Time
			if err := conn.QueryRow(ctx, "select pg_conf_load_time()").Scan(&loaded); err != nil {
				return err
			}
			if loaded.Before(asked) {
				return nil
			}
			var err error
			done, err = inForce(conn)
			return err
		})
		if err != nil {
			return fmt.Errorf("reload the configuration: see it in force: %w", err)
		}
		if done {
			return nil
		}
		select {
		case <-time.After(pollPace):
		case <-ctx.Done():
			return fmt.Errorf("reload the configuration: not in force after %s: see %s", confirmBound, s.config().LogFile)
		}
	}
}

// alterSystem writes one setting into postgresql.auto.conf, which outranks every other file. It takes effect with the
// next reload.
func (s *Server) alterSystem(ctx context.Context, name, value string) error {
	return s.safety.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "alter system set "+name+" = "+pgconf.Literal(value))
		return err
	})
}
