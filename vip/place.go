package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address is one floating address as the site configured it.
type Address struct {
	IP        netip.Addr
	Interface string // "": the one that has another address of the same subnet
	Bits      int    // length of the prefix; 0: a single host's, 32 or 128
}

func (a Address) String() string { return a.IP.String() }

// prefix is the address with the length that it gets on the interface.
func (a Address) prefix() netip.Prefix {
	if a.Bits > 0 {
		return netip.PrefixFrom(a.IP, a.Bits)
	}
	return netip.PrefixFrom(a.IP, a.IP.BitLen())
}

// Place is where on this host an address belongs.
type Place struct {
	Interface string
	Index     int
	Prefix    netip.Prefix
	MAC       net.HardwareAddr
	MTU       int  // of the interface, in bytes
	Silent    bool // the interface has no neighbours to tell
}

// device is the interface in the form that packet sockets want it.
func (p Place) device() *net.Interface {
	return &net.Interface{Index: p.Index, Name: p.Interface, HardwareAddr: p.MAC, MTU: p.MTU}
}

// ErrNoInterface says that no interface of this host fits an address.
var ErrNoInterface = errors.New("no interface fits")

// Find says where on this host the address belongs. The error, which wraps ErrNoInterface, lists what there is.
func (a Address) Find() (Place, error) {
	links, err := interfaces()
	if err != nil {
		return Place{}, fmt.Errorf("find the interface of %s: %w", a.IP, err)
	}
	l, err := choose(a, links)
	if err != nil {
		return Place{}, fmt.Errorf("find the interface of %s: %w", a.IP, err)
	}
	return Place{Interface: l.name, Index: l.index, Prefix: a.prefix(), MAC: l.mac, MTU: l.mtu, Silent: l.silent}, nil
}

// iface is an interface with the host's addresses on it.
type iface struct {
	name     string
	index    int
	mac      net.HardwareAddr
	mtu      int
	silent   bool
	prefixes []netip.Prefix
}

// interfaces lists what this host has.
func interfaces() ([]iface, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := make([]iface, 0, len(links))
	for _, l := range links {
		at := l.Attrs()
		i := iface{name: at.Name, index: at.Index, mac: at.HardwareAddr, mtu: at.MTU,
			silent: at.RawFlags&(unix.IFF_NOARP|unix.IFF_LOOPBACK) != 0 || len(at.HardwareAddr) != 6}
		for _, x := range addrs {
			if p, ok := prefixOf(x.IPNet); ok && x.LinkIndex == at.Index {
				i.prefixes = append(i.prefixes, p)
			}
		}
		out = append(out, i)
	}
	return out, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits), ok
}

// choose takes the named interface, or the one whose subnet the address lies in; of several the narrowest subnet.
func choose(a Address, links []iface) (iface, error) {
	if a.Interface != "" {
		for _, l := range links {
			if l.name == a.Interface {
				return l, nil
			}
		}
		return iface{}, fmt.Errorf("%w: there is no %s; this host has %s", ErrNoInterface, a.Interface, list(links))
	}
	var best []iface
	bits := 0
	for _, l := range links {
		for _, p := range l.prefixes {
			switch {
			case p.Addr() == a.IP || p.IsSingleIP() || !p.Contains(a.IP) || p.Bits() < bits:
			case p.Bits() > bits:
				best, bits = []iface{l}, p.Bits()
			case best[len(best)-1].name != l.name:
				best = append(best, l)
			}
		}
	}
	switch len(best) {
	case 0:
		return iface{}, fmt.Errorf("%w: no address of this host shares a subnet with it; this host has %s; name one with interface: under vip, or choose an address of one of these subnets", ErrNoInterface, list(links))
	case 1:
		return best[0], nil
	}
	return iface{}, fmt.Errorf("%w: %s are in its subnet; name one of them with interface: under vip", ErrNoInterface, list(best))
}

// list names interfaces with their addresses, for a person.
func list(links []iface) string {
	var out []string
	for _, l := range links {
		var on []string
		for _, p := range l.prefixes {
			on = append(on, p.String())
		}
		slices.Sort(on)
		if len(on) == 0 {
			on = []string{"no address"}
		}
		out = append(out, fmt.Sprintf("%s (%s)", l.name, strings.Join(on, " ")))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
