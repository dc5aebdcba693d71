package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"standfast/pgconf"
)

// Source is the primary that data is taken from.
type Source struct {
	Host string
	Port int

	// KeepOld makes Clone move the old data aside instead of removing it, until a later clone replaces what was moved.
	KeepOld bool

	// Touch, if not nil, is asked before the old data is given up. It is given what marks the data as half made, durably,
	// and either calls that, while nothing can overrule the leave to touch the data, or returns why it must be left alone.
	Touch func(mark func() error) error
}

// touch marks the data as half made, if it may be touched.
func (from Source) touch(mark func() error) error {
	if from.Touch == nil {
		return mark()
	}
	return from.Touch(mark)
}

// ParseSource reads "host:port", with an IPv6 address in brackets.
func ParseSource(addr string) (Source, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Source{}, fmt.Errorf("parse the address of a PostgreSQL server %q: %w", addr, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return Source{}, fmt.Errorf("parse the address of a PostgreSQL server %q: want host:port", addr)
	}
	return Source{Host: host, Port: int(n)}, nil
}

// conninfo logs in to the source by the member's certificate. The source's certificate must come from the cluster's
// authority; its names are not compared, for PostgreSQL 14's libpq can't compare addresses.
func (c Config) conninfo(from Source, role, application, database string) pgconf.Conninfo {
	return pgconf.Conninfo{
		{"host", from.Host}, {"port", strconv.Itoa(from.Port)}, {"user", role}, {"dbname", database},
		{"sslmode", "verify-ca"}, {"sslrootcert", c.CA}, {"sslcert", c.Cert}, {"sslkey", c.Key},
		{"application_name", application}, {"connect_timeout", "10"},
	}
}

// libpqOnly are keywords that PostgreSQL's own programs need besides and pgx does not know: a source that disappears
// without a word must not hold them up for hours.
var libpqOnly = pgconf.Conninfo{{"gssencmode", "disable"},
	{"keepalives_idle", "5"}, {"keepalives_interval", "2"}, {"keepalives_count", "5"}, {"tcp_user_timeout", "20000"}}

// libpq is conninfo for PostgreSQL's own programs.
func (c Config) libpq(from Source, role, application, database string) string {
	return append(c.conninfo(from, role, application, database), libpqOnly...).String()
}

// Clone replaces the data directory by a base backup of the source: with its tablespaces and a separate WAL directory,
// WAL streamed meanwhile through this member's slot. progress, if not nil, is called about once a second with bytes
// copied and in all (an estimate that may be exceeded). A durable marker makes the data Partial until all of it is on
// disk; a source that can't be reached costs nothing. The server must be stopped.
//
// Its connections bear no member's application_name, so that they can't count in the commit rule.
func (s *Server) Clone(ctx context.Context, from Source, progress func(done, total int64)) error {
	release, err := s.exclusive(ctx)
	if err == nil {
		defer release()
		err = s.clone(ctx, from, progress)
	}
	if err != nil {
		return fmt.Errorf("clone from %s: %w", net.JoinHostPort(from.Host, strconv.Itoa(from.Port)), err)
	}
	return nil
}

func (s *Server) clone(ctx context.Context, from Source, progress func(done, total int64)) error {
	c := s.config()
	if s.postmaster() != nil {
		return ErrRunning
	}
	if err := s.KillAll(ctx); err != nil {
		return err
	}
	there, err := c.lookAtSource(ctx, from)
	if err != nil {
		return err
	}
	if err := s.makeRoom(c, there, from); err != nil {
		return err
	}
	if err := c.basebackup(ctx, from, there, progress); err != nil {
		return err
	}
	// pg_basebackup has synced everything; this makes the names of what is ours durable too.
	if err := c.writeFile(c.standbyFile(), nil, true); err != nil {
		return err
	}
	return c.unmark()
}

// sourceFacts are what a clone has to know of its source beforehand.
type sourceFacts struct {
	hasSlot     bool     // this member's
	tablespaces []string // paths there
}

// lookAtSource asks the source. A source that can't be reached costs no data.
func (c Config) lookAtSource(ctx context.Context, from Source) (sourceFacts, error) {
	var there sourceFacts
	conn, err := c.connectSource(ctx, from)
	if err != nil {
		return there, err
	}
	defer closeConn(conn)
	err = conn.QueryRow(ctx, `select exists (select from pg_replication_slots where slot_name = $1),
		coalesce((select array_agg(pg_tablespace_location(oid)) from pg_tablespace where pg_tablespace_location(oid) <> ''), '{}')`,
		c.slot()).Scan(&there.hasSlot, &there.tablespaces)
	if err != nil {
		return there, fmt.Errorf("ask for slot and tablespaces: %w", err)
	}
	return there, nil
}

