package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"standfast/pgconf"
)

// pollPace is how often a change is looked for that PostgreSQL tells nobody about.
const pollPace = time.Millisecond

// StartStandby starts PostgreSQL as a standby that receives WAL from the relay only, closed to clients, and with names
// that nobody can meet. It returns when the postmaster runs, not when it answers. Processes that an earlier server left
// behind are ended first.
func (s *Server) StartStandby(ctx context.Context) error {
	release, err := s.exclusive(ctx)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer release()
	return s.startStandby(ctx)
}

func (s *Server) startStandby(ctx context.Context) error {
	c := s.config()
	if s.postmaster() != nil {
		return fmt.Errorf("start PostgreSQL: %w", ErrRunning)
	}
	if work, err := c.marked(); err != nil || work != "" {
		return errors.Join(err, fmt.Errorf("start PostgreSQL: the data is half made by an unfinished %s", work))
	}
	if err := s.KillAll(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := s.reread(ctx, c); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := s.dropShortSegments(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := c.writeFile(c.standbyFile(), nil, true); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := removeFile(filepath.Join(c.DataDir, "recovery.signal")); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s.launch(ctx, c)
}

// launch runs the postmaster on settled data and waits until it has taken the data directory's lock.
func (s *Server) launch(ctx context.Context, c Config) error {
	control, err := c.controlData(ctx)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	standby, err := s.StandbyData()
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	floors := control.Floors
	if !standby || c.unseen {
		floors = nil
	}
	if err := errors.Join(c.settle(floors), c.makeDir(c.SocketDir), c.dropStaleLocks()); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	log, err := c.openLog()
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer log.Close()
	begin, err := log.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	byVersion, err := c.slotSync()
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	w, err := c.spawn(ctx, log, byVersion)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.setWatch(w)
	if err := c.awaitLock(ctx, w, begin); err != nil {
		return err
	}
	s.noteGroup()
	return nil
}

// spawn starts the postmaster, as a service or as a child in a session of its own, so that nothing that ends the agent ends
// it too.
func (c Config) spawn(ctx context.Context, log *os.File, more []pgconf.Setting) (*watch, error) {
	args := []string{"-D", c.DataDir}
	for _, p := range append(c.commandLine(), more...) {
		args = append(args, "-c", p.Name+"="+p.Value)
	}
	like := c.command(context.Background(), "postgres", args...)
	if c.Unit != "" {
		return c.spawnUnit(ctx, args, like.Env)
	}
	cmd := exec.Command(like.Path, args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = like.Env, like.Dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.RunAs, Setsid: true}
	if err := start(cmd); err != nil {
		return nil, err
	}
	w, err := watchProcess(cmd.Process.Pid, cmd)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return w, nil
}

// awaitLock waits until postmaster.pid shows that the new process has the data to itself and has begun recovery: what
// can be wrong with parameters, libraries, ports and memory has been found by then.
func (c Config) awaitLock(ctx context.Context, w *watch, logBegin int64) error {
	t := time.NewTicker(pollPace)
	defer t.Stop()
	for {
		if pid, status := c.lockFile(); pid == w.pid && status != "" {
			return nil
		}
		select {
		case <-t.C:
		case <-w.exited:
			return fmt.Errorf("start PostgreSQL: it ended at once: %s (all of it in %s)", c.logSince(logBegin), c.LogFile)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start PostgreSQL: %w", context.Cause(ctx)), w.signal(unix.SIGKILL))
		}
	}
}

func (c Config) pidFile() string { return filepath.Join(c.DataDir, "postmaster.pid") }

// lockFile reads the process and its status from postmaster.pid, lines 1 and 8 (pidfile.h). The status is empty until
// the server begins recovery; without a file the process is 0.
func (c Config) lockFile() (pid int, status string) {
	b, err := os.ReadFile(c.pidFile())
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(b), "\n")
	pid, err = strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return 0, ""
	}
	if len(lines) >= 8 {
		status = strings.TrimSpace(lines[7])
	}
	return pid, status
}

// dropStaleLocks removes the lock files that a killed postmaster leaves. PostgreSQL would take one for valid when its
// process number has been given to another process of the same user. No process of this data directory may live.
func (c Config) dropStaleLocks() error {
	if err := removeFile(c.pidFile()); err != nil {
		return err
	}
	lock := filepath.Join(c.SocketDir, fmt.Sprintf(".s.PGSQL.%d.lock", c.Port))
	b, err := os.ReadFile(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if lines := strings.Split(string(b), "\n"); err == nil && len(lines) > 1 && lines[1] == c.DataDir {
		return removeFile(lock)
	}
	return err
}

func (c Config) openLog() (*os.File, error) {
	if err := c.makeDir(filepath.Dir(c.LogFile)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return f, c.own(c.LogFile)
}

// logSince gives the last lines of the server's log from an offset on.
func (c Config) logSince(offset int64) string {
	b, err := os.ReadFile(c.LogFile)
	if err != nil {
		return "its log can't be read"
	}
	if int64(len(b)) < offset {
		offset = 0 // it was begun anew meanwhile
	}
	if said := lastLines(string(b[offset:]), 4); said != "" {
		return said
	}
	return "it said nothing"
}
