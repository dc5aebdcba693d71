package vip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
)

// TakenError says that somebody answers for an address that was to be used.
type TakenError struct {
	IP  netip.Addr
	MAC net.HardwareAddr
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s answers already, from MAC %s; stop the host that uses it, or choose another address under vip", e.IP, e.MAC)
}

// Three questions, 200 ms in all: RFC 5227 takes seven seconds, because it has slow networks in mind, and a host that is
// there answers within one.
const (
	probes    = 3
	probeGap  = 60 * time.Millisecond
	probeTime = 200 * time.Millisecond
)

// Check asks on the address's network whether anybody uses it (RFC 5227, section 2.1.1; RFC 4861, section 7.2.2). It
// returns nil when nobody has answered within 200 ms, a *TakenError when somebody has, and ErrNoInterface, wrapped, when
// the address belongs to no network of this host. On an interface without neighbours there is nobody to ask.
func Check(ctx context.Context, a Address) error {
	p, err := a.Find()
	if err != nil || p.Silent {
		return err
	}
	return check(ctx, p, nil)
}

// check asks. Who answers from the hardware address of a member is let pass: it is the cluster's own use, about to end.
func check(ctx context.Context, p Place, members []netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	ask := askARP
	if p.Prefix.Addr().Is6() {
		ask = askNDP
	}
	mac, err := ask(ctx, p.device(), p.Prefix.Addr())
	if err != nil {
		return fmt.Errorf("ask for %s on %s: %w", p.Prefix.Addr(), p.Interface, err)
	}
	if mac == nil || neighbours(p.Index, members)[mac.String()] {
		return nil
	}
	return &TakenError{IP: p.Prefix.Addr(), MAC: mac}
}

// askARP returns the hardware address that answers for ip before ctx ends, nil if none does.
func askARP(ctx context.Context, ifi *net.Interface, ip netip.Addr) (net.HardwareAddr, error) {
	c, err := dialARP(ifi)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	return question(ctx, c.conn.SetReadDeadline,
		func() error {
			return c.send(arp.OperationRequest, netip.IPv4Unspecified(), net.HardwareAddr{0, 0, 0, 0, 0, 0}, ip)
		},
		func() (mac net.HardwareAddr) {
			c.read(func(p *arp.Packet) bool {
				if p.SenderIP == ip && p.SenderHardwareAddr.String() != ifi.HardwareAddr.String() {
					mac = p.SenderHardwareAddr
				}
				return mac == nil
			})
			return mac
		})
}

// askNDP is askARP for IPv6.
func askNDP(ctx context.Context, ifi *net.Interface, ip netip.Addr) (net.HardwareAddr, error) {
	c, err := dialNDP(ifi)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	group, err := ndp.SolicitedNodeMulticast(ip)
	if err != nil {
		return nil, err
	}
	return question(ctx, c.SetReadDeadline,
		func() error {
			return c.WriteTo(&ndp.NeighborSolicitation{TargetAddress: ip,
				Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr}}}, nil, group)
		},
		func() (mac net.HardwareAddr) {
			readNA(c, func(na *ndp.NeighborAdvertisement) bool {
				if m := macOf(na); na.TargetAddress == ip && m != nil && m.String() != ifi.HardwareAddr.String() {
					mac = m
				}
				return mac == nil
			})
			return mac
		})
}

// question sends a few times and listens between, until an answer has come or ctx ends.
func question(ctx context.Context, deadline func(time.Time) error, send func() error, listen func() net.HardwareAddr) (net.HardwareAddr, error) {
	end, _ := ctx.Deadline()
	for i := range probes {
		if err := send(); err != nil {
			return nil, err
		}
		until := time.Now().Add(probeGap)
		if i == probes-1 || until.After(end) {
			until = end
		}
		if err := deadline(until); err != nil {
			return nil, err
		}
		if mac := listen(); mac != nil {
			return mac, nil
		}
		if err := ctx.Err(); err != nil {
			break
		}
	}
	return nil, nil
}
