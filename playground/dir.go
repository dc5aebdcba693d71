package playground

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	lockName = "lock" // locked while the playground runs; holds its process id
	keepName = "keep" // present when the state is to outlive the run
)

// ErrRunning says that a playground runs in the directory already.
var ErrRunning = errors.New("a playground runs there already")

// claim makes the directory if need be and locks it for this process. Other users may have put something of that name
// into /tmp, so what is there must be a directory of ours.
func claim(dir string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("make the playground's directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the playground's directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at the playground's directory: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s is there and is not a directory of user %d; remove it or choose another with --dir", dir, os.Geteuid())
	}
	if err := ours(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the playground's directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(lock.Name())
		_ = lock.Close() // only read
		return nil, fmt.Errorf("%w: %s (pid %s); end it with Ctrl-C or kill, or choose another with --dir", ErrRunning, dir, strings.TrimSpace(string(pid)))
	}
	if err := errors.Join(lock.Truncate(0), writeAt(lock, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("lock the playground's directory: %w", err)
	}
	return lock, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// ours refuses a directory that holds something but no playground: it would be removed in the end.
func ours(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look at the playground's directory: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	for _, e := range entries {
		if e.Name() == lockName {
			return nil
		}
	}
	return fmt.Errorf("%s holds something that is not a playground's; give an empty or a new directory with --dir", dir)
}

// locked reports whether a playground runs in the directory.
func locked(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// empty removes everything but the lock.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != lockName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
