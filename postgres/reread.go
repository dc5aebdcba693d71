package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reread makes a start see what the disk has, not what the page cache shows, unless the server was stopped in order.
//
// When a write-back fails Linux tells whoever syncs the file, once, and from then on shows the pages as clean: they read as
// written, a second sync succeeds, and the disk has something else ("fsync(2)", NOTES). PostgreSQL panics at the first
// failure (data_sync_retry is off), but its recovery then reads the same cache and syncs the same clean pages. What it
// finds at the end of the WAL would be reported in an election as flushed, and would be gone with the next loss of power.
//
// It is done after every end that was not in order: why a server ended is not always known (its log may be anywhere and in
// any language, and it may have been killed because its writes failed), and the WAL of a server that was killed by accident
// is read again within the moment. Pages of tables and indexes stay cached: recovery begins at a checkpoint that
// was completed, so all of their files have been synced without a failure since what is older was written; each page
// changed after it is written anew from the image that the WAL has of it (full_page_writes), and synced again.
func (s *Server) reread(ctx context.Context, c Config) error {
	if err := fromDisk(filepath.Join(c.DataDir, "global", "pg_control")); err != nil {
		return fmt.Errorf("read the data from disk: %w", err)
	}
	control, err := c.controlData(ctx)
	if err != nil || control.Clean() {
		return err
	}
	var errs []error
	for _, dir := range []string{c.DataDir, c.walDir() + "/"} { // pg_wal may be a link
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case e.IsDir() && path == filepath.Join(c.DataDir, "base"):
				return fs.SkipDir
			case e.Type().IsRegular():
				errs = append(errs, fromDisk(path)) // the others are read anew all the same
			}
			return nil
		})
		errs = append(errs, err) // apart from the walk: Go does not say whether it or errs is evaluated first
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("read the data from disk: %w", err)
	}
	return nil
}

// fromDisk has the next reader of a file read it from the disk. What has not been written back yet is written first; if that
// fails the error says so, and the cache is dropped all the same, for it shows what the disk has not got.
func fromDisk(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), dropCache(f), f.Close())
}

func dropCache(f *os.File) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return &os.PathError{Op: "fadvise", Path: f.Name(), Err: err}
	}
	return nil
}
