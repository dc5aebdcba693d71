// Package backup keeps base backups of a cluster in a directory: one directory for each, named by cluster and time, that has its name
// only once it is whole. What was agreed at the time lies beside the data. A backup is made by pg_basebackup, from a standby by
// preference; what is asked of it afterwards (list, verify, unpack) needs no running server.
package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/postgres"
)

// Names within a backup's directory.
const (
	infoName   = "backup.json"
	configName = "cluster.yml" // the agreed configuration at the time
	dataName   = "data"
	stampForm  = "20060102T150405Z"
	partial    = ".partial"
)

// Format is how the data is kept.
type Format string

// The formats.
const (
	Tar   Format = "tar"   // tar files, compressed or not
	Plain Format = "plain" // files as in a data directory
)

// Set is one whole backup, as its backup.json tells.
type Set struct {
	Cluster     string                `json:"cluster"`
	Began       time.Time             `json:"began"`
	Ended       time.Time             `json:"ended"`
	From        string                `json:"from"` // the member that was copied
	Format      Format                `json:"format"`
	Postgres    int                   `json:"postgres"` // major version
	SystemID    string                `json:"system_id"`
	Term        cluster.Term          `json:"term"`
	Timeline    cluster.Timeline      `json:"timeline"`  // of the cluster when it was taken
	Start       cluster.LSN           `json:"start_lsn"` // recovery begins here
	End         cluster.LSN           `json:"end_lsn"`   // and is consistent from here on
	Bytes       int64                 `json:"bytes"`     // on disk, all of it
	Authority   string                `json:"authority"` // fingerprint of the cluster's certificate authority
	Tablespaces []postgres.Tablespace `json:"tablespaces,omitempty"`
	Standfast   string                `json:"standfast"` // version that made it

	Path string `json:"path,omitempty"` // where it lies; not in the file
}

// Name is the directory's name.
func (s Set) Name() string { return s.Cluster + "-" + s.Began.UTC().Format(stampForm) }

// DataDir is where the data lies: a data directory, or tar files and the manifest.
func (s Set) DataDir() string { return filepath.Join(s.Path, dataName) }

// Config is the agreed configuration as it was, in YAML.
func (s Set) Config() ([]byte, error) { return os.ReadFile(filepath.Join(s.Path, configName)) }

// ErrNone says that a directory holds no whole backup.
var ErrNone = errors.New("there is no whole backup")

// List returns the whole backups in a directory, the oldest first. Half-made ones are not among them.
func List(dir string) ([]Set, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var out []Set
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		s, err := Open(filepath.Join(dir, e.Name()))
		if errors.Is(err, ErrNone) {
			continue // somebody else's
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Set) int { return a.Began.Compare(b.Began) })
	return out, nil
}

// Open reads what the backup in a directory says of itself. ErrNone: it holds none, or a half-made one.
func Open(path string) (Set, error) {
	var s Set
	if strings.HasSuffix(filepath.Base(path), partial) {
		return s, fmt.Errorf("open backup %s: %w: it was never finished", path, ErrNone)
	}
	text, err := os.ReadFile(filepath.Join(path, infoName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("open backup %s: %w: no %s in it", path, ErrNone, infoName)
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("open backup %s: %w", path, err)
	}
	s.Path = path
	return s, nil
}

// Pick finds the backup that is meant: the one in path itself, or, where path holds several, the newest that had ended by the time
// given; a zero time is any. More than one cluster's backups in the same directory must be told apart by naming one.
func Pick(path string, by time.Time) (Set, error) {
	s, err := Open(path)
	if err == nil || !errors.Is(err, ErrNone) {
		return s, err
	}
	all, lerr := List(path)
	if lerr != nil || len(all) == 0 {
		return Set{}, errors.Join(err, lerr)
	}
	fit := slices.DeleteFunc(slices.Clone(all), func(s Set) bool { return !by.IsZero() && s.Ended.After(by) })
	if len(fit) == 0 {
		return Set{}, fmt.Errorf("%w in %s that had ended by %s: the oldest ended at %s", ErrNone, path, by.Format(time.RFC3339), all[0].Ended.Format(time.RFC3339))
	}
	newest := fit[len(fit)-1]
	for _, o := range fit {
		if o.Cluster != newest.Cluster || o.Authority != newest.Authority {
			return Set{}, fmt.Errorf("%s holds backups of several clusters: name one, such as %s", path, newest.Path)
		}
	}
	return newest, nil
}

// Surplus are the backups that keeping the newest keep of a cluster makes superfluous, the oldest first. Those of other clusters, also of
// one that had the same name, are never among them.
func Surplus(all []Set, of Set, keep int) []Set {
	mine := slices.DeleteFunc(slices.Clone(all), func(s Set) bool { return s.Cluster != of.Cluster || s.Authority != of.Authority })
	if keep <= 0 || len(mine) <= keep {
		return nil
	}
	return mine[:len(mine)-keep]
}

// remove takes a backup away: first its name, so that half of one is never taken for a whole one.
func (s Set) remove() error {
	gone := filepath.Join(filepath.Dir(s.Path), "."+filepath.Base(s.Path)+partial)
	if err := os.Rename(s.Path, gone); err != nil {
		return fmt.Errorf("remove backup %s: %w", s.Path, err)
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove backup %s: %w", s.Path, err)
	}
	return nil
}
