package backup

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"standfast/postgres"
)

// Progress is told how many bytes have been read, of how many; total is 0 where that is not known.
type Progress func(done, total int64)

// place is where files of an archive or a tree go: paths that begin with prefix in the manifest lie in dir. dir is "" where they
// are looked at only.
type place struct {
	prefix string
	dir    string
}

// reader counts what is read and ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
	done  *int64
	total int64
	tell  Progress
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	n, err := r.Reader.Read(p)
	*r.done += int64(n)
	if r.tell != nil {
		r.tell(*r.done, r.total)
	}
	return n, err
}

// archive is one tar file of a backup.
type archive struct {
	path string
	to   place
}

// archives lists a backup's tar files: base first, for it holds the directories that the others go into.
func (s Set) archives(dataDir string) ([]archive, error) {
	entries, err := os.ReadDir(s.DataDir())
	if err != nil {
		return nil, err
	}
	var out []archive
	for _, e := range entries {
		name, ok := strings.CutSuffix(strings.TrimSuffix(e.Name(), ".gz"), ".tar")
		if !ok {
			continue
		}
		a := archive{path: filepath.Join(s.DataDir(), e.Name())}
		switch name {
		case "base":
			a.to = place{"", dataDir}
		case "pg_wal":
			a.to = place{"pg_wal", only(dataDir, filepath.Join(dataDir, "pg_wal"))}
		default:
			t, err := s.tablespace(name)
			if err != nil {
				return nil, err
			}
			a.to = place{"pg_tblspc/" + name, only(dataDir, t.Path)}
		}
		out = append(out, a)
	}
	slices.SortStableFunc(out, func(a, b archive) int { return strings.Compare(a.to.prefix, b.to.prefix) })
	if len(out) == 0 || out[0].to.prefix != "" {
		return nil, fmt.Errorf("%s holds no base.tar", s.DataDir())
	}
	return out, nil
}

// only is the path, but "" where nothing is to be written.
func only(dataDir, path string) string {
	if dataDir == "" {
		return ""
	}
	return path
}

func (s Set) tablespace(name string) (postgres.Tablespace, error) {
	oid, err := strconv.ParseUint(name, 10, 32)
	if err == nil {
		for _, t := range s.Tablespaces {
			if t.OID == uint32(oid) {
				return t, nil
			}
		}
	}
	return postgres.Tablespace{}, fmt.Errorf("%s is of a tablespace that %s does not name", name, infoName)
}

// Unpack puts the data into dataDir and its tablespaces where they were, and compares every file with the manifest on the way. The
// directories must be empty.
func (s Set) Unpack(ctx context.Context, dataDir string, tell Progress) error {
	for _, t := range s.Tablespaces {
		if err := roomFor(t.Path); err != nil {
			return fmt.Errorf("unpack %s: %w", s.Path, err)
		}
	}
	if err := s.walk(ctx, dataDir, tell); err != nil {
		return fmt.Errorf("unpack %s: %w", s.Path, err)
	}
	return nil
}

// roomFor makes a tablespace's directory, or refuses one that holds something.
func roomFor(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make room for a tablespace: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s, where a tablespace belongs, is not empty: move what is in it away", dir)
	}
	return err
}

// walk reads all of the backup's files once, checks each, and writes them where dataDir is not "".
func (s Set) walk(ctx context.Context, dataDir string, tell Progress) error {
	m, err := readManifest(s.DataDir())
	if err != nil {
		return err
	}
	t := m.tally()
	r := &reader{ctx: ctx, done: new(int64), tell: tell, total: size(s.DataDir())}
	if s.Format == Plain {
		err = s.copyTrees(r, dataDir, t)
	} else {
		err = s.readArchives(r, dataDir, t)
	}
	if err != nil {
		return err
	}
	return t.end()
}

func (s Set) readArchives(r *reader, dataDir string, t *tally) error {
	list, err := s.archives(dataDir)
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := readArchive(r, a, t); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(a.path), err)
		}
	}
	return nil
}

func readArchive(r *reader, a archive, t *tally) error {
	f, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer f.Close()
	r.Reader = f
	var in io.Reader = bufio.NewReaderSize(r, 1<<20)
	if strings.HasSuffix(a.path, ".gz") {
		if in, err = gzip.NewReader(in); err != nil {
			return err
		}
	}
	entries := tar.NewReader(in)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, in) // gzip's own checksum stands at the end
			return err
		}
		if err != nil {
			return err
		}
		if err := a.to.put(h, entries, t); err != nil {
			return err
		}
	}
}

// put takes one entry of an archive.
func (p place) put(h *tar.Header, content io.Reader, t *tally) error {
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%q leads out of the data directory", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if p.dir == "" {
			return nil
		}
		return os.MkdirAll(filepath.Join(p.dir, name), 0o700)
	case tar.TypeReg:
		return p.file(name, content, h.FileInfo().Mode().Perm(), t)
	case tar.TypeSymlink: // a tablespace's, which PostgreSQL makes again from tablespace_map
		return nil
	}
	return fmt.Errorf("%s is of a kind that no backup holds", h.Name)
}

// file checks one file and, where it is to be kept, writes it.
func (p place) file(name string, content io.Reader, mode fs.FileMode, t *tally) error {
	sum := sha256.New()
	n, err := p.write(name, io.TeeReader(content, sum), mode)
	if err != nil {
		return err
	}
	return t.seen(path.Join(p.prefix, name), n, sum)
}

func (p place) write(name string, content io.Reader, mode fs.FileMode) (n int64, err error) {
	if p.dir == "" {
		return io.Copy(io.Discard, content)
	}
	to := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil { // pg_wal.tar has files before their directory
		return 0, err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, content)
	return n, errors.Join(err, f.Close())
}

// copyTrees copies a plain backup: the data directory, then each tablespace with the link that leads to it.
func (s Set) copyTrees(r *reader, dataDir string, t *tally) error {
	if err := copyTree(r, s.DataDir(), place{"", dataDir}, t); err != nil {
		return err
	}
	for _, space := range s.Tablespaces {
		oid := strconv.FormatUint(uint64(space.OID), 10)
		if err := copyTree(r, postgres.TablespaceDir(s.DataDir(), space.OID), place{"pg_tblspc/" + oid, only(dataDir, space.Path)}, t); err != nil {
			return err
		}
		if dataDir == "" {
			continue
		}
		if err := os.Symlink(space.Path, filepath.Join(dataDir, "pg_tblspc", oid)); err != nil {
			return err
		}
	}
	return nil
}

func copyTree(r *reader, from string, to place, t *tally) error {
	return filepath.WalkDir(from, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, at)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && to.dir == "":
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to.dir, name), 0o700)
		case !d.Type().IsRegular():
			return nil // a tablespace's link
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		r.Reader = f
		return to.file(filepath.ToSlash(name), r, info.Mode().Perm(), t)
	})
}

// size is what a tree takes, 0 where it can't be told.
func size(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, ierr := d.Info(); ierr == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
