package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"standfast/internal/slack"
)

// command prepares one of PostgreSQL's programs: messages in English, for they are read here, none of this process's
// PG… variables, and the user that PostgreSQL runs as.
func (c Config) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.program(program), args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") && !strings.HasPrefix(kv, "NOTIFY_SOCKET") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "PGSYSCONFDIR=/nonexistent", "PGPASSFILE=/nonexistent", "PGSERVICEFILE=/nonexistent")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.RunAs, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (c Config) program(name string) string { return filepath.Join(c.BinDir, name) }

// run runs a program to its end and returns its standard output. The error carries the end of what it said.
func (c Config) run(ctx context.Context, program string, args ...string) (string, error) {
	return c.runWatched(ctx, nil, program, args...)
}

// runWatched is run, with everything written to standard error copied to watch as it comes.
func (c Config) runWatched(ctx context.Context, watch io.Writer, program string, args ...string) (string, error) {
	cmd := c.command(ctx, program, args...)
	var out bytes.Buffer
	said := &tail{max: 8 << 10}
	cmd.Stdout, cmd.Stderr = &out, io.Writer(said)
	if watch != nil {
		cmd.Stderr = io.MultiWriter(said, watch)
	}
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil {
		return out.String(), nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if s := complaint(program, string(said.buf)); s != "" {
		return out.String(), &ProgramError{Program: program, Said: s, Err: err}
	}
	return out.String(), fmt.Errorf("%s: %w", program, err)
}

// ProgramError is the failure of one of PostgreSQL's programs, with its own words.
type ProgramError struct {
	Program string
	Said    string // its complaint: from the first line that reports an error on, without the program's name
	Err     error
}

func (e *ProgramError) Error() string { return fmt.Sprintf("%s: %s (%v)", e.Program, e.Said, e.Err) }

// Unwrap gives the way it ended.
func (e *ProgramError) Unwrap() error { return e.Err }

// start starts a program without any of this process's ambient capabilities, which a child would inherit: neither
// PostgreSQL nor a site's archive_command has any business with raw sockets. Nor does it inherit the timer slack with which
// this process waits. Both belong to a thread, so the start happens on a thread of its own that ends with it.
func start(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			err = nil // a kernel without ambient capabilities has none to inherit
		}
		if err == nil {
			err = slack.SetThread(slack.Default)
		}
		if err == nil {
			err = cmd.Start()
		}
		result <- err
	}()
	return <-result
}

// tail keeps the last bytes written to it.
type tail struct {
	max int
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// complaint cuts what a program said down to what it complains about, on one line.
func complaint(program, said string) string {
	var lines []string
	begun := false
	for line := range strings.SplitSeq(strings.ReplaceAll(said, "\r", "\n"), "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), program+": ")
		if !begun && isComplaint(line) {
			begun, lines = true, nil
		}
		if line != "" && !strings.HasPrefix(line, "removing ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(len(lines)-6, 0):], "; ")
}

func isComplaint(line string) bool {
	return strings.HasPrefix(line, "error: ") || strings.HasPrefix(line, "fatal: ") || strings.Contains(line, "FATAL: ")
}

// lastLines gives the last n lines that say something, on one line.
func lastLines(text string, n int) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out[max(len(out)-n, 0):], "; ")
}
