package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/renameio/v2"

	"standfast/postgres"
)

// Order is a backup to be taken.
type Order struct {
	Set      Set             // what is known beforehand: cluster, member, format, version, term, timeline, authority
	Config   []byte          // the agreed configuration
	Dir      string          // that holds the backups; made if it is not there
	Source   postgres.Source // the member's server
	Server   postgres.Config // programs, certificate and key that it is copied with
	Compress int             // gzip's level, 0: none
	Keep     int             // how many of this cluster's backups stay; 0: all
	DryRun   bool            // look whether it could be done
	Begins   func(step string)
	Copied   Progress
	Now      func() time.Time
}

// ErrBusy says that another backup is being made in the directory.
var ErrBusy = errors.New("another backup is being made there")

// Take makes a backup, proves it against its manifest, gives it its name, and then removes what Keep makes superfluous. It returns the
// backup and the paths removed. When it fails nothing of it is left.
func Take(ctx context.Context, o Order) (Set, []string, error) {
	s, removed, err := take(ctx, o)
	if err != nil {
		err = fmt.Errorf("back up %s from %s: %w", o.Set.Cluster, o.Set.From, err)
	}
	return s, removed, err
}

func take(ctx context.Context, o Order) (s Set, removed []string, err error) {
	s = o.Set
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return s, nil, err
	}
	release, err := claim(o.Dir)
	if err != nil {
		return s, nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if s.Tablespaces, err = postgres.Tablespaces(ctx, o.Server, o.Source); err != nil || o.DryRun {
		return s, nil, err
	}
	s.Began = o.Now().UTC().Truncate(time.Second)
	s.Path = filepath.Join(o.Dir, s.Name())
	if err := clearHalves(o.Dir); err != nil {
		return s, nil, err
	}
	if s, err = fill(ctx, o, s); err != nil {
		return s, nil, err
	}
	removed, err = prune(o.Dir, s, o.Keep)
	return s, removed, err
}

// claim keeps two backups from being made in one directory at a time.
func claim(dir string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s: %w", dir, ErrBusy)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// clearHalves removes what backups that were cut short have left. The caller holds the claim, so that nobody works on them.
func clearHalves(dir string) error {
	halves, err := filepath.Glob(filepath.Join(dir, ".*"+partial))
	for _, h := range halves {
		err = errors.Join(err, os.RemoveAll(h))
	}
	if err != nil {
		return fmt.Errorf("clear away what an earlier backup left: %w", err)
	}
	return nil
}

// fill makes the backup under a name that nobody takes for a whole one, and renames it when everything in it is on disk.
func fill(ctx context.Context, o Order, s Set) (_ Set, err error) {
	final := s.Path
	s.Path = filepath.Join(o.Dir, "."+s.Name()+partial)
	if err := os.Mkdir(s.Path, 0o700); err != nil {
		return s, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.Path))
		}
	}()
	o.Begins("copying from " + o.Set.From)
	spec := postgres.BackupSpec{Dir: s.DataDir(), Plain: s.Format == Plain, Compress: o.Compress, Label: "standfast backup " + s.Name(), Tablespaces: s.Tablespaces}
	if err := postgres.Backup(ctx, o.Server, o.Source, spec, o.Copied); err != nil {
		return s, err
	}
	o.Begins("verifying the copy")
	if s, err = Verify(ctx, s, o.Server, o.Copied); err != nil {
		return s, err
	}
	s.Ended, s.Bytes = o.Now().UTC().Truncate(time.Second), size(s.Path)
	if err := s.describe(o.Config); err != nil {
		return s, err
	}
	if err := settle(s.Path, final, o.Dir); err != nil {
		return s, err
	}
	s.Path = final
	return s, nil
}

// Verify proves that a backup is what was copied: every file has its size and checksum, and the WAL that recovery needs can be read.
// It returns the backup with where recovery begins and where the data is consistent.
func Verify(ctx context.Context, s Set, c postgres.Config, tell Progress) (Set, error) {
	m, err := readManifest(s.DataDir())
	if err != nil {
		return s, fmt.Errorf("verify: %w", err)
	}
	if err := s.walk(ctx, "", tell); err != nil {
		return s, fmt.Errorf("verify: %w", err)
	}
	wal, clean, err := s.walDir(ctx)
	if err != nil {
		return s, fmt.Errorf("verify: %w", err)
	}
	defer func() { _ = clean() }() // a temporary directory
	for _, r := range m.wal {
		from, to, err := r.bounds()
		if err == nil {
			err = postgres.VerifyWAL(ctx, c, wal, r.Timeline, from, to)
		}
		if err != nil {
			return s, fmt.Errorf("verify the WAL of timeline %d: %w", r.Timeline, err)
		}
		if s.Start == 0 || from < s.Start {
			s.Start = from
		}
		s.End = max(s.End, to)
	}
	if s.Format == Plain && strings.HasSuffix(s.Path, partial) { // tablespaces are linked by that name; later walk is enough
		if err := postgres.VerifyBackup(ctx, c, s.DataDir()); err != nil {
			return s, fmt.Errorf("verify: %w", err)
		}
	}
	return s, nil
}

// walDir is a directory with the backup's WAL as files.
func (s Set) walDir(ctx context.Context) (dir string, clean func() error, err error) {
	if s.Format == Plain {
		return filepath.Join(s.DataDir(), "pg_wal"), func() error { return nil }, nil
	}
	within := filepath.Dir(s.Path)
	if strings.HasSuffix(s.Path, partial) {
		within = s.Path // and goes with it
	}
	tmp, err := os.MkdirTemp(within, ".verify-*")
	if err != nil {
		return "", nil, err
	}
	clean = func() error { return os.RemoveAll(tmp) }
	list, err := s.archives("")
	if err != nil {
		return "", nil, errors.Join(err, clean())
	}
	for _, a := range list {
		if a.to.prefix == "pg_wal" {
			a.to.dir = tmp
			err = readArchive(&reader{ctx: ctx, done: new(int64)}, a, &tally{})
		}
	}
	if err != nil {
		return "", nil, errors.Join(err, clean())
	}
	return tmp, clean, nil
}

// describe writes what is said of the backup beside its data.
func (s Set) describe(config []byte) error {
	in := s.Path
	s.Path = ""
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(in, configName), config, 0o600); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(in, infoName), append(text, '\n'), 0o600)
}

// settle has everything on disk before the backup gets its name.
func settle(from, to, dir string) error {
	d, err := os.Open(from)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Close()); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// prune removes what keeping the newest makes superfluous. The new backup is whole by then.
func prune(dir string, s Set, keep int) ([]string, error) {
	if keep <= 0 {
		return nil, nil
	}
	all, err := List(dir)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, old := range Surplus(all, s, keep) {
		if err := old.remove(); err != nil {
			return gone, err
		}
		gone = append(gone, old.Path)
	}
	return gone, nil
}
