package embed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// killAfter is how long the process may take to end by itself once it was asked to.
	killAfter = closeTimeout + time.Second

	firstPause = 100 * time.Millisecond // before a process that died is started again; doubles
	lastPause  = 5 * time.Second        // ... up to this
	steady     = 10 * time.Second       // a process that lived this long starts with firstPause again
)

// limits keep the Go runtime of etcd small. The live heap is a few MB, so that frequent collections cost little. One
// processor saves a fifth of the CPU time of an idle member, threads waking one another, and makes writes no slower. What
// the environment says comes first.
var limits = []string{"GOGC=25", "GOMEMLIMIT=24MiB", "GOMAXPROCS=1"}

// Child supervises the etcd process: it is started again whenever it ends, until Stop.
type Child struct {
	exe  string
	args []string
	log  *slog.Logger

	cancel   context.CancelFunc
	done     chan struct{}
	pid      atomic.Int64
	restarts atomic.Int64

	mu   sync.Mutex
	last error // how the process ended the last time
}

// Start begins to run exe with args, which must come to Main with standard input as its reader. The process has a
// process group of its own, so that Ctrl-C reaches the starter only, which then stops it in its turn.
func Start(ctx context.Context, log *slog.Logger, exe string, args ...string) *Child {
	ctx, cancel := context.WithCancel(ctx)
	c := &Child{exe: exe, args: args, log: log, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.supervise(ctx)
	}()
	return c
}

// Stop ends the process, by force if it takes longer than some seconds, and waits for it.
func (c *Child) Stop() {
	c.cancel()
	<-c.done
}

// Pid is the running process's id, 0 while there is none.
func (c *Child) Pid() int { return int(c.pid.Load()) }

// Restarts counts how often the process had to be started again.
func (c *Child) Restarts() int { return int(c.restarts.Load()) }

// Err is how the process ended the last time, with its last words; nil if it never did by itself.
func (c *Child) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *Child) supervise(ctx context.Context) {
	wait := firstPause
	for {
		started := time.Now()
		err := c.run(ctx)
		if ctx.Err() != nil {
			if err != nil {
				c.log.Warn("etcd stopped out of order", "err", err)
			}
			return
		}
		if time.Since(started) > steady {
			wait = firstPause
		}
		c.mu.Lock()
		c.last = err
		c.mu.Unlock()
		c.log.Error("etcd ended, starting it again", "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, lastPause)
		c.restarts.Add(1)
	}
}

// run starts the process and waits for its end. When ctx ends, its standard input is closed, which asks it to end.
func (c *Child) run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, c.exe, c.args...)
	words := &tail{}
	cmd.Stdout, cmd.Stderr = words, words
	cmd.Env = append(slices.Clone(limits), os.Environ()...) // of two the last one counts
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	cmd.Cancel = in.Close
	cmd.WaitDelay = killAfter
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	c.pid.Store(int64(cmd.Process.Pid))
	defer c.pid.Store(0)
	err = cmd.Wait()
	if err == nil && ctx.Err() == nil {
		err = io.EOF // it had no reason to end
	}
	if err == nil || (ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		return nil
	}
	return fmt.Errorf("etcd process: %w%s", err, words)
}

// complaint takes from a line what a Go program gives up with, "" from any other.
func complaint(line []byte) string {
	what, _ := bytes.CutPrefix(line, []byte("panic: "))
	if len(what) == len(line) {
		return ""
	}
	return string(what)
}

// tail keeps the last words of a process, and what it said of why it gives up: a trace of several kilobytes follows that.
type tail struct {
	mu   sync.Mutex
	text []byte
	line []byte // what has been written of a line that has no end yet
	why  string
}

const tailSize = 2048

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	for line := range bytes.Lines(p) {
		if t.line = append(t.line, line...); !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		if why := complaint(bytes.TrimSpace(t.line)); t.why == "" {
			t.why = why
		}
		t.line = t.line[:0]
	}
	if n := len(t.line) - 2*tailSize; n > 0 {
		t.line = t.line[n:]
	}
	if n := len(t.text) - tailSize; n > 0 {
		t.text = bytes.Clone(t.text[n:])
	}
	return len(p), nil
}

// String gives ": " and the reason if it was said, else the last words, or nothing.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why != "" {
		return ": " + t.why
	}
	if s := strings.TrimSpace(string(t.text)); s != "" {
		return ": " + s
	}
	return ""
}
