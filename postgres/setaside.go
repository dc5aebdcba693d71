package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// SetAside moves the content of the data directory, of a WAL directory and of tablespaces outside it into directories beside them, of
// the same name with the suffix, and returns those. The directories stay, empty. The server is stopped. It may be repeated after an
// interruption: what is set aside already stays there.
func (s *Server) SetAside(suffix string) ([]string, error) {
	c := s.config()
	if running, err := s.Running(); err != nil || running {
		return nil, errors.Join(errors.New("PostgreSQL runs on it"), err)
	}
	dirs, err := c.tablespaces()
	if err != nil {
		return nil, err
	}
	if wal, err := os.Readlink(c.walDir()); err == nil && filepath.IsAbs(wal) {
		dirs = append(dirs, wal)
	}
	dirs = append(dirs, c.WALDir)
	slices.Sort(dirs)
	var kept []string
	for _, dir := range append(slices.Compact(dirs), c.DataDir) { // the data directory last: it leads to the others
		moved, err := c.setAside(dir, suffix)
		if err != nil {
			return kept, fmt.Errorf("set %s aside: %w", dir, err)
		}
		if moved {
			kept = append(kept, dir+suffix)
		}
	}
	s.forget()
	return kept, c.unmark()
}

// setAside moves what is in dir. A rename needs the same file system, so a mount point's content can't be moved.
func (c Config) setAside(dir, suffix string) (bool, error) {
	if dir == "" {
		return false, nil
	}
	if empty, err := isEmpty(dir); err != nil || empty {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	if err := c.makeDir(dir + suffix); err != nil {
		return false, fmt.Errorf("%w (the directory above must be writable for it)", err)
	}
	for _, e := range entries {
		if e.Name() == "lost+found" {
			continue
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir+suffix, e.Name())); err != nil {
			return false, fmt.Errorf("%w (copy the data elsewhere, and empty the directory)", err)
		}
	}
	return true, errors.Join(syncDir(dir+suffix), syncDir(dir))
}
