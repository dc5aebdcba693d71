package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killBound is how long KillAll waits for killed processes. A process that waits for a disk or a file server (state D)
// does not die before that answers, and must not hold up the failover.
const killBound = time.Second

// SurvivorsError names processes that were killed and still live: they wait in the kernel.
type SurvivorsError struct{ PIDs []int }

func (e *SurvivorsError) Error() string {
	return fmt.Sprintf("processes %v of PostgreSQL do not die: they wait for a disk or a network file system", e.PIDs)
}

// Processes lists every process of this data directory's server: those whose program is postgres and whose working
// directory is the data directory. Backends make sessions of their own and outlive a killed postmaster, so neither
// parenthood nor process groups would find them all.
func (s *Server) Processes() ([]int, error) {
	want, err := os.Stat(s.config().DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list PostgreSQL's processes: %w", err)
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list PostgreSQL's processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list PostgreSQL's processes: %w", err)
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil && isPostgres(pid) && sameDir(pid, want) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// isPostgres reports whether a process runs the server's program, also one that an upgrade has replaced on disk. A
// process that has ended and was not reaped has no program.
func isPostgres(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.TrimSuffix(filepath.Base(exe), " (deleted)") == "postgres"
}

func sameDir(pid int, want os.FileInfo) bool {
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && os.SameFile(cwd, want)
}

// Kill sends SIGKILL to every process of this server, the postmaster first so that it starts no more, and looks again until
// each has it. Then none of them runs another instruction of its own, so that nothing more is acknowledged; orphaned
// backends would go on with it for a client that keeps sending. They have not ended yet: taking the memory of many
// processes apart takes the kernel a while.
func (s *Server) Kill(ctx context.Context) error {
	killed := map[int]bool{}
	if err := s.killPostmaster(); err != nil {
		return err
	}
	for {
		before := len(killed)
		if _, err := s.killThese(killed); err != nil || len(killed) == before {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("kill PostgreSQL: %w", context.Cause(ctx))
		}
	}
}

func (s *Server) killPostmaster() error {
	w := s.postmaster()
	if w == nil {
		return nil
	}
	if err := w.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	return nil
}

// killThese kills what it finds, notes it and returns it.
func (s *Server) killThese(killed map[int]bool) ([]int, error) {
	pids, err := s.Processes()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return pids, fmt.Errorf("kill process %d of PostgreSQL: %w", pid, err)
		}
		killed[pid] = true
	}
	return pids, nil
}

// KillAll kills every process of this server as Kill does and looks again until none is left. The error is a
// *SurvivorsError when some do not die in time.
func (s *Server) KillAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killBound)
	defer cancel()
	if err := s.killPostmaster(); err != nil {
		return err
	}
	if err := s.killGroup(); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	killed := map[int]bool{}
	for {
		pids, err := s.killThese(killed)
		if err != nil {
			return err
		}
		left := living(killed)
		if len(pids) == 0 && len(left) == 0 {
			return s.reaped(ctx)
		}
		select {
		case <-ctx.Done():
			return &SurvivorsError{PIDs: left}
		case <-time.After(time.Millisecond):
		}
	}
}

// reaped waits until the death of the postmaster has been noted, so that Exited and Running agree with it.
func (s *Server) reaped(ctx context.Context) error {
	w := s.postmaster()
	if w == nil {
		return nil
	}
	select {
	case <-w.exited:
		return nil
	case <-ctx.Done():
		return &SurvivorsError{PIDs: []int{w.pid}}
	}
}

// living gives those killed processes that have not ended. One that is ending has no program any more but may still hold
// shared memory, which would keep a new server from starting; a zombie holds nothing.
func living(killed map[int]bool) []int {
	var left []int
	for pid := range killed {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		if len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X' {
			left = append(left, pid)
		}
	}
	return left
}
