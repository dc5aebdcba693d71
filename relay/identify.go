package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
)

// errUnidentified is a WAL receiver's that asks for WAL without having asked whom it talks to; PostgreSQL's never does.
var errUnidentified = errors.New("replication was asked for before IDENTIFY_SYSTEM was answered")

// asksWho reports whether a message is IDENTIFY_SYSTEM ("Streaming Replication Protocol").
func asksWho(msg []byte) bool {
	return msg[0] == 'Q' && strings.EqualFold(strings.TrimSpace(string(bytes.TrimRight(msg[5:], "\x00"))), "IDENTIFY_SYSTEM")
}

// preface copies the primary's messages up to the start of replication one by one, and compares the timeline in its answer
// to IDENTIFY_SYSTEM with that of the term.
//
// An address is not a term: by the time a dial arrives, the server there may reign in another one. A WAL sender looks at no
// timeline, and a receiver begins by reporting its own replay position as flushed, so a member whose WAL lies beside that
// server's would acknowledge commits that it does not have. The receiver sends START_REPLICATION only once it has this
// answer, so a link that is ended here has asked for nothing yet.
func (l *link) preface(in *bufio.Reader) error {
	for {
		if _, err := in.Peek(1); err != nil {
			return ended("primary", err)
		}
		l.r.stamp(&l.r.heard)
		if l.started.Load() {
			return nil // this is its answer, from which on all is copied as it comes
		}
		head, err := in.Peek(5)
		if err != nil {
			return ended("primary", err)
		}
		kind, n := head[0], int64(binary.BigEndian.Uint32(head[1:]))
		if n < 4 {
			return fmt.Errorf("read from primary: message %q of %d bytes", kind, n)
		}
		if kind == 'D' && l.asked.Load() && !l.identified.Load() {
			err = l.identify(in, n)
		} else {
			_, err = io.CopyN(l.rc.conn, in, 1+n)
		}
		if err != nil {
			return fmt.Errorf("carry a message of %d bytes to the WAL receiver: %w", n, err)
		}
	}
}

// identify reads the answer to IDENTIFY_SYSTEM and passes it on if it is the one that is expected.
func (l *link) identify(in *bufio.Reader, n int64) error {
	if n > maxMessage {
		return fmt.Errorf("the answer to IDENTIFY_SYSTEM has %d bytes", n)
	}
	msg := make([]byte, 1+n)
	if _, err := io.ReadFull(in, msg); err != nil {
		return err
	}
	tl, err := timelineOf(msg[5:])
	if err != nil {
		return fmt.Errorf("read the answer to IDENTIFY_SYSTEM: %w", err)
	}
	if tl != l.to.timeline {
		err := fmt.Errorf("the server at %s is on timeline %d, term %d reigns on %d", l.to.addr, tl, l.to.term, l.to.timeline)
		l.r.refuse(l.to, err)
		return err
	}
	l.identified.Store(true) // before the receiver can go on
	l.r.accepted(l.to)
	_, err = l.rc.conn.Write(msg)
	return err
}

// timelineOf reads the second column of a DataRow's body: systemid, timeline, xlogpos, dbname, all as text.
func timelineOf(row []byte) (cluster.Timeline, error) {
	if len(row) < 2 || binary.BigEndian.Uint16(row) < 2 {
		return 0, errors.New("no timeline in it")
	}
	row = row[2:]
	for column := 0; ; column++ {
		if len(row) < 4 {
			return 0, io.ErrUnexpectedEOF
		}
		n := int32(binary.BigEndian.Uint32(row))
		row = row[4:]
		if n < 0 || int(n) > len(row) {
			return 0, io.ErrUnexpectedEOF
		}
		if column == 1 {
			tl, err := strconv.ParseUint(string(row[:n]), 10, 32)
			return cluster.Timeline(tl), err
		}
		row = row[n:]
	}
}

// refuse notes that the server reached is on another timeline. It is told once; the next dial waits a little longer each
// time, for what makes it right is either news, which brings another target, or a matter of moments.
func (r *Relay) refuse(t *target, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.pause = min(max(2*t.pause, redialMin), redialMax)
	t.notBefore = time.Now().Add(t.pause)
	if t.refused != why.Error() {
		t.refused = why.Error()
		r.cfg.Log.Warn("relay refuses the server that it reached", "term", t.term, "err", why)
	}
}

// accepted forgets earlier refusals.
func (r *Relay) accepted(t *target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.pause, t.refused = 0, ""
}

// rest is how long the target is to be left alone.
func (r *Relay) rest(t *target) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Until(t.notBefore)
}
