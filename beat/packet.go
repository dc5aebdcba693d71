package beat

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"standfast/cluster"
)

// A datagram is:
//
//	"SFB" version(1)  length of the header, 16 bit
//	header            incarnation, sequence number, sender's clock; echoed incarnation, echoed clock, how long ago that was heard:
//	                  64 bit each; the last one is not there in datagrams of older releases
//	body              the beat as JSON
//	HMAC-SHA256       over all before it
//
// Numbers are big-endian; a clock reads nanoseconds since its incarnation began. A later release may lengthen the header
// and add keys to the body: an older one skips what it does not know, so both work side by side during an upgrade. The
// version changes only when that is not enough.
const (
	magic      = "SFB\x01"
	prefixSize = len(magic) + 2
	headerSize = 6 * 8
	leastSize  = 5 * 8 // of a header
	macSize    = sha256.Size

	maxPacket = 1200 // bytes; fits every path's MTU, IPv6 and a tunnel included
)

var errForged = errors.New("not a datagram of this cluster")

// echo is what a sender last heard of the receiver: its incarnation, the reading of its clock then, and for how long the sender
// has kept it since. That last figure only measures round trips; nothing is believed by it. Negative: not known.
type echo struct {
	incarnation uint64
	clock       time.Duration
	kept        time.Duration
}

// packet is a datagram's content.
type packet struct {
	beat  cluster.Beat // with From, Incarnation and Seq
	clock time.Duration
	echo  echo
}

// sealer authenticates. It is not safe for concurrent use: it keeps its hash, so that sending does not allocate.
type sealer struct {
	mac hash.Hash
	sum [macSize]byte
}

func newSealer(key []byte) *sealer { return &sealer{mac: hmac.New(sha256.New, key)} }

func (s *sealer) of(b []byte) []byte {
	s.mac.Reset()
	s.mac.Write(b)
	return s.mac.Sum(s.sum[:0])
}

// seal appends to buf the datagram of p, whose beat has been encoded as body.
func (s *sealer) seal(buf []byte, p packet, body []byte) []byte {
	begin := len(buf)
	buf = append(buf, magic...)
	buf = binary.BigEndian.AppendUint16(buf, headerSize)
	for _, v := range []uint64{p.beat.Incarnation, p.beat.Seq, uint64(p.clock), p.echo.incarnation, uint64(p.echo.clock), uint64(p.echo.kept)} {
		buf = binary.BigEndian.AppendUint64(buf, v)
	}
	buf = append(buf, body...)
	return append(buf, s.of(buf[begin:])...)
}

// open checks and decodes a datagram.
func (s *sealer) open(b []byte) (packet, error) {
	if len(b) < prefixSize+leastSize+macSize || !bytes.HasPrefix(b, []byte(magic)) {
		return packet{}, errForged
	}
	signed, sum := b[:len(b)-macSize], b[len(b)-macSize:]
	if !hmac.Equal(sum, s.of(signed)) {
		return packet{}, errForged
	}
	header := signed[prefixSize:]
	n := int(binary.BigEndian.Uint16(signed[len(magic):]))
	if n < leastSize || n > len(header) {
		return packet{}, fmt.Errorf("header of %d bytes", n)
	}
	u := func(i int) uint64 { return binary.BigEndian.Uint64(header[8*i:]) }
	var body wire
	if err := json.Unmarshal(header[n:], &body); err != nil {
		return packet{}, fmt.Errorf("decode the beat: %w", err)
	}
	p := packet{beat: body.beat(), clock: time.Duration(u(2)), echo: echo{u(3), time.Duration(u(4)), -1}}
	if n >= headerSize {
		p.echo.kept = time.Duration(u(5))
	}
	p.beat.Incarnation, p.beat.Seq = u(0), u(1)
	return p, nil
}

// wire is a beat's JSON form: short keys, and nothing for what is zero.
type wire struct {
	From           string           `json:"f"`
	Epoch          cluster.Epoch    `json:"e,omitempty"`
	Term           cluster.Term     `json:"t,omitempty"`
	Promised       cluster.Term     `json:"p,omitempty"`
	Admitted       cluster.Term     `json:"a,omitempty"`
	Attached       cluster.Term     `json:"at,omitempty"`
	Timeline       cluster.Timeline `json:"tl,omitempty"`
	LSN            uint64           `json:"l,omitempty"`
	Replayed       uint64           `json:"r,omitempty"`
	Data           string           `json:"d,omitempty"`
	Up             bool             `json:"u,omitempty"`
	Recovery       bool             `json:"rc,omitempty"`
	Readable       bool             `json:"rd,omitempty"`
	Suspects       []string         `json:"s,omitempty"`
	Hears          []string         `json:"h,omitempty"`
	NeedsOut       bool             `json:"no,omitempty"`
	Draining       bool             `json:"dr,omitempty"`
	PendingRestart bool             `json:"pr,omitempty"`
	Holding        bool             `json:"ho,omitempty"`
	Addresses      []string         `json:"ad,omitempty"`
	Sessions       int32            `json:"ss,omitempty"`
	StallMS        uint32           `json:"st,omitempty"`
	Asked          string           `json:"rq,omitempty"`
	Wall           int64            `json:"w,omitempty"`
	Note           string           `json:"n,omitempty"`
}

func (w wire) beat() cluster.Beat {
	return cluster.Beat{From: w.From, Epoch: w.Epoch, Term: w.Term, Promised: w.Promised, Admitted: w.Admitted, Attached: w.Attached,
		Position: cluster.Position{Timeline: w.Timeline, LSN: cluster.LSN(w.LSN)}, Replayed: cluster.LSN(w.Replayed),
		Data: cluster.DataState(w.Data), Up: w.Up, Recovery: w.Recovery, Readable: w.Readable, Suspects: w.Suspects, Hears: w.Hears,
		NeedsOut: w.NeedsOut, Draining: w.Draining, PendingRestart: w.PendingRestart, Holding: w.Holding, Addresses: w.Addresses,
		Sessions: w.Sessions, StallMS: w.StallMS, Asked: w.Asked, Wall: w.Wall, Note: w.Note}
}

// encode returns the beat's JSON. The note, which only people read, is cut so that the datagram stays within maxPacket.
func encode(b cluster.Beat) ([]byte, error) {
	w := wire{From: b.From, Epoch: b.Epoch, Term: b.Term, Promised: b.Promised, Admitted: b.Admitted, Attached: b.Attached,
		Timeline: b.Position.Timeline, LSN: uint64(b.Position.LSN), Replayed: uint64(b.Replayed),
		Data: string(b.Data), Up: b.Up, Recovery: b.Recovery, Readable: b.Readable, Suspects: b.Suspects, Hears: b.Hears,
		NeedsOut: b.NeedsOut, Draining: b.Draining, PendingRestart: b.PendingRestart, Holding: b.Holding, Addresses: b.Addresses,
		Sessions: b.Sessions, StallMS: b.StallMS, Asked: b.Asked, Wall: b.Wall, Note: b.Note}
	body, err := json.Marshal(w)
	for err == nil && w.Note != "" && prefixSize+headerSize+len(body)+macSize > maxPacket {
		w.Note = string(bytes.ToValidUTF8([]byte(w.Note[:len(w.Note)/2]), nil))
		body, err = json.Marshal(w)
	}
	return body, err
}
