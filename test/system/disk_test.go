//go:build e2e

package system

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"standfast/test/system/rig"

	"golang.org/x/sys/unix"
)

// TestWALFileSystemFull: the file system that holds the primary's WAL has no byte left. Another takes over; when there is
// room again the old primary comes back by itself.
func TestWALFileSystemFull(t *testing.T) {
	t.Parallel()
	small, why := rig.SmallFileSystem()
	if small == "" {
		t.Skip(why)
	}
	r, primary, _ := own(t)
	victim := r.Others(primary)[0]
	moveWAL(t, victim, filepath.Join(small, "wal"))
	_, term, err := r.AwaitWhole(all, healTime)
	must(t, err)
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	_, err = r.Client().Switchover(ctx, victim.Name, false, progress(t))
	must(t, err)
	victim, term, err = r.AwaitWhole(all, healTime)
	must(t, err)

	s := beginOn(t, r, victim, term)
	filler := filepath.Join(small, "filler")
	fill(t, filler)
	s.reign(operation)
	must(t, os.Remove(filler))
	s.end()
}

// moveWAL puts the node's pg_wal on another file system while its host is down, as an administrator does.
func moveWAL(t *testing.T, n *rig.Node, to string) {
	t.Helper()
	must(t, n.Kill())
	from := filepath.Join(n.DataDir(), "pg_wal")
	must(t, os.CopyFS(to, os.DirFS(from)))
	must(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error { // CopyFS gives the usual modes
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return errors.Join(err, os.Chmod(path, 0o600))
	}))
	must(t, os.RemoveAll(from))
	must(t, os.Symlink(to, from))
	must(t, n.Start())
}

// fill takes all room there is, in pieces down to one block.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	var size int64
	for piece := int64(16 << 20); piece >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, size, piece)
		switch {
		case err == nil:
			size += piece
		case errors.Is(err, unix.ENOSPC):
			piece /= 2
		default:
			t.Fatal(err)
		}
	}
}
