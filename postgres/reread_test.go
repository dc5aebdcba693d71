package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"standfast/cluster"
)

// TestStartReadsFromDisk: after a write-back that failed the page cache shows WAL that the disk has not got. A server that is
// started on it must not take that for its own.
func TestStartReadsFromDisk(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	disk := failingDisk(t, w, a)
	a.cfg.WALDir = filepath.Join(disk.dir, "wal")
	a.cfg.Parameters["wal_init_zero"], a.cfg.Parameters["wal_recycle"] = "off", "off" // new WAL lies where nothing lay before
	a.SetConfig(a.cfg)
	must(t, a.Init(ctx))
	must(t, a.SetNames(ctx, cluster.NewRule(0), false))
	a.exec(t, "select pg_switch_wal()")
	a.exec(t, "select pg_logical_emit_message(true, 'test', repeat('x', 3600000))")
	a.exec(t, "checkpoint") // which prepares the next segment, for this one is nearly full
	before := a.observe(t).Postgres.Position.LSN

	disk.fail(t)
	const size = 2 << 20
	exited := a.Exited()
	conn := a.connect(t)
	if _, err := conn.Exec(ctx, "select pg_logical_emit_message(true, 'test', repeat('x', $1))", size); err == nil {
		t.Fatal("a commit was acknowledged that the disk did not take")
	}
	<-exited
	must(t, a.KillAll(ctx))
	disk.recover(t)
	if log, err := os.ReadFile(a.cfg.LogFile); err != nil || !strings.Contains(string(log), "PANIC:  could not fdatasync file") {
		t.Fatalf("PostgreSQL did not panic for a failed fsync: %v", err)
	}
	if len(lies(t, a.cfg.WALDir)) == 0 {
		t.Fatal("the page cache shows what is on disk: the test shows nothing")
	}

	must(t, a.StartStandby(ctx))
	a.relay.awaitHeld(t)
	eventually(t, "the server answers", func() bool {
		o, err := a.Observe(ctx)
		return err == nil && o.Streamed
	})
	if at := a.observe(t).Postgres.Position.LSN; at < before || at >= before+size {
		t.Errorf("the server claims to have WAL up to %s; %s was synced, and nothing of the %d bytes after it", at, before, size)
	}
	if l := lies(t, a.cfg.WALDir); len(l) > 0 {
		t.Errorf("the page cache still shows what is not on disk: %q", l)
	}
}

// disk is an ext4 file system on a loop device, whose file lies sparse on a small tmpfs: once that is full, the device fails
// to write what it has not written before, and the kernel fails to write pages back. It has no journal, for with one the file
// system would turn read-only.
type disk struct{ dir, ballast string }

func failingDisk(t *testing.T, w *world, user *node) disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a disk that fails")
	}
	below, dir := filepath.Join(w.dir, "below"), filepath.Join(w.dir, "disk")
	must(t, errors.Join(os.Mkdir(below, 0o755), os.Mkdir(dir, 0o755)))
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("can't mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(below, unix.MNT_DETACH)) }) // the loop device lets go of the image in its own time
	image := filepath.Join(below, "image")
	for _, c := range [][]string{{"truncate", "-s", "200M", image},
		{"mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("can't make a disk that fails here: %v: %s", c, out)
		}
	}
	t.Cleanup(func() { must(t, errors.Join(user.KillAll(context.Background()), unix.Unmount(dir, 0))) })
	w.own(dir)
	return disk{dir, filepath.Join(below, "ballast")}
}

func (d disk) fail(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("fstrim", d.dir).CombinedOutput(); err != nil { // what files have left behind is not there to be used again
		t.Skipf("can't trim a file system here: %s", out)
	}
	f, err := os.Create(d.ballast)
	must(t, err)
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

func (d disk) recover(t *testing.T) { t.Helper(); must(t, os.Remove(d.ballast)) }

// lies names the WAL segments that read otherwise past the page cache.
func lies(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if len(e.Name()) != 24 {
			continue
		}
		cached, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		if !bytes.Equal(cached, direct(t, filepath.Join(dir, e.Name()), len(cached))) {
			names = append(names, e.Name())
		}
	}
	return names
}

// direct reads a file past the page cache ("open(2)", O_DIRECT: memory and length have to be aligned).
func direct(t *testing.T, path string, size int) []byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer f.Close()
	const align = 4096
	room := make([]byte, size+align)
	skip := (align - int(uintptr(unsafe.Pointer(&room[0]))%align)) % align
	n, err := f.ReadAt(room[skip:skip+size], 0)
	must(t, err)
	return room[skip : skip+n]
}
