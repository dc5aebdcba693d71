package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrForeignStart says that PostgreSQL runs on this data directory but was not started by Standfast, so that files may
// tell it where to receive WAL from. It has to be stopped.
var ErrForeignStart = errors.New("PostgreSQL was started by something else than Standfast: stop it and keep it from starting, for example with \"systemctl disable --now postgresql\"")

// Adopt takes over a postmaster that an earlier agent has started. It reports false if none runs; processes that a dead
// postmaster has left do not count (see KillAll).
func (s *Server) Adopt(ctx context.Context) (bool, error) {
	release, err := s.exclusive(ctx)
	if err != nil {
		return false, fmt.Errorf("adopt PostgreSQL: %w", err)
	}
	defer release()
	if s.postmaster() != nil {
		return true, nil
	}
	c := s.config()
	pid, _ := c.lockFile()
	if pid == 0 {
		return false, nil
	}
	w, err := watchProcess(pid, nil)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("adopt PostgreSQL: %w", err)
	}
	dir, err := os.Stat(c.DataDir)
	if err != nil || !isPostgres(pid) || !sameDir(pid, dir) { // asked after the pidfd is held: the number can't pass on now
		w.stop()
		return false, err
	}
	s.setWatch(w)
	s.noteGroup()
	if standby, err := s.StandbyData(); err != nil || standby && (c.startedWith(pid, "hot_standby=off") || c.toldToPromote()) {
		// Left in the middle of promoteLowered it would answer nobody for ever, and a promotion may not come out of the past.
		return false, errors.Join(err, s.KillAll(ctx))
	}
	if !c.startedHere(pid) {
		if took, err := s.tookOver(w); took || err != nil {
			return took, err
		}
		return true, fmt.Errorf("adopt process %d: %w", pid, ErrForeignStart)
	}
	return true, nil
}

// startedHere reports whether a postmaster was given the relay on its command line.
func (c Config) startedHere(pid int) bool {
	return c.startedWith(pid, "primary_conninfo="+c.relayConninfo())
}

// toldToPromote reports whether the server has been asked to end recovery and has not taken notice yet (PROMOTE_SIGNAL_FILE in
// xlog.h).
func (c Config) toldToPromote() bool {
	_, err := os.Lstat(filepath.Join(c.DataDir, "promote"))
	return err == nil
}

// startedWith reports whether a postmaster's command line holds the setting. Only its children change what /proc shows as
// theirs.
func (c Config) startedWith(pid int, setting string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(b, []byte("\x00"+setting+"\x00"))
}
