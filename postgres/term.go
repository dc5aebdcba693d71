package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"standfast/cluster"
)

// termSchema holds one row for each reign: what a standby has to have before it may serve reads.
const termSchema = `
create schema if not exists standfast;
revoke all on schema standfast from public;
create table if not exists standfast.term (
	term bigint primary key,
	at timestamptz not null default clock_timestamp(),
	primary_name text not null)`

// WriteTermRow commits the row of a term on this primary without waiting for any standby, and returns a flushed position
// at or after its commit.
//
// The table is made if it is not there: a cluster that Standfast took over has none.
func (s *Server) WriteTermRow(ctx context.Context, t cluster.Term) (cluster.LSN, error) {
	var text string
	err := s.safety.use(ctx, func(conn *pgx.Conn) error {
		insert := func() error {
			_, err := conn.Exec(ctx, `insert into standfast.term (term, primary_name) values ($1, $2)
				on conflict (term) do update set at = clock_timestamp(), primary_name = excluded.primary_name`, int64(t), s.config().Name)
			return err
		}
		err := insert()
		var missing *pgconn.PgError
		if errors.As(err, &missing) && (missing.Code == "42P01" || missing.Code == "3F000") { // undefined table, no such schema
			if _, err = conn.Exec(ctx, termSchema); err == nil {
				err = insert()
			}
		}
		if err != nil {
			return err
		}
		return conn.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&text)
	})
	if err != nil {
		return 0, fmt.Errorf("write the row of term %d: %w", t, err)
	}
	return cluster.ParseLSN(text)
}
