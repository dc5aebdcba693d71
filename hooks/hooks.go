// Package hooks runs the site's commands when this member's role or a floating address has changed: to tell a chat, move a
// record in DNS, or start a job where the primary is.
//
// A hook is told what is so now, not every step on the way: while it runs, only the newest event of each subject waits. It
// never holds anything up, and what becomes of it changes nothing but the log.
//
// # What a command gets
//
// It is run by /bin/sh -c as the member's user, without the member's capabilities, in a process group of its own, which
// is killed when the time is over or the command has ended (use setsid to leave something behind). Its output goes into
// the log. In its environment are PATH, HOME, LANG and
//
//	STANDFAST_EVENT      role or address
//	STANDFAST_CLUSTER    the cluster's name
//	STANDFAST_MEMBER     this member's name
//	STANDFAST_TERM       the newest term known here, a number
//	STANDFAST_PRIMARY    the member that reigns in it, empty while one is being chosen
//	STANDFAST_ROLE       primary, standby, witness or none (PostgreSQL is not running here)
//	STANDFAST_OLD_ROLE   the role told of last, empty at the first time (event role only)
//	STANDFAST_ADDRESS    the floating address (event address only)
//	STANDFAST_INTERFACE  where it is or was (event address only)
//	STANDFAST_HELD       yes or no: whether this host holds it now (event address only)
package hooks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what a hook is about.
type Kind string

// The kinds.
const (
	Role    Kind = "role"
	Address Kind = "address"
)

// Event is what a command is told.
type Event struct {
	Kind    Kind
	Term    uint64
	Primary string
	Role    string

	Address   string // Address only
	Interface string
	Held      bool
}

// Config says what is run.
type Config struct {
	Cluster, Member string
	OnRole          string        // shell command; "": none
	OnAddress       string        // shell command; "": none
	Timeout         time.Duration // for one run; 0: 10 s
	Log             *slog.Logger  // nil: slog.Default()
}

// Hooks runs commands. Its methods may be called from any goroutine.
type Hooks struct {
	cfg   Config
	lanes map[Kind]*lane
}

// lane runs the commands of one kind, one after the other.
type lane struct {
	command string
	wake    chan struct{}

	mu      sync.Mutex
	order   []string         // subjects with an event that waits, oldest first
	waiting map[string]Event // by subject: the newest
	role    string           // told of last
}

const (
	defaultTimeout = 10 * time.Second
	mostLines      = 100 // of one run's output
)

// New prepares hooks. Run runs them.
func New(cfg Config) *Hooks {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &Hooks{cfg: cfg, lanes: map[Kind]*lane{}}
	for kind, command := range map[Kind]string{Role: cfg.OnRole, Address: cfg.OnAddress} {
		if command != "" {
			h.lanes[kind] = &lane{command: command, wake: make(chan struct{}, 1), waiting: map[string]Event{}}
		}
	}
	return h
}

// Tell has the event's command run. It never blocks; an earlier event of the same subject (the role, or the same address)
// that has not been told yet is forgotten.
func (h *Hooks) Tell(e Event) {
	l := h.lanes[e.Kind]
	if l == nil {
		return
	}
	l.mu.Lock()
	if _, there := l.waiting[e.Address]; !there {
		l.order = append(l.order, e.Address)
	}
	l.waiting[e.Address] = e
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run runs commands until ctx ends, which also ends the ones that run.
func (h *Hooks) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range h.lanes {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-l.wake:
				}
				for e, ok := l.take(); ok && ctx.Err() == nil; e, ok = l.take() {
					h.run(ctx, l, e)
				}
			}
		})
	}
	wg.Wait()
	return nil
}

func (l *lane) take() (Event, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.order) == 0 {
		return Event{}, false
	}
	e := l.waiting[l.order[0]]
	delete(l.waiting, l.order[0])
	l.order = l.order[1:]
	return e, true
}

