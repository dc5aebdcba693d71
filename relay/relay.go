// Package relay is the local end of a standby's WAL stream.
//
// A standby's WAL receiver never connects to another host. Its primary_conninfo names a Unix socket of this package, and
// the relay carries the stream to the PostgreSQL port of the primary of the newest term. So a standby is detached from
// an old primary at once and for certain, one whose agent is dead cannot acknowledge anything, and following a new
// primary needs no reload.
//
// # Whom it carries to
//
// An address is not a term: the server there may reign in another one by the time a dial arrives, and a WAL sender looks at
// no timeline. Attach names the one that the term reigns on; START_REPLICATION goes out only to a server that has named the
// same one in its answer to IDENTIFY_SYSTEM. A primary shows its fork only after it has left recovery, and from then on every
// new WAL sender of it answers with the new timeline, so a server that has been published is never refused for being slow.
//
// # What Raise promises
//
// When Raise(t) has returned, no byte of a term before t passes the relay again, in either direction. Three things make
// that true. Everything that carries is registered under the relay's lock together with its term, and closed under that
// lock. A dial carries the target it was made for and is thrown away if that is no longer the current one when it takes
// the lock. And closing a socket returns only after every system call on it has returned, so a copy loop that already
// holds bytes in its buffer finds no socket to write them to. Towards the primary the connection is reset, not
// finished: acknowledgements that still wait in the kernel's send queue are discarded.
//
// # What Held promises
//
// A WAL receiver goes on flushing what its socket still holds after the relay has closed it, so a position read then is
// not final. Status.Held says when it is. PostgreSQL runs at most one WAL receiver, and its startup process asks for
// one only when it has replayed all the WAL it finds locally (src/backend/access/transam/xlogrecovery.c,
// WaitForWALToBecomeAvailable); a connection from a receiver therefore proves that every earlier receiver has ended and
// flushed. Held means: the newest connection has not been joined to a primary, ever, and still stands. The kernel hands
// out connections in the order in which they were made, so the newest accepted one is the newest made.
//
// It follows that Raise turns Held off exactly if something was being carried, and that a receiver that had been waiting
// all along keeps counting: whatever was carried before went to an earlier connection, and so to a receiver that is
// gone. A connection that was once joined never becomes Held again; it is closed and the receiver comes anew.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"standfast/cluster"
)

// User is the role that WAL receivers log in as; anyone else is refused.
const User = "standfast_replication"

// ErrBelowFloor is returned by Attach for a term that an earlier Raise or Attach has left behind.
var ErrBelowFloor = errors.New("term is below the one promised")

// ErrClosed is the cause when the relay itself ends.
var ErrClosed = errors.New("relay is closed")

// Config says where the relay listens and how it reaches a primary.
type Config struct {
	Dir  string // directory of the socket; made if absent, mode 0700
	Port int    // names the socket as libpq does: Dir/.s.PGSQL.Port
	Self string // the member's name: application_name, replication slot and client certificate

	// TLS gives the configuration for the next dial, so that renewed certificates are taken up: the member's client
	// certificate, and the roots that the primary's certificate must come from. ServerName, if empty, is the host that is
	// dialed. A nil function means no TLS.
	TLS func() *tls.Config

	Log         *slog.Logger
	DialTimeout time.Duration // for TCP, SSLRequest and the handshake together; 0: one second
}

// Status is what the relay is doing. The zero times mean never.
type Status struct {
	Term      cluster.Term // whose primary it carries to; 0: closed, receivers are held
	Addr      string       // of that primary's PostgreSQL
	Floor     cluster.Term // nothing is carried for a term below this
	Held      bool         // see the package comment
	Receiver  uint64       // number of the newest connection; a reading of the position counts if it is the same before and after
	Carrying  bool         // a receiver is joined to the primary
	Carried   bool         // CarriedAt is not zero
	CarriedAt time.Time    // when last a byte of a started replication stream was handed to a receiver
	HeardAt   time.Time    // when last a byte came from the primary attached to now or last
	AwaitedAt time.Time    // since when a started replication stream owes the next byte; zero: it does not, or none is open
	LastError string       // why the last dial or stream ended; "" once a stream runs
	Starved   string       // in the primary's words: it no longer has the WAL that this member needs; "" while that is not certain
}

// Relay carries one standby's WAL stream. Its methods may be called from any goroutine.
type Relay struct {
	cfg     Config
	ln      *net.UnixListener
	born    time.Time
	changed chan struct{}

	heard   atomic.Int64 // nanoseconds since born, 0: never
	carried atomic.Int64
	awaited atomic.Int64

	mu      sync.Mutex
	floor   cluster.Term
	target  *target
	moved   chan struct{} // closed and replaced when target changes
	current *receiver     // the newest connection, nil when it has gone
	newest  uint64        // its number, kept when it has gone
	lastErr string
	conns   map[*net.UnixConn]struct{} // all accepted and not yet closed
	syncers map[*syncer]struct{}       // sessions of slot synchronization that are carried
	shut    bool
}

// target is where to carry to. A new one is made for every change, so that comparing pointers tells whether a dial is
// still wanted.
type target struct {
	term     cluster.Term
	timeline cluster.Timeline // that the server has to be on
	addr     string
	ctx      context.Context
	cancel   context.CancelCauseFunc

	// Under the relay's lock: what is known of a server that was refused for its timeline.
	refused   string
	pause     time.Duration
	notBefore time.Time

	// Likewise: how often and since when it has answered with nothing but that it does not have the WAL.
	lacks       int
	lackedSince time.Time
	lacked      string
}

