package postgres

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"standfast/pgconf"
)

// OpenClients lets clients in, by the site's lines of pg_hba.conf, and returns when that is in force. Lines that
// PostgreSQL can't read are refused with its own words, and nothing changes.
func (s *Server) OpenClients(ctx context.Context) error {
	if err := s.admission(ctx, true); err != nil {
		return fmt.Errorf("let clients in: %w", err)
	}
	return nil
}

// CloseClients keeps clients out and returns when that is in force; with endSessions those that were in have been cut
// off by then. Members' connections and monitoring go on.
func (s *Server) CloseClients(ctx context.Context, endSessions bool) error {
	err := s.admission(ctx, false)
	if err == nil && endSessions {
		err = s.endClients(ctx)
	}
	if err != nil {
		return fmt.Errorf("keep clients out: %w", err)
	}
	return nil
}

// ClientsOpen reports whether the server lets clients in, after an adoption for example.
func (s *Server) ClientsOpen() (bool, error) {
	b, err := os.ReadFile(s.config().hbaFile())
	if os.IsNotExist(err) {
		return false, nil
	}
	return pgconf.IsOpen(string(b)), err
}

// admission puts one of the two variants of the authentication files in force.
func (s *Server) admission(ctx context.Context, open bool) error {
	if err := s.writeAdmission(ctx, open); err != nil {
		return err
	}
	return s.Reload(ctx)
}

// writeAdmission writes the files and lets PostgreSQL read them without putting them in force. A postmaster that can't
// read a file on reload keeps the old one and says so only in its log.
func (s *Server) writeAdmission(ctx context.Context, open bool) error {
	c := s.config()
	old, err := os.ReadFile(c.hbaFile())
	if err != nil {
		return err
	}
	if err := c.writeFile(c.hbaFile(), []byte(c.hba(open)), false); err != nil {
		return err
	}
	if err := c.writeFile(c.identFile(), []byte(c.ident()), false); err != nil {
		return err
	}
	if !open {
		return nil // every line is ours
	}
	var line int
	var why string
	err = s.control.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select line_number, error from pg_hba_file_rules where error is not null order by 1 limit 1").Scan(&line, &why)
	})
	if err == pgx.ErrNoRows {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("PostgreSQL refuses the cluster's pg_hba lines: %s: %q", why, lineOf(c.hba(open), line))
	}
	if werr := c.writeFile(c.hbaFile(), old, false); werr != nil {
		return werr
	}
	return err
}

// endClients ends every client's session, ours and the monitoring role's excepted, and waits until they are gone.
func (s *Server) endClients(ctx context.Context) error {
	superuser := s.config().Superuser
	return s.control.use(ctx, func(conn *pgx.Conn) error {
		for {
			var left int
			err := conn.QueryRow(ctx, `select count(pg_terminate_backend(pid)) from pg_stat_activity
				where backend_type = 'client backend' and pid <> pg_backend_pid()
				and not (usename = $1 and application_name like $2 || '%') and usename is distinct from $3`,
				superuser, ourApplication, pgconf.MonitorRole).Scan(&left)
			if err != nil || left == 0 {
				return err
			}
			if err := pause(ctx); err != nil {
				return fmt.Errorf("%d sessions do not end: %w", left, err)
			}
		}
	})
}

// lineOf gives one line of a text, counted from 1.
func lineOf(text string, n int) string {
	for line := range strings.SplitSeq(text, "\n") {
		if n--; n == 0 {
			return line
		}
	}
	return ""
}
