package vip

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// labelSuffix marks an IPv4 address as ours in what "ip address" shows: eth0:sf.
const labelSuffix = ":sf"

// kernel changes the addresses of this host, over rtnetlink(7).
type kernel struct{ h *netlink.Handle }

func openKernel() (kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return kernel{}, fmt.Errorf("open rtnetlink: %w", err)
	}
	if err := h.SetSocketTimeout(time.Second); err != nil {
		h.Close()
		return kernel{}, fmt.Errorf("open rtnetlink: %w", err)
	}
	return kernel{h}, nil
}

func (k kernel) close() { k.h.Close() }

// add puts the address onto its interface. One that is there already is made as it should be.
func (k kernel) add(p Place) error { return k.addFor(p, forEver) }

// forEver is a lifetime without end (RFC 4862, section 5.5.3).
const forEver = math.MaxUint32 * time.Second

// addFor is add, and the kernel takes the address off when the time is over.
func (k kernel) addFor(p Place, valid time.Duration) error {
	a := &netlink.Addr{
		IPNet:     &net.IPNet{IP: p.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(p.Prefix.Bits(), p.Prefix.Addr().BitLen())},
		Flags:     unix.IFA_F_NOPREFIXROUTE,
		ValidLft:  int(valid / time.Second), // and with a preferred lifetime of 0 it is deprecated from the beginning
		LinkIndex: p.Index,
	}
	if p.Prefix.Addr().Is4() {
		if l := p.Interface + labelSuffix; len(l) < unix.IFNAMSIZ {
			a.Label = l
		}
	} else {
		a.Flags |= unix.IFA_F_NODAD
	}
	if err := k.h.AddrReplace(nil, a); err != nil { // nil: the interface is a's

		return fmt.Errorf("add %s to %s: %w%s", p.Prefix.Addr(), p.Interface, err, remedy(err))
	}
	return nil
}

// remedy says what to do about an error of the kernel's.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return " (the member needs CAP_NET_ADMIN and CAP_NET_RAW; see AmbientCapabilities in its systemd unit)"
	case errors.Is(err, unix.EACCES):
		return " (IPv6 is disabled on this interface: sysctl net.ipv6.conf.all.disable_ipv6)"
	}
	return ""
}

// remove takes every address that is meant off whatever interface it is on: somebody may have put it onto another one
// or with another prefix length. It returns how many there were.
func (k kernel) remove(meant func(ip netip.Addr, label string) bool) (int, error) {
	addrs, err := k.h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	n := 0
	var errs []error
	for _, a := range addrs {
		p, ok := prefixOf(a.IPNet)
		if !ok || !meant(p.Addr(), a.Label) {
			continue
		}
		switch err := k.h.AddrDel(nil, &a); {
		case err == nil:
			n++
		case !errors.Is(err, unix.EADDRNOTAVAIL): // gone meanwhile is as good
			errs = append(errs, fmt.Errorf("remove %s: %w%s", p, err, remedy(err)))
		}
	}
	return n, errors.Join(errs...)
}

// has reports whether the address is on its interface, with the prefix length that we gave it, and whether the interface
// has a carrier.
func (k kernel) has(p Place) (there, running bool, err error) {
	addrs, err := k.h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false, false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if q, ok := prefixOf(a.IPNet); ok && q == p.Prefix && a.LinkIndex == p.Index {
			there = true
		}
	}
	link, err := k.h.LinkByIndex(p.Index)
	if err != nil {
		return false, false, nil // with the interface the address went too
	}
	return there, link.Attrs().RawFlags&unix.IFF_RUNNING != 0, nil
}

// lacks is an error if the address is on any interface, with any length of prefix.
func (k kernel) lacks(ip netip.Addr) error {
	addrs, err := k.h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && p.Addr() == ip {
			return fmt.Errorf("%s is on this host already", p)
		}
	}
	return nil
}

// neighbours returns who is known to answer for the given addresses on an interface.
func neighbours(index int, of []netip.Addr) map[string]bool {
	known, err := netlink.NeighList(index, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	out := map[string]bool{}
	for _, n := range known {
		ip, _ := netip.AddrFromSlice(n.IP)
		for _, want := range of {
			if ip.Unmap() == want && len(n.HardwareAddr) > 0 {
				out[n.HardwareAddr.String()] = true
			}
		}
	}
	return out
}

// watch tells of every change of addresses and interfaces until stop is called, which waits for what it started. The
// channel is closed when the kernel has dropped messages: then everything has to be looked at anew.
func watch() (<-chan struct{}, func(), error) {
	addrs, links, done := make(chan netlink.AddrUpdate, 16), make(chan netlink.LinkUpdate, 16), make(chan struct{})
	if err := netlink.AddrSubscribe(addrs, done); err != nil {
		return nil, nil, fmt.Errorf("watch addresses: %w", err)
	}
	if err := netlink.LinkSubscribe(links, done); err != nil {
		close(done)
		for range addrs { // until its goroutine has ended
		}
		return nil, nil, fmt.Errorf("watch interfaces: %w", err)
	}
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(changed)
		for a, l := addrs, links; a != nil && l != nil; {
			var ok bool
			select {
			case _, ok = <-a:
			case _, ok = <-l:
			}
			if !ok {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, func() {
		close(done)
		<-ended
		for range addrs {
		}
		for range links {
		}
	}, nil
}
