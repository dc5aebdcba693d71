package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const bufferSize = 128 << 10 // bytes read at once; WAL messages are at most 128 kB and TLS records 16 kB

// link joins a receiver to a primary.
type link struct {
	r  *Relay
	rc *receiver
	up *upstream
	to *target

	asked      atomic.Bool // IDENTIFY_SYSTEM has been forwarded
	identified atomic.Bool // and answered with the timeline that was expected
	started    atomic.Bool // START_REPLICATION has been forwarded
	told       bool        // the stream's first bytes were told of; the downward copy's alone
	once       sync.Once
	err        error // why it ended; written inside once
}

// end closes both sides, the primary's with RST: acknowledgements that wait in its send queue are worth nothing to
// anyone any more, and after a Raise they must not go out. When it returns no system call on either side is in progress.
//
// What the kernel still holds for the receiver stays readable there. So a primary that stops in order delivers its
// shutdown checkpoint, and so a position is not final before Held.
func (l *link) end(why error) {
	l.once.Do(func() {
		l.err = why
		l.up.reset()
		l.rc.conn.Close()
	})
}

// carry copies in both directions until either side ends or the link is ended, and says why.
func (l *link) carry() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.end(l.down())
	}()
	l.end(l.upward())
	<-done
	return l.err
}

// down copies from the primary to the receiver.
func (l *link) down() error {
	in := bufio.NewReaderSize(l.up, 4<<10)
	if err := l.preface(in); err != nil {
		return err
	}
	if err := l.opening(in); err != nil {
		return err
	}
	buf := make([]byte, bufferSize)
	for {
		n, err := l.next(in, buf) // once in is read through, its reads go straight into buf
		if n > 0 {
			l.r.stamp(&l.r.heard)
			if _, err := l.rc.conn.Write(buf[:n]); err != nil {
				return fmt.Errorf("write to WAL receiver: %w", err)
			}
			l.delivered()
		}
		if err != nil {
			return ended("primary", err)
		}
	}
}

// delivered notes that the receiver took something from the primary, and tells of a stream's first.
func (l *link) delivered() {
	l.r.stamp(&l.r.carried)
	if !l.told {
		l.told = true
		l.r.notify()
	}
}

// next reads from the primary. That it waits is noted for so long: a receiver that takes nothing more is not the primary's silence.
func (l *link) next(in io.Reader, buf []byte) (int, error) {
	since := int64(time.Since(l.r.born))
	l.r.awaited.Store(since)
	defer l.r.awaited.CompareAndSwap(since, 0) // a newer stream may be open by then
	return in.Read(buf)
}

// upward copies from the receiver to the primary, looking at what it asks for until replication has started.
func (l *link) upward() error {
	if _, err := l.up.Write(l.rc.hello); err != nil {
		return fmt.Errorf("write to primary: %w", err)
	}
	in := bufio.NewReaderSize(l.rc.conn, 4<<10)
	if err := l.introduce(in); err != nil {
		return err
	}
	buf := make([]byte, bufferSize)
	for {
		// in is read through to its end first; then its reads go straight into buf.
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := l.up.Write(buf[:n]); err != nil {
				return fmt.Errorf("write to primary: %w", err)
			}
		}
		if err != nil {
			return ended("WAL receiver", err)
		}
	}
}

// introduce forwards the receiver's messages one by one up to START_REPLICATION, which must name the member's own slot:
// without it a second connection of the same member could count twice. That goes out only once the primary has said who
// it is.
func (l *link) introduce(in *bufio.Reader) error {
	for {
		msg, err := readMessage(in)
		if err != nil {
			return ended("WAL receiver", err)
		}
		start, err := checkCommand(msg, l.r.cfg.Self)
		if err == nil && start && !l.identified.Load() {
			err = errUnidentified
		}
		if err != nil {
			l.rc.conn.Write(fatal(codeStranger, err.Error())) // so that it stands in the standby's log; the link ends anyhow
			return err
		}
		if asksWho(msg) {
			l.asked.Store(true) // before the primary can answer
		}
		if start {
			l.started.Store(true) // likewise
		}
		if _, err := l.up.Write(msg); err != nil {
			return fmt.Errorf("write to primary: %w", err)
		}
		if start {
			return nil
		}
	}
}

// ended words the end of one side.
func ended(side string, err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s closed the stream", side)
	}
	if errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%s: %w", side, net.ErrClosed)
	}
	return fmt.Errorf("read from %s: %w", side, err)
}
