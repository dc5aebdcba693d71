// Package feed is what an agent and its guard, and two guards of the same member, say to each other: one message per
// packet of a sequenced-packet socket. It uses little of the standard library, so that the guard stays small.
package feed

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// version is the first byte of every message. A later release adds fields at the end, which an earlier one does not
// read; the version rises only when that is not enough.
const version = 1

// Max is the size of the largest message, in bytes.
const Max = 16 << 10

// Kind says what a message is.
type Kind byte

const (
	Feed  Kind = 1 // agent to guard: the deadline from now on
	Ack   Kind = 2 // guard to agent: the feed with Seq is in force; unasked, the guard has started or fired
	Take  Kind = 3 // new guard to old: hand over
	State Kind = 4 // old guard to new: what it is holding
	Taken Kind = 5 // new guard to old: it is in force here, you may end
)

// Address is one that is to be removed from an interface.
type Address struct {
	Index int32 // the interface's
	Bits  uint8 // the length of the prefix
	IP    []byte
}

// Message is one packet. Deadline reads CLOCK_BOOTTIME in nanoseconds, which goes on while the host is suspended and is
// the same for every process; 0 means disarmed.
type Message struct {
	Kind      Kind
	Seq       uint64
	Deadline  int64
	Fires     uint32 // how often the guard has fired; in a Feed, as far as the agent knows
	Data      string // PostgreSQL's data directory, without symbolic links
	Cgroup    string // directory of its control group (version 2), or ""
	Addresses []Address
}

// Now reads CLOCK_BOOTTIME, in nanoseconds.
func Now() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // cannot fail: the clock exists since Linux 2.6.39
	return t.Nano()
}

// Append appends the packet to b.
func (m *Message) Append(b []byte) []byte {
	b = append(b, version, byte(m.Kind))
	b = binary.BigEndian.AppendUint64(b, m.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Deadline))
	b = binary.BigEndian.AppendUint32(b, m.Fires)
	b = appendBytes(b, m.Data)
	b = appendBytes(b, m.Cgroup)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Addresses)))
	for _, a := range m.Addresses {
		b = binary.BigEndian.AppendUint32(b, uint32(a.Index))
		b = append(b, a.Bits)
		b = appendBytes(b, string(a.IP))
	}
	return b
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// Parse reads a packet.
func Parse(b []byte) (Message, error) {
	r := reader{b: b}
	if r.uint(1) != version {
		return Message{}, errors.New("message of another version")
	}
	m := Message{Kind: Kind(r.uint(1)), Seq: r.uint(8), Deadline: int64(r.uint(8)), Fires: uint32(r.uint(4)),
		Data: string(r.bytes()), Cgroup: string(r.bytes())}
	for n := r.uint(2); n > 0 && !r.short; n-- {
		m.Addresses = append(m.Addresses, Address{int32(r.uint(4)), uint8(r.uint(1)), append([]byte(nil), r.bytes()...)})
	}
	if r.short {
		return Message{}, errors.New("message is cut short")
	}
	return m, nil
}

// reader takes a packet apart; short is set once something was missing.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) uint(n int) (v uint64) {
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *reader) bytes() []byte { return r.take(int(r.uint(2))) }