// run runs the command for one event to its end, or to the end of its time.
func (h *Hooks) run(ctx context.Context, l *lane, e Event) {
	log := h.cfg.Log.With("hook", "on_"+string(e.Kind)+"_change", "role", e.Role, "term", e.Term)
	if e.Kind == Address {
		log = log.With("address", e.Address, "held", e.Held)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.cfg.Timeout, fmt.Errorf("killed after %v", h.cfg.Timeout))
	defer cancel()
	begun := time.Now()
	err := Execute(ctx, Command{Line: l.command, Environment: h.environment(e, l.role), Log: log})
	l.role = e.Role
	if err != nil {
		log.Warn("hook ended", "error", err, "took", time.Since(begun))
		return
	}
	log.Info("hook ended", "took", time.Since(begun))
}

// Command is a line of the site's for /bin/sh -c.
type Command struct {
	Line        string
	Environment []string // "KEY=value", beside PATH, HOME and LANG
	Input       []byte   // on standard input; nil: there is none
	Log         *slog.Logger
}

// base is the environment of every command. Nothing of the member's own is passed on: it may hold secrets.
var base = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8"}

// Execute runs a command as the package's comment says, to its end or until ctx ends, whose cause is the error then.
func Execute(ctx context.Context, c Command) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", c.Line)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = slices.Concat(base, c.Environment), "/", in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.Input != nil {
		f, err := input(c.Input)
		if err != nil {
			return errors.Join(err, in.Close(), out.Close())
		}
		defer f.Close()
		cmd.Stdin = f
	}
	err = start(cmd)
	in.Close()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	var reader sync.WaitGroup
	reader.Go(func() { tellLog(out, c.Log) })
	ended := make(chan error, 1)
	reader.Go(func() { ended <- cmd.Wait() })
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it left in the background too: it would keep the pipe, and pile up
	// One that has left the group may hold the pipe for ever; it is not waited for.
	deadline := out.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	reader.Wait()
	return errors.Join(err, deadline, out.Close())
}

// input is a file in memory, at its beginning: unlike a pipe it needs nobody who writes while the command reads, or does not.
func input(text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the command's input: %w", err)
	}
	f := os.NewFile(uintptr(fd), "input")
	_, err = f.Write(text)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tellLog logs what a command says, and reads on without logging when it says too much.
func tellLog(out io.Reader, log *slog.Logger) {
	lines := bufio.NewScanner(out)
	n := 0
	for lines.Scan() {
		if n++; n <= mostLines {
			log.Info("hook says", "line", lines.Text())
		}
	}
	if n > mostLines {
		log.Info("hook says more", "lines", n-mostLines)
	}
	_, _ = io.Copy(io.Discard, out) // a line that is too long has stopped the scanner
}

// environment is what the command is told.
func (h *Hooks) environment(e Event, old string) []string {
	env := []string{
		"STANDFAST_EVENT=" + string(e.Kind),
		"STANDFAST_CLUSTER=" + h.cfg.Cluster,
		"STANDFAST_MEMBER=" + h.cfg.Member,
		"STANDFAST_TERM=" + strconv.FormatUint(e.Term, 10),
		"STANDFAST_PRIMARY=" + e.Primary,
		"STANDFAST_ROLE=" + e.Role,
	}
	if e.Kind == Role {
		return append(env, "STANDFAST_OLD_ROLE="+old)
	}
	held := "no"
	if e.Held {
		held = "yes"
	}
	return append(env, "STANDFAST_ADDRESS="+e.Address, "STANDFAST_INTERFACE="+e.Interface, "STANDFAST_HELD="+held)
}

// start starts the command without this process's ambient capabilities. They belong to a thread, so it is started on one
// of its own that ends with it.
func start(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			err = nil // a kernel without ambient capabilities has none to inherit
		}
		if err == nil {
			err = cmd.Start()
		}
		result <- err
	}()
	return <-result
}
