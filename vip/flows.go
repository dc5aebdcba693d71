package vip

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flows lists the established TCP connections of this host's programs that clients have made to one of the addresses, at most
// that many, in an order that does not depend on the kernel's. It is for the address's next holder (Tickle). Connections that
// the kernel redirects elsewhere, as the fast path does, are not among them: their socket has another address.
func Flows(to []netip.Addr, most int) ([]Flow, error) {
	var out []Flow
	// A listener for all addresses of both versions has the IPv4 ones, too, among those of IPv6.
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, netlink.ErrDumpInterrupted) { // no IPv6; some may be missing
			return nil, fmt.Errorf("list the connections to floating addresses: sock_diag(7): %w", err)
		}
		for _, s := range sockets {
			f := Flow{addrPort(s.ID.Source, s.ID.SourcePort), addrPort(s.ID.Destination, s.ID.DestinationPort)}
			if s.State == netlink.TCP_ESTABLISHED && slices.Contains(to, f.Local.Addr()) && f.Remote.Addr() != f.Local.Addr() {
				out = append(out, f)
			}
		}
	}
	slices.SortFunc(out, func(a, b Flow) int { return cmp.Or(a.Remote.Compare(b.Remote), a.Local.Compare(b.Local)) })
	out = slices.Compact(out)
	return out[:min(len(out), most)], nil
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip) // the kernel's are of either length
	return netip.AddrPortFrom(a.Unmap(), port)
}
