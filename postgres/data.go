package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"standfast/cluster"
	"standfast/pgconf"
)

// Kinds of work that a marker stands for, and the marker's content.
const (
	workInit    = "init"
	workClone   = "clone"
	workRewind  = "rewind"
	workRestore = "restore"
)

// markers are the places where a marker may lie. It can't lie in the data directory: pg_basebackup wants that empty and
// pg_rewind removes what the source does not have. Beside it is best, for there it moves with the data's disk; where
// that directory belongs to somebody else, the agent's own directory serves.
func (c Config) markers() []string {
	out := []string{c.DataDir + ".standfast.partial"}
	if c.PasswordDir != "" {
		out = append(out, filepath.Join(c.PasswordDir, "standfast.partial"))
	}
	return out
}

// mark makes it durable that the data is being made and is worth nothing until unmark.
func (c Config) mark(work string) error {
	var errs []error
	_ = c.makeDir(filepath.Dir(c.DataDir)) // where it can't be made, the next place serves
	for _, path := range c.markers() {
		err := c.writeFile(path, []byte(work+"\n"), true)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("mark the data as partial: %w", errors.Join(errs...))
}

// unmark makes the data count. Everything in it must be on disk before.
func (c Config) unmark() error {
	for _, path := range c.markers() {
		if err := removeFile(path); err != nil {
			return fmt.Errorf("unmark the data: %w", err)
		}
	}
	return nil
}

// marked gives the work that was begun and not finished, "" if none.
func (c Config) marked() (string, error) {
	for _, path := range c.markers() {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the marker: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	return "", nil
}

// Data looks at the data directory: what it holds, and the system identifier of what is there. Whether that is another
// cluster's is the caller's to see by the identifier. An initdb that was not finished is no data.
func (s *Server) Data(ctx context.Context) (cluster.DataState, string, error) {
	c := s.config()
	work, err := c.marked()
	if err != nil {
		return "", "", err
	}
	empty, err := isEmpty(c.DataDir)
	if err != nil {
		return "", "", fmt.Errorf("look at the data directory: %w", mine(err, c.DataDir))
	}
	switch {
	case work == workInit, work == "" && empty:
		return cluster.NoData, "", nil
	case work != "":
		return cluster.DataPartial, "", nil
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, "PG_VERSION")); err != nil {
		return "", "", fmt.Errorf("%s is not empty and holds no PostgreSQL data (%w): move its contents away, or choose another directory with postgres.data_dir", c.DataDir, pathless(err))
	}
	id, err := s.systemID(ctx)
	if err != nil {
		return "", "", err
	}
	return cluster.DataReady, id, nil
}

// mine adds to a refusal by the file system how the directory becomes this user's.
func mine(err error, dir string) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	name := strconv.Itoa(os.Geteuid())
	if u, lookup := user.LookupId(name); lookup == nil {
		name = u.Username
	}
	return fmt.Errorf("%w: this runs as %s, to whom it has to belong: chown -R %s %s", err, name, name, dir)
}

// pathless is the cause without the path, where the sentence names it already.
func pathless(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", filepath.Base(p.Path), p.Err)
	}
	return err
}

// known caches what only changes when the control file becomes another one.
type known struct {
	ino      uint64
	systemID string
	segment  uint64
}

// systemID reads the control file's identifier, through pg_controldata only when the directory was replaced.
func (s *Server) systemID(ctx context.Context) (string, error) {
	k, err := s.lookup(ctx)
	return k.systemID, err
}

// segmentSize is the size of a WAL segment in bytes.
func (s *Server) segmentSize(ctx context.Context) (uint64, error) {
	k, err := s.lookup(ctx)
	return k.segment, err
}

func (s *Server) lookup(ctx context.Context) (known, error) {
	c := s.config()
	info, err := os.Stat(filepath.Join(c.DataDir, "PG_VERSION"))
	if err != nil {
		return known{}, fmt.Errorf("look at the data directory: %w", err)
	}
	ino := info.Sys().(*syscall.Stat_t).Ino
	s.mu.Lock()
	k := s.known
	s.mu.Unlock()
	if k.ino == ino && k.systemID != "" {
		return k, nil
	}
	cd, err := c.controlData(ctx)
	if err != nil {
		return known{}, err
	}
	id, err := c.identity(cd)
	if err != nil {
		return known{}, err
	}
	k = known{ino: ino, systemID: id, segment: cd.SegmentSize}
	s.mu.Lock()
	s.known = k
	s.mu.Unlock()
	return k, nil
}

// lineageName is a file in the data directory of a cluster that was founded on restored data. It has the system identifier of the
// cluster that the backup was of, and so has the data of that cluster's members; this word, which clones and rewinds bring along,
// tells them apart.
const lineageName = "standfast.lineage"

// identity is what distinguishes a cluster's data from any other's: PostgreSQL's system identifier, and after a slash the lineage if
// there is one.
func (c Config) identity(cd pgconf.Control) (string, error) {
	word, err := os.ReadFile(filepath.Join(c.DataDir, lineageName))
	if errors.Is(err, fs.ErrNotExist) {
		return cd.SystemID, nil
	}
	if err != nil {
		return "", fmt.Errorf("read the data's lineage: %w", err)
	}
	return cd.SystemID + "/" + strings.TrimSpace(string(word)), nil
}

// forget drops what is known of a data directory that is about to be replaced.
func (s *Server) forget() {
	s.mu.Lock()
	s.known = known{}
	s.mu.Unlock()
}

// controlData reads global/pg_control by pg_controldata, whose output hides its layout's changes between versions.
func (c Config) controlData(ctx context.Context) (pgconf.Control, error) {
	if err := c.versionFits(); err != nil {
		return pgconf.Control{}, err
	}
	out, err := c.run(ctx, "pg_controldata", "-D", c.DataDir)
	if err != nil {
		return pgconf.Control{}, fmt.Errorf("read the control file: %w", err)
	}
	return pgconf.ParseControl(out)
}

// versionFits compares the data's major version with the programs'.
func (c Config) versionFits() error {
	b, err := os.ReadFile(filepath.Join(c.DataDir, "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("read the data's version: %w", err)
	}
	v, err := serverVersion(c.BinDir)
	if err != nil {
		return err
	}
	if have := strings.TrimSpace(string(b)); have != fmt.Sprint(v.Major) {
		return fmt.Errorf("the data in %s is PostgreSQL %s's, but the programs in %s are version %d: set the member's bin_dir to those of %s", c.DataDir, have, c.BinDir, v.Major, have)
	}
	return nil
}
