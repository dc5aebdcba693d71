package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"standfast/pgconf"
)

// OpenClients lets clients in, by the site's lines of pg_hba.conf, and returns when that is in force. Lines that
// PostgreSQL can't read are refused with its own words, and nothing changes.
func (s *Server) OpenClients(ctx context.Context) error {
	s.door.Lock()
	defer s.door.Unlock()
	if err := s.admission(ctx, true); err != nil {
		return fmt.Errorf("let clients in: %w", err)
	}
	return nil
}

// CloseClients keeps clients out and returns when that is in force; with endSessions those that were in have been cut
// off by then. Members' connections and monitoring go on.
func (s *Server) CloseClients(ctx context.Context, endSessions bool) error {
	s.door.Lock()
	defer s.door.Unlock()
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

// admission puts one of the two variants of the authentication files in force, or the old ones back when PostgreSQL can't
// read the new. A postmaster that can't keeps what it has and says so only in its log, so the file is asked about in the
// session that shows the reload.
func (s *Server) admission(ctx context.Context, open bool) error {
	old, err := os.ReadFile(s.config().hbaFile())
	if err != nil {
		return err
	}
	if err := s.writeAdmission(open); err != nil {
		return err
	}
	var refused error
	err = s.reload(ctx, func(conn *pgx.Conn) (bool, error) {
		var err error
		if open { // otherwise every line is ours
			refused, err = s.refusedLine(ctx, conn)
		}
		return err == nil, err
	})
	if refused != nil {
		return errors.Join(refused, s.config().writeFile(s.config().hbaFile(), old, false))
	}
	return err
}

// writeAdmission writes the files without putting them in force.
func (s *Server) writeAdmission(open bool) error {
	c := s.config()
	if err := c.writeFile(c.hbaFile(), []byte(c.hba(open)), false); err != nil {
		return err
	}
	return c.writeFile(c.identFile(), []byte(c.ident()), false)
}

// refusedLine names the first line of an open pg_hba.conf that PostgreSQL can't read; nil if there is none.
func (s *Server) refusedLine(ctx context.Context, conn *pgx.Conn) (refused, err error) {
	var line int
	var why string
	err = conn.QueryRow(ctx, "select line_number, error from pg_hba_file_rules where error is not null order by 1 limit 1").Scan(&line, &why)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return fmt.Errorf("PostgreSQL refuses the cluster's pg_hba lines: %s: %q", why, lineOf(s.config().hba(true), line)), nil
}

// endClients ends every client's session, ours and the monitoring role's excepted, and waits until they are gone.
func (s *Server) endClients(ctx context.Context) error {
	superuser := s.config().Superuser
	born, err := s.unnamed()
	if err != nil {
		return err
	}
	since := time.Now()
	return s.safety.use(ctx, func(conn *pgx.Conn) error {
		for {
			// Those that are still logging in first: whoever is done with it by now is in the table.
			entering, err := s.endEntering(born, time.Since(since) > namedWithin)
			if err != nil {
				return err
			}
			var left int
			err = conn.QueryRow(ctx, `select count(pg_terminate_backend(pid)) from pg_stat_activity
				where backend_type = 'client backend' and pid <> pg_backend_pid()
				and not (usename = $1 and application_name like $2 || '%') and usename is distinct from $3`,
				superuser, ourApplication, pgconf.MonitorRole).Scan(&left)
			if err != nil || left+entering == 0 {
				return err
			}
			if err := pause(ctx); err != nil {
				return fmt.Errorf("%d sessions do not end: %w", left+entering, err)
			}
		}
	})
}

// entering matches the title of a process whose client is logging in: "postgres: pg1: user database host activity".
// pg_stat_activity does not list it, and it was let in by the pg_hba.conf of the moment it was born.
var entering = regexp.MustCompile(`^postgres: .*(\(\d+\)|\[local\]) (initializing|authentication|startup)$`)

// unnamed lists the children of the postmaster that still go by its own title: their clients have sent no startup packet yet
// (init_ps_display comes after it, backend_startup.c). It is asked once pg_hba.conf is in force: those that are born later have it.
func (s *Server) unnamed() ([]int, error) {
	w := s.postmaster()
	if w == nil {
		return nil, nil
	}
	pids, err := children(w.pid)
	if err != nil {
		return nil, fmt.Errorf("look for connections that have not begun to log in: %w", err)
	}
	own := title(w.pid)
	return slices.DeleteFunc(pids, func(pid int) bool { return title(pid) != own }), nil
}

// title is what a process shows as its command line; "" if it is gone.
func title(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimRight(string(b), "\x00 ")
}

// namedWithin is how long a connection may take to say who it is, before it is ended with the clients'. It may be one of ours:
// others of this program's goroutines ask the server at the same time, for a promotion's slots for example.
const namedWithin = 500 * time.Millisecond

// endEntering ends the processes whose clients are logging in, and returns how many there were. Of the given ones, those whose
// clients have not begun to are counted, and if it is late ended. Our own sessions are the superuser's, over the Unix socket.
func (s *Server) endEntering(unnamed []int, late bool) (int, error) {
	w := s.postmaster()
	if w == nil {
		return 0, nil
	}
	pids, err := children(w.pid)
	if err != nil {
		return 0, fmt.Errorf("look for sessions that log in: %w", err)
	}
	ours, own := " "+s.config().Superuser+" postgres [local] ", title(w.pid)
	n := 0
	for _, pid := range pids {
		t := title(pid)
		early := own != "" && t == own && slices.Contains(unnamed, pid)
		if !early && (!entering.MatchString(t) || strings.Contains(t, ours)) {
			continue
		}
		if n++; early && !late {
			continue
		}
		if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return n, fmt.Errorf("end a session that logs in: %w", err)
		}
	}
	return n, nil
}

// children lists a process's children.
func children(pid int) ([]int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for f := range strings.FieldsSeq(string(b)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, n)
	}
	return pids, nil
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
