// Package guard starts and feeds the guard: a small process beside the agent that kills every process of PostgreSQL,
// and removes the floating addresses, when the agent does not feed it in time: because it was killed, stopped, starved
// of the processor, or hangs. Without it, a primary whose agent is gone would go on serving clients that nobody can
// cut off any more.
//
// What the guard does, and how one guard follows another, is described in package watch.
package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"standfast/guard/feed"
	"standfast/guard/watch"
)

var (
	// ErrFired is returned by Feed from when the guard has fired until Disarm: the caller's PostgreSQL is dead or dying,
	// and it must find out where it stands before it feeds again.
	ErrFired = errors.New("the guard has fired: PostgreSQL was killed because it was not fed in time")

	// ErrEnded is returned when the guard's process has ended. Another has to be started.
	ErrEnded = errors.New("the guard has ended")
)

// startTimeout is for the process to start and take over from its predecessor, which is given one second to answer.
const startTimeout = 5 * time.Second

// Config says which guard to start.
type Config struct {
	// Name tells this member's guard from others on the host, and is the same after a restart of the agent: the path of
	// its data directory or run directory. A new guard takes over from the one before it of the same name, with the
	// deadline that one was holding.
	Name string

	// Program is the guard's program; "" is the one embedded in this program or, if there is none, this program itself
	// with the argument "guard" first, which must then call Main with the rest.
	Program string

	Watchdog        string        // the kernel's watchdog device, fed while the guard is armed; "": none
	WatchdogTimeout time.Duration // half the lease; whole seconds, rounded down but at least one

	Log    *slog.Logger
	Stderr *os.File // where the guard writes what it has done; nil: this process's. It is inherited, not read from.

	small func() (fs.File, error) // the embedded program; tests replace it
}

// Target is what the guard ends when it fires.
type Target struct {
	Data      string // PostgreSQL's data directory, absolute and without symbolic links (filepath.EvalSymlinks); "" beside Addresses: left alone
	Cgroup    string // directory of PostgreSQL's own control group (version 2); "": none. Never the agent's own.
	Addresses []Address
}

// Address is an address on an interface.
type Address struct {
	Interface int // index
	Prefix    netip.Prefix
}

// Status is what is known of the guard.
type Status struct {
	PID      int
	Alive    bool
	AckedAt  time.Time     // when it last confirmed a feed; it does within a millisecond, unless it is itself starved
	Left     time.Duration // until the confirmed deadline; 0: it is disarmed
	Fired    int           // how often it has fired
	LastSeq  uint64        // of the last feed sent
	AckedSeq uint64        // of the last one confirmed
}

// Guard is a running guard. Its methods may be called from any goroutine.
type Guard struct {
	cfg     Config
	cmd     *exec.Cmd
	conn    *os.File // the feeding socket
	done    chan struct{}
	started chan struct{}
	fired   chan struct{}
	reader  sync.WaitGroup

	mu     sync.Mutex
	seq    uint64
	armed  bool   // by the last feed sent
	known  uint32 // fires that the caller has acknowledged by Disarm
	ack    feed.Message
	ackAt  time.Time
	closed bool
}

// ID is what tells the guard of a Config.Name from all others on the host: one of its process's arguments, which outlives its
// starter, and the name of the socket at which its successor asks.
func ID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "standfast-guard-" + hex.EncodeToString(sum[:16])
}

// Main is the guard's program, for a caller that was started with the argument "guard"; args are those after it. It
// returns the exit status.
func Main(args []string) int { return watch.Main(args) }

