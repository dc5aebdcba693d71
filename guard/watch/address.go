package watch

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"standfast/guard/feed"
)

// RemoveAddress removes an address from its interface, over rtnetlink(7). One that is not there is no error.
func RemoveAddress(a feed.Address) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, deleteAddress(a), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	// The kernel has done it, and queued its answer, when sendto returns.
	var buf [4096]byte
	n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return unix.EBADMSG
	}
	switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:]))); errno {
	case 0, unix.EADDRNOTAVAIL:
		return nil
	default:
		return errno
	}
}

// deleteAddress is an RTM_DELADDR request that is to be acknowledged.
func deleteAddress(a feed.Address) []byte {
	family := uint8(unix.AF_INET)
	if len(a.IP) == 16 {
		family = unix.AF_INET6
	}
	size := unix.SizeofNlMsghdr + unix.SizeofIfAddrmsg + unix.SizeofRtAttr + len(a.IP)
	b := make([]byte, size)
	*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{
		Len: uint32(size), Type: unix.RTM_DELADDR, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Seq: 1}
	*(*unix.IfAddrmsg)(unsafe.Pointer(&b[unix.SizeofNlMsghdr])) = unix.IfAddrmsg{
		Family: family, Prefixlen: a.Bits, Index: uint32(a.Index)}
	attr := b[unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg:]
	*(*unix.RtAttr)(unsafe.Pointer(&attr[0])) = unix.RtAttr{Len: uint16(unix.SizeofRtAttr + len(a.IP)), Type: unix.IFA_LOCAL}
	copy(attr[unix.SizeofRtAttr:], a.IP)
	return b
}
