package beat

import (
	"bytes"
	"crypto/hmac"
	"fmt"
)

// An aside is a datagram beside the beats:
//
//	"SFA" version(1)  length of the sender's name, 8 bit
//	sender's name
//	body
//	HMAC-SHA256       over all before it
//
// Members of a release that knows none count it as forged, and go on.
const (
	asideMagic = "SFA\x01"

	// MaxAside is the longest body of an aside, in bytes: with it, a name of 63 and all else, a datagram is within 1200.
	MaxAside = maxPacket - len(asideMagic) - 1 - 63 - macSize
)

// Tell sends every peer something that beats have no room for, once. It may get lost, come twice, late, or be played back by
// whoever can record it: nothing that matters may hang on it. Config.Told takes it in. The error is about the body alone.
func (b *Beats) Tell(body []byte) error {
	if len(body) > MaxAside || len(b.cfg.Self) > 63 {
		return fmt.Errorf("beat: an aside of %d bytes by %s, at most %d are sent, and names of 63", len(body), b.cfg.Self, MaxAside)
	}
	datagram := append([]byte(asideMagic), byte(len(b.cfg.Self)))
	datagram = append(append(datagram, b.cfg.Self...), body...)
	datagram = append(datagram, newSealer(b.cfg.Key).of(datagram)...)
	for _, addr := range b.others() {
		if to, ok := b.names.lookup(addr); ok {
			_, _ = b.conn.WriteToUDPAddrPort(datagram, to) // what keeps it from being sent keeps beats too, and is told of them
		}
	}
	return nil
}

// isAside reports whether a datagram claims to be one.
func isAside(datagram []byte) bool { return bytes.HasPrefix(datagram, []byte(asideMagic)) }

// hearAside takes in an aside.
func (b *Beats) hearAside(seal *sealer, datagram []byte) {
	from, body, err := seal.openAside(datagram)
	switch _, ok := b.cfg.Peers()[from]; {
	case err != nil:
		b.stats.forged.Add(1)
	case !ok || from == b.cfg.Self:
		b.stats.foreign.Add(1)
	case b.cfg.Told != nil:
		b.cfg.Told(from, body)
	}
}

// openAside checks and decodes an aside. The body is the datagram's memory.
func (s *sealer) openAside(b []byte) (from string, body []byte, err error) {
	if len(b) < len(asideMagic)+1+macSize {
		return "", nil, errForged
	}
	signed, sum := b[:len(b)-macSize], b[len(b)-macSize:]
	rest := signed[len(asideMagic)+1:]
	n := int(signed[len(asideMagic)])
	if !hmac.Equal(sum, s.of(signed)) || n > len(rest) {
		return "", nil, errForged
	}
	return string(rest[:n]), rest[n:], nil
}
