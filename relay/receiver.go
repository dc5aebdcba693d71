package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

const (
	greetTimeout = 5 * time.Second        // for a receiver's StartupMessage
	redialMin    = 50 * time.Millisecond  // after the first dial that failed
	redialMax    = 500 * time.Millisecond // and never longer than this
)

var (
	errSuperseded = errors.New("a newer WAL receiver has connected")
	errHungUp     = errors.New("WAL receiver hung up")
)

// receiver is one connection of a WAL receiver.
type receiver struct {
	seq    uint64 // in the order of accepting
	conn   *net.UnixConn
	hello  []byte // its StartupMessage, forwarded as it came
	cancel context.CancelCauseFunc
	link   *link // set once, under the relay's lock, when it is joined to a primary
}

// serve is a connection's whole life: read who it is, hold it, find it a primary, carry.
func (r *Relay) serve(ctx context.Context, conn *net.UnixConn, seq uint64) {
	defer r.dismiss(conn)
	hello, who, err := greet(conn, r.cfg.Self)
	if err != nil {
		r.cfg.Log.Warn("relay refused a connection", "err", err)
		return
	}
	if who == slotSync {
		r.serveSync(ctx, conn, hello)
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	rc := &receiver{seq: seq, conn: conn, hello: hello, cancel: cancel}
	if !r.enlist(rc) {
		return
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		rc.watch()
	}()
	l := r.connect(ctx, rc)
	conn.SetReadDeadline(time.Unix(1, 0)) // ends the watch; an error means that the connection is closed, which does too
	<-watched
	conn.SetReadDeadline(time.Time{})
	err = context.Cause(ctx)
	if l != nil {
		if err != nil {
			l.end(err)
		}
		err = l.carry()
	}
	r.delist(rc, err)
}

// dismiss closes a connection and forgets it.
func (r *Relay) dismiss(conn *net.UnixConn) {
	r.mu.Lock()
	delete(r.conns, conn)
	r.mu.Unlock()
	conn.Close()
}

// enlist makes rc the one receiver that counts. Older ones are dead or dying, whether or not their end has been read.
func (r *Relay) enlist(rc *receiver) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut || rc.seq < r.newest {
		return false
	}
	if old := r.current; old != nil {
		old.cancel(errSuperseded)
		if old.link != nil {
			old.link.end(errSuperseded)
		}
		old.conn.Close()
	}
	r.current, r.newest = rc, rc.seq
	r.notify()
	return true
}

// delist forgets rc, unless another has taken its place.
func (r *Relay) delist(rc *receiver, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != rc {
		return
	}
	r.current = nil
	if err != nil {
		r.lastErr = err.Error()
	}
	r.cfg.Log.Info("relay lost its stream", "err", err)
	r.notify()
}

// watch notices the end of a receiver that is held, which says nothing until it is answered. serve ends it with a
// deadline when the receiver is to be read from; no byte can be lost to it, for one that came would be an error.
func (rc *receiver) watch() {
	var b [1]byte
	n, err := rc.conn.Read(b[:])
	switch {
	case n > 0:
		rc.cancel(errors.New("WAL receiver spoke before it was answered"))
	case !errors.Is(err, os.ErrDeadlineExceeded):
		rc.cancel(fmt.Errorf("%w: %w", errHungUp, err))
	}
}

// connect dials the target, as often as it takes, until rc is joined to it. It returns nil when ctx ends.
func (r *Relay) connect(ctx context.Context, rc *receiver) *link {
	for {
		t := r.await(ctx)
		if t == nil {
			return nil
		}
		if l := r.redial(ctx, rc, t); l != nil {
			return l
		}
	}
}

// await returns the target as soon as there is one, nil when ctx ends.
func (r *Relay) await(ctx context.Context) *target {
	for ctx.Err() == nil {
		r.mu.Lock()
		t, moved := r.target, r.moved
		r.mu.Unlock()
		if t != nil {
			return t
		}
		select {
		case <-ctx.Done():
		case <-moved:
		}
	}
	return nil
}

// redial dials t until it answers. It returns nil when t is no longer the target or ctx ends.
func (r *Relay) redial(ctx context.Context, rc *receiver, t *target) *link {
	t.linger(ctx, r.rest(t))
	for pause := redialMin; ctx.Err() == nil && t.ctx.Err() == nil; pause = min(2*pause, redialMax) {
		up, err := r.dial(ctx, t)
		if err == nil {
			return r.join(rc, t, up)
		}
		r.dialFailed(t, err)
		t.linger(ctx, pause)
	}
	return nil
}

// linger waits for d, or for the end of ctx or of the target.
func (t *target) linger(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-t.ctx.Done():
	case <-timer.C:
	}
}

func (r *Relay) dialFailed(t *target, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target != t || r.lastErr == err.Error() {
		return
	}
	r.lastErr = err.Error()
	r.cfg.Log.Warn("relay cannot reach the primary", "term", t.term, "err", err)
	r.notify()
}

// join makes a dialed connection the one that carries for rc, if both are still wanted. This is where a dial is
// rechecked: under the lock that Raise holds while it closes.
func (r *Relay) join(rc *receiver, t *target, up *upstream) *link {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target != t || r.current != rc {
		up.reset()
		return nil
	}
	rc.link = &link{r: r, rc: rc, up: up, to: t}
	r.lastErr = ""
	r.cfg.Log.Info("relay carries", "term", t.term, "addr", t.addr)
	r.notify()
	return rc.link
}
