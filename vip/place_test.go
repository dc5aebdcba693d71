package vip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestChoose(t *testing.T) {
	host := []iface{
		{name: "lo", prefixes: prefixes("127.0.0.1/8", "::1/128")},
		{name: "eth0", prefixes: prefixes("10.0.1.11/24", "2001:db8::11/64", "fe80::1/64")},
		{name: "eth1", prefixes: prefixes("10.0.0.5/16")},
		{name: "eth2", prefixes: prefixes("192.0.2.1/24", "10.9.9.9/32")},
		{name: "eth3", prefixes: prefixes("192.0.2.2/24")},
		{name: "eth4"},
	}
	for name, c := range map[string]struct {
		a    Address
		want string // the interface, or what the error says
		none bool
	}{
		"its subnet":         {Address{IP: netip.MustParseAddr("10.0.1.50")}, "eth0", false},
		"the narrower":       {Address{IP: netip.MustParseAddr("10.0.2.50")}, "eth1", false},
		"IPv6":               {Address{IP: netip.MustParseAddr("2001:db8::50")}, "eth0", false},
		"named":              {Address{IP: netip.MustParseAddr("10.0.1.50"), Interface: "eth4"}, "eth4", false},
		"named, not there":   {Address{IP: netip.MustParseAddr("10.0.1.50"), Interface: "eth9"}, "there is no eth9; this host has lo (127.0.0.1/8 ::1/128), eth0", true},
		"none":               {Address{IP: netip.MustParseAddr("172.16.0.1")}, "this host has lo (127.0.0.1/8 ::1/128), eth0 (10.0.1.11/24", true},
		"none is told plain": {Address{IP: netip.MustParseAddr("172.16.0.1")}, "eth4 (no address); name one with interface: under vip", true},
		"two":                {Address{IP: netip.MustParseAddr("192.0.2.50")}, "eth2 (10.9.9.9/32 192.0.2.1/24), eth3 (192.0.2.2/24) are in its subnet", true},
		"itself is no proof": {Address{IP: netip.MustParseAddr("10.9.9.9")}, "no address of this host shares a subnet", true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := choose(c.a, host)
			if c.none {
				if !errors.Is(err, ErrNoInterface) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil || l.name != c.want {
				t.Errorf("%s, %v", l.name, err)
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	for want, a := range map[string]Address{
		"10.0.1.50/32":     {IP: netip.MustParseAddr("10.0.1.50")},
		"10.0.1.50/24":     {IP: netip.MustParseAddr("10.0.1.50"), Bits: 24},
		"2001:db8::50/128": {IP: netip.MustParseAddr("2001:db8::50")},
	} {
		if got := a.prefix().String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestChecksum: a segment whose checksum is right adds up to all ones (RFC 1071).
func TestChecksum(t *testing.T) {
	for _, f := range []Flow{
		{netip.MustParseAddrPort("10.0.1.50:5000"), netip.MustParseAddrPort("10.0.1.7:40123")},
		{netip.MustParseAddrPort("[2001:db8::50]:5000"), netip.MustParseAddrPort("[2001:db8::7]:65535")},
	} {
		if got := checksum(f.Local.Addr(), f.Remote.Addr(), segment(f)); got != 0 {
			t.Errorf("%v: %#x", f, got)
		}
	}
}