// New makes the directory and listens. Receivers that connect before Run is called wait in the socket's backlog.
func New(cfg Config) (*Relay, error) {
	if cfg.Self == "" {
		return nil, errors.New("relay: the member's own name is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = time.Second
	}
	ln, err := listen(cfg.Dir, cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &Relay{
		cfg: cfg, ln: ln, born: time.Now(),
		changed: make(chan struct{}, 1),
		moved:   make(chan struct{}),
		conns:   make(map[*net.UnixConn]struct{}),
		syncers: make(map[*syncer]struct{}),
	}, nil
}

// listen replaces a socket that nobody listens on any more; one that answers belongs to another process.
func listen(dir string, port int) (*net.UnixListener, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("socket path %s is %d bytes long, at most %d work: choose a shorter directory",
			path, len(path), len(unix.RawSockaddrUnix{}.Path)-1)
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	if c, err := net.DialUnix("unix", nil, addr); err == nil {
		c.Close()
		return nil, fmt.Errorf("socket %s is in use: another standfast or PostgreSQL listens there", path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return net.ListenUnix("unix", addr)
}

// Path returns the socket's path.
func (r *Relay) Path() string { return r.ln.Addr().String() }

// Run serves receivers until ctx ends, then closes everything, removes the socket and returns nil. It returns an error
// if it can accept no more. It may be called once.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(ErrClosed)
	wg.Go(func() {
		<-ctx.Done()
		r.Close()
	})
	for seq := uint64(1); ; seq++ {
		conn, err := r.ln.AcceptUnix()
		switch {
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
			// The receiver stays in the backlog; a descriptor may come free. Accepting at once again would burn a core.
			r.cfg.Log.Warn("relay cannot accept", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(redialMin):
			}
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("relay: accept on %s: %w", r.Path(), err)
		}
		if !r.track(conn) {
			conn.Close()
			continue
		}
		wg.Go(func() { r.serve(ctx, conn, seq) })
	}
}

// Close ends everything that stands and makes Run return; Run does it when its context ends. The listener goes first, so
// that nobody comes in behind.
func (r *Relay) Close() {
	r.ln.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return
	}
	r.shut = true
	r.retarget(nil, ErrClosed)
	for c := range r.conns {
		c.Close()
	}
}

func (r *Relay) track(c *net.UnixConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

// Raise makes term the least that is carried for. When it returns, no byte of an earlier term will pass again. Calling
// it with a term already reached changes nothing.
func (r *Relay) Raise(term cluster.Term) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if term <= r.floor {
		return
	}
	r.floor = term
	if r.target != nil && r.target.term < term {
		r.retarget(nil, fmt.Errorf("term %d is promised", term))
	}
	r.notify()
}

// Attach carries to the PostgreSQL at addr, the primary of term on timeline, from now on: the receiver that is held and
// those that come later. A server there that is on another timeline is refused, and tried again. It raises the floor to term. Repeating it changes nothing; another term or address closes what is carried
// first. The error is ErrBelowFloor for a term left behind.
func (r *Relay) Attach(term cluster.Term, timeline cluster.Timeline, addr string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.shut:
		return ErrClosed
	case term == 0 || timeline == 0 || addr == "":
		return fmt.Errorf("attach in term %d on timeline %d to %q: one of them is missing", term, timeline, addr)
	case term < r.floor:
		return fmt.Errorf("attach in term %d: %w, %d", term, ErrBelowFloor, r.floor)
	case r.target != nil && r.target.term == term && r.target.timeline == timeline && r.target.addr == addr:
		return nil
	}
	r.floor = term
	ctx, cancel := context.WithCancelCause(context.Background())
	r.heard.Store(0)
	r.retarget(&target{term: term, timeline: timeline, addr: addr, ctx: ctx, cancel: cancel}, fmt.Errorf("attached to %s in term %d", addr, term))
	return nil
}

// Detach closes what is carried, like Raise, and holds receivers until the next Attach. The floor stays.
func (r *Relay) Detach(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target != nil {
		r.retarget(nil, errors.New(reason))
	}
}

// retarget, under the lock, ends what is carried and every dial in progress, and points at t (nil: nowhere).
func (r *Relay) retarget(t *target, why error) {
	if old := r.target; old != nil {
		old.cancel(why)
		r.cfg.Log.Info("relay closed", "term", old.term, "addr", old.addr, "reason", why)
	}
	if rc := r.current; rc != nil && rc.link != nil {
		rc.link.end(why)
		r.current = nil
	}
	for s := range r.syncers {
		s.end()
	}
	r.target = t
	r.lastErr = ""
	close(r.moved)
	r.moved = make(chan struct{})
	r.notify()
}

// Status returns what the relay is doing now.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Floor: r.floor, Receiver: r.newest, LastError: r.lastErr,
		HeardAt: r.at(&r.heard), CarriedAt: r.at(&r.carried), AwaitedAt: r.at(&r.awaited)}
	s.Carried = !s.CarriedAt.IsZero()
	if r.target != nil {
		s.Term, s.Addr = r.target.term, r.target.addr
		if r.target.starved() {
			s.Starved = r.target.lacked
		}
	}
	if r.current != nil {
		s.Carrying = r.current.link != nil
		s.Held = !s.Carrying
	}
	return s
}

// Changed yields a value after every change of Status but the progress of its times; a stream's first byte counts.
// Several changes may come as one. It is meant for one reader.
func (r *Relay) Changed() <-chan struct{} { return r.changed }

func (r *Relay) notify() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// stamp and at keep a time as a single word, so that the copy loops need no lock.
func (r *Relay) stamp(v *atomic.Int64) { v.Store(int64(time.Since(r.born))) }

func (r *Relay) at(v *atomic.Int64) time.Time {
	d := v.Load()
	if d == 0 {
		return time.Time{}
	}
	return r.born.Add(time.Duration(d))
}