// Start starts a guard and waits until it has taken over from its predecessor, if there is one. It begins disarmed, or
// with its predecessor's deadline. ctx bounds the start only: the guard is there to outlive its caller.
func Start(ctx context.Context, cfg Config) (*Guard, error) {
	if cfg.Name == "" {
		return nil, errors.New("start guard: its name is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Stderr == nil {
		cfg.Stderr = os.Stderr
	}
	if cfg.small == nil {
		cfg.small = embedded
	}
	g := &Guard{cfg: cfg, done: make(chan struct{}), started: make(chan struct{}), fired: make(chan struct{}, 1)}
	if err := g.spawn(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	g.reader.Go(g.read)
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	var err error
	select {
	case <-g.started:
		return g, nil
	case <-g.done:
		err = ErrEnded
	case <-timeout.C:
		err = fmt.Errorf("no sign of life within %v", startTimeout)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// Not killed: it may have taken over just now. Left alone it ends, or does what its predecessor would have done.
	g.mu.Lock()
	g.closed, g.armed = true, true
	g.mu.Unlock()
	g.conn.Close()
	g.reader.Wait()
	return nil, fmt.Errorf("start guard: %w", err)
}

// spawn starts the process with its end of the feeding socket.
func (g *Guard) spawn() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	g.conn = os.NewFile(uintptr(fds[0]), "guard")
	theirs := os.NewFile(uintptr(fds[1]), "guard")
	defer theirs.Close()
	files := []*os.File{theirs} // descriptor 3
	program, args, image, err := g.program()
	if err != nil {
		g.conn.Close()
		return err
	}
	if image != nil {
		defer image.Close()
		files = append(files, image) // descriptor 4
	}
	args = append(args, ID(g.cfg.Name), g.cfg.Watchdog,
		strconv.Itoa(max(1, int(g.cfg.WatchdogTimeout/time.Second))))
	g.cmd = &exec.Cmd{Path: program, Args: args, Dir: "/", Stderr: g.cfg.Stderr, ExtraFiles: files,
		Env:         []string{"GOMAXPROCS=1"}, // its memory and threads are counted
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if err := g.cmd.Start(); err != nil {
		g.conn.Close()
		return err
	}
	return nil
}

// program says what to execute, with the arguments that come before the guard's own. image, if not nil, has to be
// passed as descriptor 4.
func (g *Guard) program() (path string, args []string, image *os.File, err error) {
	if g.cfg.Program != "" {
		return g.cfg.Program, []string{filepath.Base(g.cfg.Program)}, nil, nil
	}
	small, err := g.cfg.small()
	if err != nil {
		return "", nil, nil, err
	}
	if small == nil {
		return "/proc/self/exe", []string{"standfast", "guard"}, nil, nil
	}
	defer small.Close()
	image, err = inMemory(small)
	return "/proc/self/fd/4", []string{"standfast-guard"}, image, err
}

// read takes in what the guard says until it ends or Close is called.
func (g *Guard) read() {
	buf := make([]byte, feed.Max)
	for {
		n, err := g.conn.Read(buf)
		if err != nil || n == 0 {
			break
		}
		m, err := feed.Parse(buf[:n])
		if err != nil || m.Kind != feed.Ack {
			g.cfg.Log.Warn("guard says what is not understood", "err", err)
			continue
		}
		g.heard(m)
	}
	g.mu.Lock()
	left := g.closed && g.armed
	g.mu.Unlock()
	if left {
		g.cmd.Process.Release() // it lives on, until its deadline or its successor
		return
	}
	err := g.cmd.Wait()
	g.cfg.Log.Info("guard has ended", "pid", g.cmd.Process.Pid, "err", err)
	close(g.done)
}

func (g *Guard) heard(m feed.Message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ackAt.IsZero() {
		close(g.started)
		g.armed = m.Deadline != 0
	}
	if m.Fires > g.ack.Fires {
		g.cfg.Log.Error("guard has fired", "times", m.Fires)
		select {
		case g.fired <- struct{}{}:
		default:
		}
	}
	g.ack, g.ackAt = m, time.Now()
}

// Feed sets the deadline: unless it is fed again, the guard ends t that long from now. A longer or shorter deadline
// replaces the one before. The guard counts time by CLOCK_BOOTTIME, that in which the host is suspended included. Feed
// never waits; an error means that the deadline fed before is still in force.
func (g *Guard) Feed(deadline time.Duration, t Target) error {
	switch {
	case deadline <= 0:
		return fmt.Errorf("feed guard: deadline %v from now: use Disarm to end it", deadline)
	case t.Data == "" && len(t.Addresses) > 0: // a standby's
	case t.Data == "" || t.Data != filepath.Clean(t.Data) || !filepath.IsAbs(t.Data):
		return fmt.Errorf("feed guard: data directory %q: need an absolute path without symbolic links", t.Data)
	}
	m := feed.Message{Kind: feed.Feed, Deadline: feed.Now() + int64(deadline), Data: t.Data, Cgroup: t.Cgroup}
	for _, a := range t.Addresses {
		m.Addresses = append(m.Addresses, feed.Address{Index: int32(a.Interface), Bits: uint8(a.Prefix.Bits()), IP: a.Prefix.Addr().AsSlice()})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ack.Fires != g.known {
		return ErrFired
	}
	return g.send(m)
}

// Disarm ends the deadline: the guard does nothing until it is fed again. After it has fired it also says that the
// caller knows.
func (g *Guard) Disarm() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = g.ack.Fires
	return g.send(feed.Message{Kind: feed.Feed})
}

// send, under the lock, never waits: a guard that does not read is as good as none, and the caller must know.
func (g *Guard) send(m feed.Message) error {
	if g.closed {
		return fmt.Errorf("feed guard: %w", os.ErrClosed)
	}
	m.Seq, m.Fires = g.seq+1, g.known
	raw, err := g.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("feed guard: %w", err)
	}
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), m.Append(nil), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	})
	switch err := errors.Join(ctlErr, err); {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("feed guard: %w", ErrEnded)
	case err != nil:
		return fmt.Errorf("feed guard: %w", err)
	}
	g.seq, g.armed = m.Seq, m.Deadline != 0
	return nil
}

// Done is closed when the guard's process has ended.
func (g *Guard) Done() <-chan struct{} { return g.done }

// Fired yields a value when the guard has fired.
func (g *Guard) Fired() <-chan struct{} { return g.fired }

// Status returns what is known of the guard.
func (g *Guard) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Status{PID: g.cmd.Process.Pid, Alive: true, AckedAt: g.ackAt, Fired: int(g.ack.Fires), LastSeq: g.seq, AckedSeq: g.ack.Seq}
	if g.ack.Deadline != 0 {
		s.Left = max(time.Duration(g.ack.Deadline-feed.Now()), 0)
	}
	select {
	case <-g.done:
		s.Alive = false
	default:
	}
	return s
}

// Close lets the guard go, as the end of this process would: a disarmed one ends, and is waited for; an armed one lives
// until its deadline, and fires then, unless the next guard of its name has taken over. So an agent that leaves
// PostgreSQL running for its successor to adopt just closes, and ends.
func (g *Guard) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	armed := g.armed
	g.mu.Unlock()
	if armed {
		err := g.conn.Close()
		g.reader.Wait()
		return err
	}
	g.shutdown()
	stuck := time.AfterFunc(time.Second, func() { g.cmd.Process.Kill() }) // stopped, say; it has nothing to guard
	g.reader.Wait()
	stuck.Stop()
	return g.conn.Close()
}

// shutdown ends the sending side only, so that the guard's own end can be read.
func (g *Guard) shutdown() {
	if raw, err := g.conn.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}
