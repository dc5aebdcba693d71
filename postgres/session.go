package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ourApplication begins the application_name of every session of this package.
const ourApplication = "standfast"

// settings of every session of ours. Nothing of ours may wait for a standby, and nothing that a site or an attacker has
// set for the role or the database may change what our statements mean or how long they take.
var sessionSettings = map[string]string{
	"synchronous_commit":                  "local",
	"search_path":                         "pg_catalog",
	"default_transaction_read_only":       "off",
	"default_transaction_isolation":       "read committed",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"client_encoding":                     "UTF8",
	"standard_conforming_strings":         "on",
	"datestyle":                           "ISO",
	"log_statement":                       "none",
	"log_min_duration_statement":          "-1",
	"jit":                                 "off",
}

// connect opens a session over the Unix socket as the superuser.
func (c Config) connect(ctx context.Context, application string) (*pgx.Conn, error) {
	return c.connectTo(ctx, "postgres", application)
}

// connectTo is connect to another database than postgres.
func (c Config) connectTo(ctx context.Context, database, application string) (*pgx.Conn, error) {
	cfg, err := c.session(database, application)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

func (c Config) session(database, application string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = c.SocketDir, uint16(c.Port), c.Superuser, "", database
	cfg.TLSConfig, cfg.Fallbacks, cfg.ConnectTimeout = nil, nil, 0
	cfg.ValidateConnect, cfg.AfterConnect = nil, nil
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	cfg.RuntimeParams = map[string]string{"application_name": application}
	for k, v := range sessionSettings {
		cfg.RuntimeParams[k] = v
	}
	return cfg, nil
}

// fresh runs f in a session that was opened for it.
func (s *Server) fresh(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := s.config().connect(ctx, ourApplication)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return f(conn)
}

// closeConn says goodbye, but not for long.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // the socket is closed in any case
}

// session is a connection that is kept between uses, for one user at a time.
type session struct {
	server      *Server
	application string
	token       chan struct{}
	conn        *pgx.Conn
	of          *watch // the postmaster that conn belongs to
}

func (k *session) init(s *Server, application string) {
	k.server, k.application, k.token = s, application, make(chan struct{}, 1)
}

func (k *session) acquire(ctx context.Context) error {
	select {
	case k.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// use runs f on the kept connection. After an error that is not the server's answer to a statement the connection is
// given up, for nobody knows what it would say next.
func (k *session) use(ctx context.Context, f func(*pgx.Conn) error) error {
	if err := k.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-k.token }()
	if w := k.server.postmaster(); k.conn != nil && (k.conn.IsClosed() || k.of != w) {
		k.drop()
	}
	if k.conn == nil {
		k.of = k.server.postmaster()
		conn, err := k.server.config().connect(ctx, k.application)
		if err != nil {
			return err
		}
		k.conn = conn
	}
	err := f(k.conn)
	var answered *pgconn.PgError
	if err != nil && (!errors.As(err, &answered) || answered.Severity == "FATAL" || answered.Severity == "PANIC") {
		k.drop()
	}
	return err
}

func (k *session) drop() {
	if k.conn != nil {
		closeConn(k.conn)
		k.conn = nil
	}
}

func (k *session) close(ctx context.Context) error {
	if err := k.acquire(ctx); err != nil {
		return fmt.Errorf("close the session: %w", err)
	}
	defer func() { <-k.token }()
	k.drop()
	return nil
}

// Ping asks a new session for an answer.
func (s *Server) Ping(ctx context.Context) error {
	return s.fresh(ctx, func(conn *pgx.Conn) error {
		var one int
		if err := conn.QueryRow(ctx, "select 1").Scan(&one); err != nil {
			return fmt.Errorf("ask PostgreSQL: %w", err)
		}
		return nil
	})
}

// awaitAnswer waits until sessions are let in: recovery has become consistent, or the primary is up.
func (s *Server) awaitAnswer(ctx context.Context) error {
	t := time.NewTicker(5 * pollPace)
	defer t.Stop()
	for {
		err := s.Ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-t.C:
		case <-s.Exited():
			return fmt.Errorf("wait for PostgreSQL to answer: it has ended: see %s", s.config().LogFile)
		case <-ctx.Done():
			return fmt.Errorf("wait for PostgreSQL to answer: %w", err)
		}
	}
}

// Checkpoint makes PostgreSQL write a checkpoint now (a restartpoint on a standby) and returns when it is done. After a
// promotion it makes the new timeline known to pg_rewind.
func (s *Server) Checkpoint(ctx context.Context) error {
	err := s.fresh(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "checkpoint")
		return err
	})
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}