// makeRoom marks the data as partial and empties its places. What a clone that failed has left in tablespaces goes too;
// its own links to them are gone by then.
func (s *Server) makeRoom(c Config, there sourceFacts, from Source) error {
	spaces, err := c.tablespaces()
	if err != nil {
		return err
	}
	begun, err := c.marked()
	if err != nil {
		return err
	}
	if err := from.touch(func() error { return errors.Join(c.mark(workClone), s.disprove()) }); err != nil {
		return err
	}
	s.forget()
	keep := from.KeepOld
	if begun == workClone {
		keep = false // a half-made copy must not take the place of what an earlier attempt has moved aside
		for _, path := range there.tablespaces {
			if here, mapped := c.Tablespaces[path]; mapped {
				path = here
			}
			left, err := filepath.Glob(filepath.Join(path, "PG_*_*"))
			for _, dir := range left {
				err = errors.Join(err, os.RemoveAll(dir))
			}
			if err != nil {
				return fmt.Errorf("make room in %s: %w", path, err)
			}
		}
	}
	return c.clearAway(keep, spaces)
}

// basebackup runs pg_basebackup. It makes the slot when the source has none for this member yet.
func (c Config) basebackup(ctx context.Context, from Source, there sourceFacts, progress func(done, total int64)) error {
	args := []string{"-D", c.DataDir, "-d", c.libpq(from, pgconf.ReplicationRole, "standfast_clone", ""),
		"--checkpoint=fast", "--wal-method=stream", "--slot=" + c.slot(), "--no-password", "--progress", "--verbose", "--label=standfast " + c.Name}
	if !there.hasSlot {
		args = append(args, "--create-slot")
	}
	if c.WALDir != "" {
		args = append(args, "--waldir="+c.WALDir)
	}
	for _, old := range slices.Sorted(maps.Keys(c.Tablespaces)) {
		args = append(args, "--tablespace-mapping="+strings.ReplaceAll(old, "=", `\=`)+"="+strings.ReplaceAll(c.Tablespaces[old], "=", `\=`))
	}
	_, err := c.runWatched(ctx, &progressWriter{report: progress}, "pg_basebackup", args...)
	return err
}

// tablespaces lists the directories outside the data directory that the old data uses.
func (c Config) tablespaces() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.DataDir, "pg_tblspc"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		target, lerr := os.Readlink(filepath.Join(c.DataDir, "pg_tblspc", e.Name()))
		if lerr == nil && filepath.IsAbs(target) {
			out = append(out, target)
		}
	}
	return out, err
}

// clearAway makes room: directories stay (they may be mount points), their content is removed or moved aside. What an
// earlier call has moved aside is removed first, so that there is at most one such copy.
func (c Config) clearAway(keep bool, spaces []string) error {
	wal := c.WALDir
	if t, err := os.Readlink(c.walDir()); err == nil && filepath.IsAbs(t) {
		wal = t // wherever the old data has it
	}
	dirs := append([]string{wal, c.WALDir}, spaces...)
	slices.Sort(dirs)
	for _, dir := range append(slices.Compact(dirs), c.DataDir) {
		if dir == "" {
			continue
		}
		empty, err := isEmpty(dir)
		if err == nil && keep && !empty {
			err = c.moveAside(dir)
		}
		if err == nil {
			err = errors.Join(clearDir(dir), c.makeDir(dir))
		}
		if err != nil {
			return fmt.Errorf("make room in %s: %w", dir, err)
		}
	}
	return nil
}

// moveAside renames everything in dir into a directory beside it. A rename needs the same file system, so a mount point's
// content can't be kept.
func (c Config) moveAside(dir string) error {
	aside := dir + ".standfast.old"
	if err := errors.Join(os.RemoveAll(aside), c.makeDir(aside)); err != nil {
		return fmt.Errorf("keep the old data: %w (the directory above must be writable for it)", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(aside, e.Name())); err != nil {
			return fmt.Errorf("keep the old data: %w (remove %s, or copy it elsewhere, and clone again)", err, dir)
		}
	}
	return syncDir(aside)
}

// progressWriter reads pg_basebackup's progress reports, "  1234/5678 kB (21%), 0/1 tablespace".
type progressWriter struct {
	report func(done, total int64)
	line   []byte
}

var progressLine = regexp.MustCompile(`(\d+)/(\d+) kB \(`)

func (p *progressWriter) Write(b []byte) (int, error) {
	for _, c := range b {
		if c != '\n' && c != '\r' {
			p.line = append(p.line, c)
			continue
		}
		m := progressLine.FindSubmatch(p.line)
		p.line = p.line[:0]
		if m == nil || p.report == nil {
			continue
		}
		done, derr := strconv.ParseInt(string(m[1]), 10, 54)
		total, terr := strconv.ParseInt(string(m[2]), 10, 54)
		if errors.Join(derr, terr) == nil {
			p.report(done<<10, total<<10)
		}
	}
	return len(b), nil
}
