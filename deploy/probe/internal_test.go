package probe

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLock: the second is told who has it, and has it when the first has ended.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	take := func(who string) (string, func()) {
		var a Answer
		open := a.lock(who, path)
		return a.Lock, func() {
			for _, c := range open {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	said, end := take("ann, a longer name")
	if said != "" {
		t.Fatal(said)
	}
	if said, none := take("ben"); said != "ann, a longer name" {
		t.Errorf("it says %q", said)
	} else {
		none()
	}
	end()
	said, end = take("ben")
	if said != "" {
		t.Error(said)
	}
	if said, _ := take("ann"); said != "ben" {
		t.Errorf("it says %q", said)
	}
	end()
}

func TestSystemOf(t *testing.T) {
	dir := t.TempDir()
	if got := systemOf(dir); got != "" {
		t.Errorf("an empty directory is %q", got)
	}
	control := append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, "more"...)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		control = append([]byte{0, 0, 0, 0, 0, 0, 0, 1}, "more"...)
	}
	for path, text := range map[string][]byte{"PG_VERSION": []byte("17\n"), "global/pg_control": control} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := systemOf(dir); got != "PostgreSQL 17, system identifier 1" {
		t.Errorf("got %q", got)
	}
}

// TestSilenceIsTheEnd of who does not beat any more, and of nobody else.
func TestSilenceIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, feed := io.Pipe()
		began := time.Now()
		var wait sync.WaitGroup
		wait.Go(func() { awaitEnd(in) })
		for range 6 {
			time.Sleep(silence / 2)
			if _, err := feed.Write([]byte("\n")); err != nil {
				t.Fatal(err)
			}
		}
		wait.Wait()
		if took := time.Since(began); took != 4*silence {
			t.Errorf("it ended after %s", took)
		}
		if err := feed.Close(); err != nil { // its reader ends
			t.Error(err)
		}
	})
}
