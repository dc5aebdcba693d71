package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFile is locked in the state directory for as long as a member runs on it; it holds its process id.
const lockFile = "lock"

// lock takes the state directory for this process alone. Two members on one directory, started twice or by files that differ
// in their ports only, would share one promise (see agent) and one data directory.
func (n *Node) lock() error {
	f, err := os.OpenFile(filepath.Join(n.cfg.StateDir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(inUse(n.cfg.StateDir, f.Name(), err), f.Close())
	}
	pid := fmt.Appendln(nil, os.Getpid())
	if _, err := f.WriteAt(pid, 0); err != nil {
		return errors.Join(fmt.Errorf("lock the state directory: %w", err), f.Close())
	}
	if err := f.Truncate(int64(len(pid))); err != nil {
		return errors.Join(fmt.Errorf("lock the state directory: %w", err), f.Close())
	}
	n.locked = f
	return nil
}

// InUse returns an error that names the process if a member runs on the state directory, for whoever would else complain of
// each of its ports.
func InUse(stateDir string) error {
	path := filepath.Join(stateDir, lockFile)
	f, err := os.Open(path)
	if err != nil {
		return nil // nobody has run there, or it is said by who needs the directory
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return inUse(stateDir, path, err)
	}
	return nil
}

func inUse(stateDir, path string, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock the state directory: %w", err)
	}
	pid, _ := os.ReadFile(path) // it is only told
	return fmt.Errorf("a member runs on %s already (pid %s): look at it with standfast status; another one needs a state_dir of its own", stateDir, strings.TrimSpace(string(pid)))
}
