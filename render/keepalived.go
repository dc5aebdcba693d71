package render

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"standfast/cluster"
	"standfast/config"
)

// check is one question that Keepalived asks the member beside it.
type check struct {
	Name, Why, Host, Port, Path string
	Weight                      int // 0: without success the instance holds nothing
}

// instance is a group of addresses that move together.
type instance struct {
	Name, Why, Interface, Source string
	ID, Priority                 int
	Stays                        bool // where it is, as long as it may
	Peers                        []string
	Addresses, Excluded          []string // of the members' own family, and of the other
	Track                        []string
}

// Keepalived writes keepalived.conf for the named member's host. Its interfaces are those that the addresses belong to there.
func Keepalived(s Site, self string, interfaces map[string]string) ([]byte, error) {
	me, err := s.member(self)
	if err != nil {
		return nil, err
	}
	switch {
	case len(s.VIP) == 0:
		return nil, errors.New("there is no floating address that Keepalived could hold; write one under vip")
	case me.Kind == cluster.Witness:
		return nil, fmt.Errorf("%s is a witness: no floating address follows it", self)
	}
	v := struct {
		Cluster, Mark, Self string
		Checks              []check
		Instances           []instance
	}{Cluster: s.Cluster, Mark: Mark, Self: self}
	host, port := split(me.API)
	for _, f := range []config.Follows{config.FollowsPrimary, config.FollowsStandby} {
		in, err := s.instance(f, me, interfaces)
		if err != nil {
			return nil, err
		}
		if in == nil {
			continue
		}
		checks := follows[f]
		for _, c := range checks {
			c.Host, c.Port = host, port
			v.Checks = append(v.Checks, c)
			in.Track = append(in.Track, c.Name)
		}
		v.Instances = append(v.Instances, *in)
	}
	return fill(keepalivedTemplate, v)
}

// follows are the checks by which an address finds its host. All but one host fail the first of the primary's, so the address has no choice.
// The readers' may be on any host with data, and is drawn to a standby by more than priorities differ.
var follows = map[config.Follows][]check{
	config.FollowsPrimary: {{Name: "is_primary", Why: "Only the primary answers this with 200, so the address can be nowhere else.", Path: "/primary"}},
	config.FollowsStandby: {
		{Name: "can_read", Why: "The primary and standbys that serve reads answer this with 200.", Path: "/read-only"},
		{Name: "is_standby", Why: "A standby that serves reads has the address rather than the primary.", Path: "/replica", Weight: 100},
	},
}

// instance puts the addresses that follow the same into one; nil: there are none.
func (s Site) instance(f config.Follows, me cluster.Member, interfaces map[string]string) (*instance, error) {
	in := &instance{Name: "standfast_" + string(f), Stays: f == config.FollowsPrimary, Priority: s.rank(me.Name)}
	in.Why = "What leads to the " + string(f) + "."
	in.Source, _ = split(me.API)
	for _, m := range s.data() {
		host, _ := split(m.API)
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil, fmt.Errorf("the address of %s is the name %s, and Keepalived wants a number; write it as a number under members", m.Name, host)
		}
		if m.Name != me.Name && ip.Is6() == six(in.Source) {
			in.Peers = append(in.Peers, host)
		}
	}
	var first netip.Addr
	for _, a := range s.VIP {
		if follow := cmp.Or(a.Follows, config.FollowsPrimary); follow != f {
			continue
		}
		dev := cmp.Or(a.Interface, interfaces[a.Address])
		if dev == "" {
			return nil, fmt.Errorf("the interface of %s on %s is not known here; name it under vip (interface: eth0), or with --interface", a.Address, me.Name)
		}
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			return nil, fmt.Errorf("floating address: %w", err)
		}
		line := fmt.Sprintf("%s/%d dev %s", a.Address, cmp.Or(a.Prefix, ip.BitLen()), dev)
		if ip.Is6() != six(in.Source) {
			in.Excluded = append(in.Excluded, line)
			continue
		}
		in.Addresses = append(in.Addresses, line)
		if !first.IsValid() {
			first, in.Interface = ip, dev
		}
	}
	switch {
	case len(in.Addresses) == 0 && len(in.Excluded) == 0:
		return nil, nil
	case len(in.Addresses) == 0:
		return nil, fmt.Errorf("the members and the address that follows the %s are not of one family, and Keepalived needs one that is; give it an address of the members' own beside it, or leave address: builtin", f)
	}
	in.ID = s.routerID(f, first)
	return in, nil
}

// rank is the member's priority among those with data: no two are equal, and all are far below what a weight adds.
func (s Site) rank(name string) int {
	list := s.data()
	slices.SortStableFunc(list, func(a, b cluster.Member) int { return cmp.Compare(b.Priority, a.Priority) })
	return 100 - slices.IndexFunc(list, func(m cluster.Member) bool { return m.Name == name })
}

// routerID numbers an instance by its first address, as it should be the only one of that number in its network (RFC 5798, section 5.2.3).
// The readers' has another than the writers'.
func (s Site) routerID(f config.Follows, ip netip.Addr) int {
	b := ip.AsSlice()
	id := max(int(b[len(b)-1]), 1)
	if f == config.FollowsPrimary {
		return id
	}
	for _, a := range s.VIP {
		other, err := netip.ParseAddr(a.Address)
		if err == nil && cmp.Or(a.Follows, config.FollowsPrimary) == config.FollowsPrimary && other.Is6() == ip.Is6() {
			if taken := s.routerID(config.FollowsPrimary, other); taken == id {
				return id%255 + 1
			}
			break
		}
	}
	return id
}
