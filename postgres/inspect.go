package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Inspect runs f in a session of its own in the database "postgres", for whoever examines the server. It is the superuser's, over the Unix
// socket, so that it is let in when all connections are in use; it gives up a statement that runs for a second or waits for a lock,
// and writes nothing.
func (s *Server) Inspect(ctx context.Context, f func(*pgx.Conn) error) error {
	c, err := s.config().session("postgres", ourApplication+"_doctor")
	if err != nil {
		return fmt.Errorf("inspect PostgreSQL: %w", err)
	}
	c.RuntimeParams["statement_timeout"] = "1s"
	c.RuntimeParams["lock_timeout"] = "100ms"
	c.RuntimeParams["default_transaction_read_only"] = "on"
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("inspect PostgreSQL: %w", err)
	}
	defer closeConn(conn)
	return f(conn)
}
