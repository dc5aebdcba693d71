package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// Database is the one that a standby's slot synchronization may connect to. The primary's pg_hba has a line for the
// replication role and this database alone.
const Database = "postgres"

// PostgreSQL 17 and later keep failover slots on a standby by a worker of its own ("Replication Slot Synchronization"). It
// connects with primary_conninfo, hence here, but as an ordinary session without "replication": it asks pg_is_in_recovery()
// and reads pg_replication_slots. Such a session flushes and acknowledges nothing and is no receiver: it never counts as
// one, and neither Held nor Carrying knows of it.
//
// What Raise promises holds for it too: it is carried only for the current target and ended with it. While there is no
// target it is refused, not held: a worker that waits in a connection does not notice that its server is being promoted,
// and the promotion waits for the worker.

// errDetached is what the worker is told without a target; it comes again by itself ten seconds later.
var errDetached = errors.New("this member follows no primary now")

// syncer is a session of slot synchronization that is carried, under the relay's lock in Relay.syncers.
type syncer struct {
	conn *net.UnixConn
	up   *upstream
}

// end ends both sides now. Close alone does so only once the copying goroutine has let go of the socket, and until then the
// kernel takes what the worker writes; shutting it down first refuses that at once.
func (s *syncer) end() {
	s.up.reset()
	s.conn.CloseRead()
	s.conn.CloseWrite()
	s.conn.Close()
}

// serveSync carries one session of slot synchronization for the target of this moment.
func (r *Relay) serveSync(ctx context.Context, conn *net.UnixConn, hello []byte) {
	r.mu.Lock()
	t := r.target
	r.mu.Unlock()
	s, err := r.joinSync(ctx, conn, t)
	if err != nil {
		conn.Write(fatal(codeNotNow, err.Error())) // best effort: it is being closed
		r.cfg.Log.Debug("relay does not carry slot synchronization", "err", err)
		return
	}
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	err = s.carry(hello)
	r.mu.Lock()
	delete(r.syncers, s)
	r.mu.Unlock()
	r.cfg.Log.Debug("slot synchronization ended", "err", err)
}

// joinSync dials the target and registers the session, under the lock under which Raise and Detach end it.
func (r *Relay) joinSync(ctx context.Context, conn *net.UnixConn, t *target) (*syncer, error) {
	if t == nil {
		return nil, errDetached
	}
	up, err := r.dial(ctx, t)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target != t || r.shut {
		up.reset()
		return nil, errDetached
	}
	s := &syncer{conn, up}
	r.syncers[s] = struct{}{}
	return s, nil
}

// carry copies in both directions until either side ends, and says why.
func (s *syncer) carry(hello []byte) error {
	if _, err := s.up.Write(hello); err != nil {
		s.end()
		return fmt.Errorf("write to primary: %w", err)
	}
	down := make(chan error, 1)
	go func() {
		_, err := io.Copy(s.conn, s.up)
		s.end()
		down <- err
	}()
	_, err := io.Copy(s.up, s.conn)
	s.end()
	return errors.Join(err, <-down)
}
