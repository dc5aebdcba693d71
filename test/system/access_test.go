//go:build e2e

package system

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestSessionTLS: PostgreSQL's own TLS passes through every router and the floating address, to the primary and to a standby.
func TestSessionTLS(t *testing.T) {
	t.Parallel()
	r, primary, term := whole(t)
	s := &scene{t: t, r: r, primary: primary, term: term}
	ways := map[string]string{"the floating address, writing": r.WriteDSN(), "the floating address, reading": r.ReadDSN()}
	for _, n := range r.Nodes {
		ways[n.Name+", writing"], ways[n.Name+", reading"] = r.WriteThrough(n), r.ReadThrough(n)
	}
	for name, dsn := range ways {
		dsn = strings.Replace(dsn, "sslmode=prefer", "sslmode=require", 1)
		if got := s.ask(dsn, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl"); !strings.HasPrefix(got, "TLS") {
			t.Errorf("through %s: %q", name, got)
		}
		recovery := s.ask(dsn, "SELECT pg_is_in_recovery()::text")
		if want := map[bool]string{true: "true", false: "false"}[strings.HasSuffix(name, "reading")]; recovery != want {
			t.Errorf("through %s: in recovery is %s", name, recovery)
		}
	}
}

// TestWrongPassword: SCRAM is asked for through the router as without it, and a wrong password is refused.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	r, _, _ := whole(t)
	pgpass, err := os.ReadFile(r.PasswordFile())
	must(t, err)
	for _, n := range r.Nodes {
		cfg, err := pgx.ParseConfig(r.WriteThrough(n))
		must(t, err)
		if !strings.Contains(string(pgpass), cfg.Password) || cfg.Password == "" {
			t.Fatal("the right password is not the one in the file, so a wrong one proves nothing")
		}
		cfg.Password = "not the password"
		ctx, cancel := context.WithTimeout(all, 20*time.Second)
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			_ = conn.Close(ctx)
			t.Errorf("a wrong password was accepted through %s", n.Name)
		}
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "28P01" { // invalid_password
			t.Errorf("through %s: %v", n.Name, err)
		}
		cancel()
	}
}
