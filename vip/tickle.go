package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flow is one TCP connection through a floating address.
type Flow struct {
	Local  netip.AddrPort // the floating address
	Remote netip.AddrPort // the client
}

// Tickle makes clients of the address's last holder notice at once that their connections are gone. A client that waits
// for an answer sends nothing until its retransmission timer fires, for seconds perhaps; only then would it learn from
// this host, which knows no such connection, that it is over. So it is sent an acknowledgement of nothing: an
// unacceptable segment, which it has to answer (RFC 9293, section 3.10.7.4, first step), and this host's kernel answers
// that with a reset that fits.
//
// Call it when this host holds the address and has announced it. A connection that lives, here or elsewhere, is not
// harmed. It needs CAP_NET_RAW. The error joins what went wrong with single flows; the others were sent.
func Tickle(flows []Flow) error {
	sockets := map[netip.Addr]int{}
	defer func() {
		for _, fd := range sockets {
			unix.Close(fd)
		}
	}()
	var errs []error
	for _, f := range flows {
		fd, ok := sockets[f.Local.Addr()]
		if !ok {
			var err error
			if fd, err = rawTCP(f.Local.Addr()); err != nil {
				return errors.Join(append(errs, fmt.Errorf("tickle from %s: %w%s", f.Local.Addr(), err, remedy(err)))...)
			}
			sockets[f.Local.Addr()] = fd
		}
		if err := unix.Sendto(fd, segment(f), unix.MSG_DONTWAIT, sockaddr(netip.AddrPortFrom(f.Remote.Addr(), 0))); err != nil {
			errs = append(errs, fmt.Errorf("tickle %s: %w", f.Remote, err))
		}
	}
	return errors.Join(errs...)
}

// rawTCP opens a socket that sends TCP segments from the address as they are given.
func rawTCP(from netip.Addr) (int, error) {
	family := unix.AF_INET
	if from.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	// Nothing is read from it, and it would be handed a copy of every segment that arrives.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
	if err == nil {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0)))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16()}
}

// segment is a TCP header that acknowledges sequence number 0 at sequence number 0, without data (RFC 9293, section 3.1).
func segment(f Flow) []byte {
	const headerLen, ack, window = 20, 0x10, 1024
	b := make([]byte, headerLen)
	binary.BigEndian.PutUint16(b[0:], f.Local.Port())
	binary.BigEndian.PutUint16(b[2:], f.Remote.Port())
	b[12], b[13] = headerLen/4<<4, ack
	binary.BigEndian.PutUint16(b[14:], window)
	binary.BigEndian.PutUint16(b[16:], checksum(f.Local.Addr(), f.Remote.Addr(), b))
	return b
}

// checksum is TCP's, over the pseudo header and the segment (RFC 9293, section 3.1; RFC 8200, section 8.1).
func checksum(from, to netip.Addr, segment []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(segment))
	for _, part := range [][]byte{from.AsSlice(), to.AsSlice(), segment} {
		for i := 0; i < len(part); i += 2 { // all are of even length
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
