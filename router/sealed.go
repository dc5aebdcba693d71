package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A CancelRequest inside TLS (pgx, and programs that use the newer functions of libpq 17) can't be read, but it shows by its length: it is the first thing that the
// client says inside, has 16 bytes, and the client says nothing more. Hardly a client begins a session with so little: a
// StartupMessage of 16 bytes names a user of one letter and nothing else (libpq adds more; pgx with no database given does not, and
// such a session ends after asideFor). Whose session a request means is not known, so it is delivered only while no commit of
// the server can be waiting for long.
//
// This is so for TLS 1.3 with its usual ciphers, and for keys of four bytes (PostgreSQL 18 has longer ones for clients that ask
// for protocol 3.2). A request that is not recognised is delivered.
const (
	recordHeader    = 5
	recordSpec      = 20     // ChangeCipherSpec
	recordHandshake = 22     //
	recordSealed    = 23     // in TLS 1.3 all after the hellos
	sealedBy        = 1 + 16 // a type and a tag are added to what is said (RFC 8446, section 5.2)
	sealedCancel    = 16 + sealedBy
	finishedShort   = 4 + 32 + sealedBy // the client's Finished, with SHA-256
	finishedLong    = 4 + 48 + sealedBy // with SHA-384
	leastHello      = 100               // a ClientHello of TLS 1.3 is longer, Finished of TLS 1.2 shorter
	maxRecords      = 16                // looked at, before the client's Finished
)

// tlsOpening follows the records of a client's handshake.
type tlsOpening struct {
	rest     int // bytes of the present record that are to come
	records  int
	spec     bool // the last one was ChangeCipherSpec
	finished bool // the client's handshake is over: what it says next is its first message
}

// feed follows what the client has sent. Over: there is nothing more to be learned; cancel: its last record is a CancelRequest.
func (o *tlsOpening) feed(p []byte) (cancel, over bool) {
	for {
		skip := min(o.rest, len(p))
		o.rest -= skip
		if p = p[skip:]; len(p) == 0 {
			return false, false
		}
		o.records++
		if len(p) < recordHeader || o.records > maxRecords {
			return false, true
		}
		kind, size := p[0], int(binary.BigEndian.Uint16(p[3:]))
		switch {
		case o.finished:
			return kind == recordSealed && size == sealedCancel && len(p) == recordHeader+size, true
		case kind == recordHandshake && o.spec && size < leastHello: // Finished, as TLS 1.2 has it; not a second hello
			return false, true
		case kind == recordSealed:
			o.finished = size == finishedShort || size == finishedLong
		case kind != recordHandshake && kind != recordSpec:
			return false, true
		}
		o.spec = kind == recordSpec
		o.rest = recordHeader + size
	}
}

// sealed takes the session's two connections out of the loop because what it is about to pass on is a CancelRequest. False: it
// is to pass like anything else.
func (l *loop) sealed(s *session, p []byte) bool {
	if l.r.cfg.Cancels.RouterOf == nil || len(s.client.out) > 0 || s.phase != phaseRelay {
		return false
	}
	to, p := s.seat.home(), slices.Clone(p) // it lies in the loop's buffer
	server := l.forget(&s.server)
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, int(server), nil) // it is there
	l.r.carrySealed(l.surrender(s), server, to, p)
	return true
}

// carrySealed passes the request p on to the server, if it may be.
func (r *Router) carrySealed(client, server int32, to home, p []byte) {
	r.cancels.Add(1)
	conn, err := connOf(server)
	if err != nil {
		r.cfg.Log.Error("router: take over a connection", "err", err)
		unix.Close(int(client))
		r.open.Add(-1)
		return
	}
	if !r.serveAside(client, nil, func(c duplex) {
		defer conn.Close()
		ctx, stop := context.WithTimeout(r.ctx, asideFor)
		defer stop()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		if r.maySealed(ctx, to) {
			passSealed(c, conn, p)
		}
	}) {
		conn.Close()
	}
}

// passSealed sends what is left of the conversation both ways, until both have closed or the time is over.
func passSealed(client duplex, server *net.TCPConn, p []byte) {
	if _, err := server.Write(p); err != nil {
		return // the server has gone, so there is nothing to cancel
	}
	var g sync.WaitGroup
	g.Go(func() { _, _ = io.Copy(server, client); _ = server.CloseWrite() }) // an error ends the copying, and that is all
	g.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
	g.Wait()
}

// maySealed asks the host of the server whether a request for an unknown session may be delivered. That host counts what is
// withheld.
func (r *Router) maySealed(ctx context.Context, to home) bool {
	c := r.cfg.Cancels
	if to.member == c.Self {
		return r.sealedHere(ctx)
	}
	may, err := askSealed(ctx, c.RouterOf(to.member))
	if err != nil {
		r.cancelLost(to.member, fmt.Errorf("ask the router of the server's host whether it may be delivered: %w", err))
	}
	return may
}

// sealedHere asks this host's server.
func (r *Router) sealedHere(ctx context.Context) bool {
	c := r.cfg.Cancels
	if c.Sealed == nil {
		r.cancelLost(c.Self, errors.New("this host has no server"))
		return false
	}
	why, err := c.Sealed(ctx)
	switch {
	case err != nil:
		r.cancelLost(c.Self, err)
	case why != "":
		r.cancelWithheld(why)
	}
	return why == "" && err == nil
}

// yes and no answer codeMaySealed.
const yes, no = 'Y', 'N'

func (r *Router) answerSealed(ctx context.Context, c io.Writer) {
	answer := byte(no)
	if r.sealedHere(ctx) {
		answer = yes
	}
	_, _ = c.Write([]byte{answer}) // who gets no answer does not deliver
}

// askSealed asks the router at addr about its host's server.
func askSealed(ctx context.Context, addr string) (bool, error) {
	if addr == "" {
		return false, errors.New("its address is not known")
	}
	d := net.Dialer{Timeout: cancelDial}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	question := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 16), codeMaySealed)
	if _, err := c.Write(append(question, make([]byte, 8)...)); err != nil {
		return false, err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(c, answer); err != nil {
		return false, err
	}
	if answer[0] != yes && answer[0] != no {
		return false, errors.New("it does not understand the question") // a server, or a router of an older version
	}
	return answer[0] == yes, nil
}
