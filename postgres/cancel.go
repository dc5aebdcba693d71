package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// A commit that waits for other hosts is withheld from CancelRequests, because PostgreSQL takes a cancelled wait for success
// ("Planning for High Availability"): the client is told so with a mere warning, and the row is seen by everybody though no
// other host has it.
//
// A backend acts upon a request in that wait also if it came before, after the statement's last look for interrupts: while the
// commit's own WAL was being flushed. So one look at what the backend does has to tell more than whether it waits (see
// withhold). What can't be had is a look and a signal in one: a backend may go on from the one to its commit before the
// other. The connection that carries the request is therefore made before the look, so that between the two lie a write
// and a process's waking, some 100 µs on an idle machine. A backend hit then gives its wait up, if by then it has one.
const (
	cancelFor  = 2 * time.Second      // for all of one request; what isn't delivered by then never is
	lookAgain  = 5 * time.Millisecond // after a look that found a commit which others are there to confirm
	cancelLook = 20                   // at most as many looks for one request
)

// Cancel hands a CancelRequest, as a client has sent it, to the server, unless the session that it means is committing or
// waits for other hosts to confirm a commit: then it says why it withholds it. While as many standbys stream as a commit
// asks for, such a wait is short, and it looks again for a while; but never past the end of the statement it found first.
// A request that is withheld is dropped: the client meant what runs now, and whatever it runs later is something else.
//
// "" is also returned where there is nothing to cancel. The request proves nothing before the server has seen its secret
// key: until then the process number in it is any number that anybody chose. An error says that it was not delivered.
func (s *Server) Cancel(ctx context.Context, request []byte) (withheld string, err error) {
	ctx, stop := context.WithTimeout(ctx, cancelFor)
	defer stop()
	pid := cancelledPID(request)
	if pid < 1 { // of no process; and PostgreSQL's functions take -1 for "all"
		return "", nil
	}
	conn, err := s.config().dialSocket(ctx)
	if err != nil {
		return "", fmt.Errorf("cancel: %w", err)
	}
	defer conn.Close()
	first := ""
	for n := range cancelLook {
		b, err := s.lookAtBackend(ctx, pid)
		switch {
		case err != nil:
			return "", fmt.Errorf("cancel: see what process %d does: %w", pid, err)
		case !b.runs() || n > 0 && b.began != first:
			return "", nil
		}
		if first, withheld = b.began, b.withhold(); withheld == "" {
			return "", deliver(ctx, conn, request)
		}
		if b.standbys < b.copies {
			return withheld, nil // the wait may be a long one
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return "", fmt.Errorf("cancel: %w", context.Cause(ctx))
		}
	}
	return withheld, nil
}

// CancelSealed says why a CancelRequest that nobody can read must not reach the server now, "" if it may. Whose session it means is
// not known, so it may be any that waits for other hosts: it is held until all that waited when it came have been confirmed,
// which also shows that the others were there a moment ago. With fewer standbys streaming than a commit asks for it is
// withheld at once. An error says that it is not known.
func (s *Server) CancelSealed(ctx context.Context) (withheld string, err error) {
	ctx, stop := context.WithTimeout(ctx, cancelFor)
	defer stop()
	var before []string // who waited from the beginning until now
	for n := 0; ; n++ {
		w, err := s.lookAtWaiters(ctx)
		if n == 0 {
			before = w.waiting
		}
		before = slices.DeleteFunc(before, func(id string) bool { return !slices.Contains(w.waiting, id) })
		switch {
		case err != nil && n > 0 && ctx.Err() != nil:
			return "it may be for a commit that waits for other hosts", nil
		case err != nil:
			return "", fmt.Errorf("see whether commits wait: %w", err)
		case w.rule.K == 0:
			return "", nil
		case w.standbys < w.rule.K:
			return fmt.Sprintf("it may be for a commit that waits for %d other hosts, %d of the commit rule's are there", w.rule.K, w.standbys), nil
		case len(before) == 0:
			return "", nil
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return fmt.Sprintf("it may be for one of %d commits that have waited for other hosts for %v", len(before), cancelFor), nil
		}
	}
}

// waiters is one look at all commits that wait for other hosts, and at who could confirm them.
type waiters struct {
	rule     cluster.Rule
	standbys int      // of the rule, that stream
	waiting  []string // the statements, each by its process and beginning
}

