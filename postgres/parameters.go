package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"standfast/pgconf"
)

// CheckParameters asks PostgreSQL itself whether it accepts the parameters, together and before anything is kept. The
// error holds PostgreSQL's own message.
func (s *Server) CheckParameters(ctx context.Context, params map[string]string) error {
	c := s.config()
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if why, ours := c.owned(name); ours {
			return fmt.Errorf("parameter %s can't be set: %s", name, why)
		}
	}
	if err := c.tryParameters(ctx, params); err != nil {
		return fmt.Errorf("PostgreSQL refuses the parameters: %w", err)
	}
	return nil
}

// tryParameters starts the server's program for a moment, to print one parameter. On version 15 and later it is asked
// for the size of shared memory, for which it loads the libraries to be preloaded and works out what it would need; that
// takes a data directory that no server uses, so it gets one of its own with a copy of the control file.
func (c Config) tryParameters(ctx context.Context, params map[string]string) error {
	v, err := serverVersion(c.BinDir)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "standfast-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	full, err := c.scratch(dir)
	if err != nil {
		return err
	}
	full = full && v.Major >= 15
	ask := "max_connections"
	if full {
		ask = "shared_memory_size"
	}
	args := []string{"-D", dir, "-C", ask, "-c", "data_directory=" + dir, "-c", "log_min_messages=fatal"}
	for _, p := range pgconf.Sorted(params) {
		args = append(args, "-c", p.Name+"="+p.Value)
	}
	out, err := c.run(ctx, "postgres", args...)
	var perr *ProgramError
	if errors.As(err, &perr) {
		return errors.New(plainMessage(perr.Said))
	}
	if err != nil || !full {
		return err
	}
	return fitsMemory(out)
}

// scratch fills a directory with just enough to be taken for a data directory. Before there is data it can't, reports
// false, and less is checked.
func (c Config) scratch(dir string) (full bool, err error) {
	full = true
	for _, f := range []string{"PG_VERSION", "global/pg_control"} {
		b, err := os.ReadFile(filepath.Join(c.DataDir, f))
		if errors.Is(err, os.ErrNotExist) {
			full = false
			continue
		}
		if err == nil {
			err = errors.Join(c.makeDir(filepath.Join(dir, "global")), c.writeFile(filepath.Join(dir, f), b, false))
		}
		if err != nil {
			return false, fmt.Errorf("copy %s: %w", f, err)
		}
	}
	return full, errors.Join(c.writeFile(filepath.Join(dir, "postgresql.conf"), nil, false), c.own(dir))
}

var severity = regexp.MustCompile(`^.*?(FATAL|ERROR|LOG|HINT|DETAIL|WARNING): +`)

// plainMessage strips the log's prefixes and severities off PostgreSQL's message.
func plainMessage(said string) string {
	var out []string
	for part := range strings.SplitSeq(said, "; ") {
		out = append(out, severity.ReplaceAllString(part, ""))
	}
	return strings.Join(out, "; ")
}

// fitsMemory compares the shared memory that the server would need, in megabytes, with what the host has.
func fitsMemory(out string) error {
	need, err := strconv.ParseUint(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return fmt.Errorf("read the size of shared memory: %w", err)
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		var kb uint64
		if n, _ := fmt.Sscanf(string(line), "MemTotal: %d kB", &kb); n == 1 && need > kb>>10 {
			return fmt.Errorf("the server would need %d MB of shared memory and this host has %d MB: lower shared_buffers", need, kb>>10)
		}
	}
	return nil
}

// Waiting says which of the cluster's parameters are not in force yet, and what each waits for. All lists are sorted.
type Waiting struct {
	Restart []string // for a restart of this server

	// Raised and Lowered are those of Restart in which a standby must not have less than its primary ("Hot Standby",
	// section "Administrator's Overview"): raised on the standbys first and on the primary last, lowered the other way
	// round.
	Raised, Lowered []string

	// Primary lists what has been lowered and is kept up on this standby, for its primary has been running with more.
	Primary []string
}

// ApplyParameters checks the cluster's parameters, keeps them for this and later starts, and puts in force what needs no
// restart, the site's lines of pg_hba.conf and pg_ident.conf (SetConfig) included. It returns what waits. When PostgreSQL
// refuses, nothing has changed. A server that does not run takes them at its next start.
func (s *Server) ApplyParameters(ctx context.Context, params map[string]string) (Waiting, error) {
	if err := s.CheckParameters(ctx, params); err != nil {
		return Waiting{}, err
	}
	cfg := s.config()
	cfg.Parameters = maps.Clone(params)
	if s.postmaster() == nil {
		s.SetConfig(cfg)
		return Waiting{}, nil
	}
	w, err := s.putInForce(ctx, cfg)
	if err != nil {
		return Waiting{}, fmt.Errorf("apply parameters: %w", err)
	}
	return w, nil
}

// RefreshParameters does what ApplyParameters does with the parameters that it kept. What a server may have depends on
// whether it is a standby, and on a standby on what it has replayed of its primary's.
func (s *Server) RefreshParameters(ctx context.Context) (Waiting, error) {
	if s.postmaster() == nil {
		return Waiting{}, nil
	}
	w, err := s.putInForce(ctx, s.config())
	if err != nil {
		return Waiting{}, fmt.Errorf("refresh parameters: %w", err)
	}
	return w, nil
}

// putInForce writes the file that the server's role allows, reloads it, and asks what waits.
func (s *Server) putInForce(ctx context.Context, cfg Config) (Waiting, error) {
	s.files.Lock()
	defer s.files.Unlock()
	floors, err := s.floorsNow(ctx, cfg)
	if err != nil {
		return Waiting{}, err
	}
	old, err := os.ReadFile(cfg.confFile())
	if err != nil {
		return Waiting{}, err
	}
	text := []byte(cfg.confText(floors))
	if !bytes.Equal(old, text) {
		if err := s.replaceConf(ctx, cfg, old, text); err != nil {
			return Waiting{}, err
		}
	}
	s.keepParameters(cfg.Parameters)
	s.door.Lock()
	open, err := s.ClientsOpen() // the site's lines may have changed with the parameters
	if err == nil {
		err = s.admission(ctx, open)
	}
	s.door.Unlock()
	if err != nil {
		return Waiting{}, fmt.Errorf("apply the pg_hba lines: %w", err)
	}
	return s.waiting(ctx, cfg, floors)
}

// replaceConf puts a new file in force, or the old one back when PostgreSQL finds a fault in the new one after all.
func (s *Server) replaceConf(ctx context.Context, c Config, old, text []byte) error {
	if err := c.writeFile(c.confFile(), text, true); err != nil {
		return err
	}
	var name, why string
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select coalesce(name, ''), error from pg_file_settings
			where sourcefile = $1 and error is not null and error <> 'setting could not be applied' order by seqno limit 1`, c.confFile()).Scan(&name, &why)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return s.Reload(ctx)
	}
	if err == nil {
		err = fmt.Errorf("PostgreSQL refuses %s: %s", name, why)
	}
	return errors.Join(err, c.writeFile(c.confFile(), old, true))
}
