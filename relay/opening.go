package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// A primary that no longer has the WAL that a receiver asks for says so and hangs up, and the receiver comes again with the
// same question, for ever. One answer proves little: right after a promotion a segment may be about to appear, and a slot
// that was lost is about to be made again. So it counts once it has been the only answer for a while.
const (
	starvedAfter = 2 * time.Second
	starvedTimes = 3
)

// answers are the kinds of message that precede WAL: CopyBothResponse, CopyData (keepalives), and what ends one timeline's
// stream and leads to the next one's.
var answers = []byte("WdEcCTDZNS")

// opening copies the primary's messages one by one from the start of replication up to the first WAL, and takes in a refusal
// of it. From there on all is copied as it comes.
func (l *link) opening(in *bufio.Reader) error {
	for {
		head, err := in.Peek(1)
		if err != nil {
			return ended("primary", err)
		}
		if !bytes.Contains(answers, head) {
			return nil // none of our business
		}
		if head, err = in.Peek(5); err != nil {
			return ended("primary", err)
		}
		kind, n := head[0], int64(binary.BigEndian.Uint32(head[1:]))
		if n < 4 {
			return fmt.Errorf("read from primary: message %q of %d bytes", kind, n)
		}
		if kind == 'd' && n > 4 {
			if head, err = in.Peek(6); err != nil {
				return ended("primary", err)
			}
			if head[5] == 'w' { // XLogData ("Streaming Replication Protocol")
				l.r.supplied(l.to)
				return nil
			}
		}
		l.r.stamp(&l.r.heard)
		if kind == 'E' && n <= maxMessage {
			err = l.refused(in, n)
		} else {
			_, err = io.CopyN(l.rc.conn, in, 1+n)
		}
		if err != nil {
			return fmt.Errorf("carry a message of %d bytes to the WAL receiver: %w", n, err)
		}
		l.delivered()
	}
}

// refused passes the primary's error on to the receiver and looks whether it says that the WAL is gone.
func (l *link) refused(in *bufio.Reader, n int64) error {
	msg := make([]byte, 1+n)
	if _, err := io.ReadFull(in, msg); err != nil {
		return err
	}
	switch field(msg[5:], 'C') {
	case "58P01", "55000": // undefined_file: the segment was removed; object_not_in_prerequisite_state: the slot was invalidated
		l.r.lacking(l.to, field(msg[5:], 'M'))
	}
	_, err := l.rc.conn.Write(msg)
	return err
}

// field returns one field of an ErrorResponse's body ("Error and Notice Message Fields"); "" without it.
func field(body []byte, code byte) string {
	for len(body) > 1 && body[0] != 0 {
		value, rest, found := bytes.Cut(body[1:], []byte{0})
		if !found {
			return ""
		}
		if body[0] == code {
			return string(value)
		}
		body = rest
	}
	return ""
}

// lacking notes that the primary does not have the WAL that was asked for.
func (r *Relay) lacking(t *target, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.lacks == 0 {
		t.lackedSince = time.Now()
	}
	t.lacks++
	t.lacked = why
	if t.starved() {
		r.notify()
	}
}

// supplied forgets it: WAL flows.
func (r *Relay) supplied(t *target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.lacks, t.lacked = 0, ""
}

// starved reports whether the target has for certain no use for this member's receiver. The relay's lock is held.
func (t *target) starved() bool {
	return t.lacks >= starvedTimes && time.Since(t.lackedSince) >= starvedAfter
}