const waitersSQL = `
select case when pg_is_in_recovery() then '' else current_setting('synchronous_standby_names') end,
	(select count(*) from pg_stat_get_wal_senders() w where w.state = 'streaming' and w.sync_state in ('quorum', 'sync')),
	array(select a.pid || ' ' || coalesce(a.query_start::text, '') from pg_stat_get_activity(null) a where a.wait_event = 'SyncRep')`

func (s *Server) lookAtWaiters(ctx context.Context) (w waiters, err error) {
	names := ""
	err = s.cancels.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, waitersSQL).Scan(&names, &w.standbys, &w.waiting)
	})
	if err == nil {
		w.rule, err = pgconf.ParseSyncNames(names)
	}
	return w, err
}

// cancelledPID is the process that the request names ("Message Formats": CancelRequest), 0 if it is too short to name one.
func cancelledPID(request []byte) int32 {
	if len(request) < 16 {
		return 0
	}
	return int32(binary.BigEndian.Uint32(request[8:]))
}

// dialSocket connects to the server's own Unix socket.
func (c Config) dialSocket(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(c.SocketDir, ".s.PGSQL."+strconv.Itoa(c.Port)))
}

// deliver returns when the server has closed the connection, which it does once it has acted.
func deliver(ctx context.Context, conn net.Conn, request []byte) error {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // fails only on a closed one
	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	switch n, err := conn.Read(make([]byte, 1)); {
	case n > 0:
		return errors.New("cancel: the server answers, though it never does")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("cancel: wait for the server: %w", err)
	}
	return nil
}

// backend is what one look has shown of a client's session, and of who could confirm its commit.
type backend struct {
	found    bool
	state    string // pg_stat_activity's
	began    string // the statement
	waitType string // of wait
	wait     string // the wait_event; "": it computes
	writes   bool   // it has a transaction ID
	snapshot bool   // it holds one, as a statement does from its beginning to its end; a commit may still hold one
	copies   int    // how many standbys a commit waits for; 0: for none, as on a standby
	standbys int    // those of the rule that stream; one that is silent for 400 ms is none (receiverOptions)
}

const backendSQL = `
select coalesce(a.state, ''), coalesce(a.query_start::text, ''), coalesce(a.wait_event_type, ''), coalesce(a.wait_event, ''),
	a.backend_xid is not null, a.backend_xmin is not null,
	case when pg_is_in_recovery() then '' else current_setting('synchronous_standby_names') end,
	(select count(*) from pg_stat_get_wal_senders() w where w.state = 'streaming' and w.sync_state in ('quorum', 'sync'))
from pg_stat_get_activity(%d) a where a.backend_type = 'client backend'`

func (s *Server) lookAtBackend(ctx context.Context, pid int32) (b backend, err error) {
	names := ""
	err = s.cancels.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, fmt.Sprintf(backendSQL, pid)).Scan(
			&b.state, &b.began, &b.waitType, &b.wait, &b.writes, &b.snapshot, &names, &b.standbys)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return backend{}, nil
	}
	if err != nil {
		return backend{}, err
	}
	rule, err := pgconf.ParseSyncNames(names)
	b.found, b.copies = true, rule.K
	return b, err
}

// runs reports whether there is a statement to cancel. A server ignores a request for an idle session; but by the time it came
// the next statement might have begun. With track_activities off the state is not known.
func (b backend) runs() bool { return b.found && !strings.HasPrefix(b.state, "idle") }

// withhold says why a request must not reach the backend now, "" if it may.
//
// Only the commit of a transaction that has an ID waits for anybody, and COMMIT PREPARED, which has none of its own. Between
// its last look for interrupts and the wait it flushes its WAL; a COMMIT has no snapshot then, an INSERT without one may. Waiting
// for a lock it is not committing. Whatever else it does may be the commit all the same; that matters where the wait would
// not be over in a moment.
func (b backend) withhold() string {
	switch {
	case b.copies == 0:
		return ""
	case b.wait == "SyncRep":
		return fmt.Sprintf("its commit waits for %d other hosts, %d of the commit rule's are there", b.copies, b.standbys)
	case strings.HasPrefix(strings.ToUpper(b.wait), "WAL"): // IO and LWLock; spelt in two ways, by version
		return "it waits for its WAL to be written (" + b.wait + "), which may be its commit's"
	case !b.writes:
		return ""
	case !b.snapshot:
		return "it commits"
	case b.waitType == "Lock" || b.standbys >= b.copies:
		return ""
	}
	return fmt.Sprintf("it has written and may be committing, which waits for %d other hosts, and %d of the commit rule's are there", b.copies, b.standbys)
}
