package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"standfast/pgconf"
)

// Init makes the first data of a new cluster and leaves it running as the primary on timeline 1: closed to clients, with
// names that nobody can meet, with Standfast's roles and the schema of the term rows. The directory must be absent or
// empty, or what an Init that was cut short has left.
func (s *Server) Init(ctx context.Context) error {
	release, err := s.exclusive(ctx)
	if err == nil {
		defer release()
		err = s.init(ctx)
	}
	if err != nil {
		return fmt.Errorf("initialise a new cluster: %w", err)
	}
	return nil
}

func (s *Server) init(ctx context.Context) error {
	c := s.config()
	if work, err := c.marked(); err != nil {
		return err
	} else if work == workInit { // an earlier agent began and did not finish
		if err := s.KillAll(ctx); err != nil {
			return err
		}
	} else if s.postmaster() != nil {
		return ErrRunning
	}
	if err := s.initdb(ctx, c); err != nil {
		return err
	}
	s.forget()
	if err := s.KillAll(ctx); err != nil {
		return err
	}
	if err := s.launch(ctx, c); err != nil {
		return err
	}
	if err := s.awaitAnswer(ctx); err != nil {
		return err
	}
	if err := s.createRoles(ctx); err != nil {
		return err
	}
	return c.unmark()
}

// initdb makes the data under a marker that says it is worth nothing yet.
func (s *Server) initdb(ctx context.Context, c Config) error {
	work, err := c.marked()
	if err != nil {
		return err
	}
	for _, dir := range []string{c.DataDir, c.WALDir} {
		if dir == "" {
			continue
		}
		empty, err := isEmpty(dir)
		if err != nil {
			return err
		}
		if !empty && work != workInit {
			return fmt.Errorf("%s is not empty: choose an empty directory, or move what is in it away", dir)
		}
		if err := errors.Join(clearDir(dir), c.makeDir(dir)); err != nil {
			return err
		}
	}
	if err := c.mark(workInit); err != nil {
		return err
	}
	args := []string{"-D", c.DataDir, "-U", c.Superuser, "-E", "UTF8", "--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256",
		fmt.Sprintf("--wal-segsize=%d", segmentSize)}
	if c.WALDir != "" {
		args = append(args, "-X", c.WALDir)
	}
	v, err := serverVersion(c.BinDir)
	if err != nil {
		return err
	}
	if _, err = c.run(ctx, "initdb", append(args, locale(ctx, v)...)...); err != nil {
		return err
	}
	return c.appendConf(walSizes)
}

// segmentSize is the size of a new cluster's WAL segments, in MB; PostgreSQL's own is 16. A failover waits for three copies
// of the segment that the old primary was writing: the winner makes the new timeline's first segment, whole and synced, and
// a standby receives its WAL from the beginning of the segment, once on the old timeline up to the fork and once on the new
// one. That is about a tenth of a second with 16 MB. Smaller still would mean more files to switch, to archive and to keep
// than a busy server should have. A cluster that is taken over keeps its size.
const segmentSize = 4

// walSizes are what initdb leaves with segments of the usual size; it counts them in segments.
var walSizes = []pgconf.Setting{{Name: "max_wal_size", Value: "1GB"}, {Name: "min_wal_size", Value: "80MB"}}

// appendConf adds to the site's own postgresql.conf.
func (c Config) appendConf(settings []pgconf.Setting) error {
	path := filepath.Join(c.DataDir, "postgresql.conf")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return c.writeFile(path, append(text, pgconf.Render("Added by Standfast when it made this cluster.", settings)...), true)
}

// locale chooses an order of text that no upgrade of the operating system changes (a changed one makes indexes wrong) with
// the character classes of Unicode. Since version 17 PostgreSQL has such a locale built in; before, it is the C order with
// the C library's C.UTF-8, which every supported distribution brings, or plain C where it is missing.
func locale(ctx context.Context, v pgconf.Version) []string {
	if v.Major >= 17 {
		return []string{"--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"}
	}
	out, err := exec.CommandContext(ctx, "locale", "-a").Output()
	if err == nil && strings.Contains(strings.ToLower(strings.ReplaceAll(string(out), "-", "")), "c.utf8") {
		return []string{"--locale=C", "--lc-ctype=C.UTF-8"}
	}
	return []string{"--locale=C"}
}

// rewindFunctions are what pg_rewind reads its source with ("pg_rewind", section "Notes").
var rewindFunctions = []string{
	"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)",
	"pg_read_binary_file(text)", "pg_read_binary_file(text, bigint, bigint, boolean)",
}

// createRoles makes the roles, with just what each needs, and the schema of the term rows. Members log in by certificate
// and have no password; the monitoring role's is generated and put into a file that only its owner reads.
func (s *Server) createRoles(ctx context.Context) error {
	password, err := s.config().password(pgconf.MonitorRole)
	if err != nil {
		return err
	}
	statements := []string{
		unlessThere(pgconf.ReplicationRole, "login replication"),
		unlessThere(pgconf.RewindRole, "login"),
		unlessThere(pgconf.MonitorRole, "login in role pg_monitor password "+pgconf.Literal(password)),
	}
	for _, f := range rewindFunctions {
		statements = append(statements, "grant execute on function pg_catalog."+f+" to "+pgconf.RewindRole)
	}
	statements = append(statements, termSchema)
	return s.fresh(ctx, func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("make Standfast's roles and schema: %w", err)
			}
		}
		return nil
	})
}

// unlessThere makes a role, for a server that was taken over may have it from an attempt before.
func unlessThere(role, options string) string {
	return fmt.Sprintf("do $do$ begin if not exists (select from pg_roles where rolname = %s) then create role %s %s; end if; end $do$", pgconf.Literal(role), role, options)
}

// password reads a role's generated password, or generates it.
func (c Config) password(role string) (string, error) {
	dir := c.PasswordDir
	if dir == "" {
		dir = filepath.Dir(c.DataDir)
	}
	path := filepath.Join(dir, role+".password")
	b, err := os.ReadFile(path)
	if err == nil {
		return string(b), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the password of %s: %w", role, err)
	}
	p := rand.Text()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep the password of %s: %w", role, err)
	}
	return p, c.writeFile(path, []byte(p), true) // with mode 0600, as every temporary file
}
