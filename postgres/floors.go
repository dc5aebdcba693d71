package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// builtin are PostgreSQL's own defaults of what a standby must not set lower than its primary. All are plain numbers.
var builtin = map[string]string{
	"max_connections": "100", "max_worker_processes": "8", "max_wal_senders": "10",
	"max_prepared_transactions": "0", "max_locks_per_transaction": "64",
}

// wanted is the value of such a parameter by these settings.
func wanted(settings map[string]string, name string) (int, bool) {
	text := settings[name]
	if text == "" {
		text = builtin[name]
	}
	v, err := strconv.Atoi(text)
	return v, err == nil
}

// floorsNow are what the running server must have at least: on a standby what its primary had by the newest record that was
// replayed, on a primary nothing.
func (s *Server) floorsNow(ctx context.Context, c Config) (map[string]int, error) {
	var standby bool
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby)
	})
	if err != nil || !standby {
		return nil, err
	}
	control, err := c.controlData(ctx)
	return control.Floors, err
}

// waiting asks the server which parameters wait for a restart, and sorts them.
func (s *Server) waiting(ctx context.Context, c Config, floors map[string]int) (Waiting, error) {
	var w Waiting
	settings := c.settings()
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "select name, setting from pg_settings where pending_restart order by name")
		if err != nil {
			return err
		}
		var name, setting string
		_, err = pgx.ForEachRow(rows, []any{&name, &setting}, func() error {
			w.Restart = append(w.Restart, name)
			want, ok := wanted(settings, name)
			have, err := strconv.Atoi(setting)
			switch _, ordered := builtin[name]; {
			case !ordered || !ok || err != nil:
			case want > have:
				w.Raised = append(w.Raised, name)
			case want < have:
				w.Lowered = append(w.Lowered, name)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return Waiting{}, fmt.Errorf("look for parameters that wait for a restart: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(floors)) {
		if want, ok := wanted(settings, name); ok && want < floors[name] {
			w.Primary = append(w.Primary, name)
		}
	}
	return w, nil
}

// Outgrown lists the parameters in which this running standby has less than its primary, sorted. With any of them its
// replay has paused, as PostgreSQL does then, and goes on after a restart only, which takes what is needed.
func (s *Server) Outgrown(ctx context.Context) ([]string, error) {
	c := s.config()
	floors, err := s.floorsNow(ctx, c)
	if err != nil || len(floors) == 0 {
		return nil, wrapped("compare the parameters with the primary's", err)
	}
	var short []string
	err = s.control.use(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "select name, setting::int from pg_settings where name = any($1) order by name", slices.Sorted(maps.Keys(floors)))
		if err != nil {
			return err
		}
		var name string
		var have int
		_, err = pgx.ForEachRow(rows, []any{&name, &have}, func() error {
			if have < floors[name] {
				short = append(short, name)
			}
			return nil
		})
		return err
	})
	return short, wrapped("compare the parameters with the primary's", err)
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
