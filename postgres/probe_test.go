package postgres_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/postgres"
)

// TestWriteProbeSeesAFullDisk fills a small file system.
func TestWriteProbeSeesAFullDisk(t *testing.T) {
	wal := smallFileSystem(t, func(dir string) error {
		return unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
	})
	s := postgres.New(postgres.Config{DataDir: filepath.Dir(wal)})
	ctx := bounded(t)
	must(t, s.WriteProbe(ctx))
	filler, err := os.Create(filepath.Join(wal, "filler"))
	must(t, err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 64<<10))
	}
	for err = nil; err == nil; {
		_, err = filler.Write(make([]byte, 1))
	}
	if err := s.WriteProbe(ctx); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("a full disk: %v", err)
	}
	must(t, filler.Truncate(0))
	must(t, s.WriteProbe(ctx))
}

// TestWriteProbeDoesNotHang freezes the file system below the probe.
func TestWriteProbeDoesNotHang(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	wal := smallFileSystem(t, func(dir string) error {
		for _, c := range [][]string{{"truncate", "-s", "8M", image}, {"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
			if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
				return errors.New(c[0] + ": " + string(out))
			}
		}
		return nil
	})
	s := postgres.New(postgres.Config{DataDir: filepath.Dir(wal)})
	must(t, s.WriteProbe(bounded(t)))
	if out, err := exec.Command("fsfreeze", "-f", wal).CombinedOutput(); err != nil {
		t.Skipf("can't freeze a file system here: %s", out)
	}
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			if out, err := exec.Command("fsfreeze", "-u", wal).CombinedOutput(); err != nil {
				t.Errorf("thaw: %s", out)
			}
		}
	}
	defer thaw()
	for range 2 { // the second waits for the same write
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		begun := time.Now()
		if err := s.WriteProbe(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a frozen disk: %v", err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("the probe hung for %s", took)
		}
		cancel()
	}
	thaw()
	must(t, s.WriteProbe(bounded(t)))
}

// smallFileSystem mounts something as the pg_wal of an otherwise empty directory.
func smallFileSystem(t *testing.T, mount func(dir string) error) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	wal := filepath.Join(t.TempDir(), "pg_wal")
	must(t, os.Mkdir(wal, 0o755))
	if err := mount(wal); err != nil {
		t.Skipf("can't mount a small file system here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(wal, 0)) })
	return wal
}
