package vip

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv6"
)

// wire is how the neighbours on one interface are told of one address, and heard.
type wire interface {
	announce() error
	close() // waits for what it has started
}

// openWire begins to listen for others that announce the address. clash is called from a goroutine of the wire's own.
func openWire(p Place, clash func(Conflict)) (wire, error) {
	if p.Prefix.Addr().Is4() {
		return openARP(p.device(), p.Prefix.Addr(), clash)
	}
	return openNDP(p.device(), p.Prefix.Addr(), clash)
}

// arpWire speaks ARP for an IPv4 address.
type arpWire struct {
	arpConn
	ip     netip.Addr
	reader sync.WaitGroup
}

func openARP(ifi *net.Interface, ip netip.Addr, clash func(Conflict)) (wire, error) {
	c, err := dialARP(ifi)
	if err != nil {
		return nil, err
	}
	w := &arpWire{arpConn: c, ip: ip}
	w.reader.Go(func() {
		w.read(func(p *arp.Packet) bool {
			if p.SenderIP == ip && p.SenderHardwareAddr.String() != ifi.HardwareAddr.String() {
				clash(Conflict{IP: ip, MAC: p.SenderHardwareAddr, At: time.Now()})
			}
			return true
		})
	})
	return w, nil
}

// announce sends a gratuitous request, the form of RFC 5227, and a gratuitous reply, which some devices want instead.
func (w *arpWire) announce() error {
	if err := w.send(arp.OperationRequest, w.ip, net.HardwareAddr{0, 0, 0, 0, 0, 0}, w.ip); err != nil {
		return err
	}
	return w.send(arp.OperationReply, w.ip, w.ifi.HardwareAddr, w.ip)
}

func (w *arpWire) close() {
	w.conn.Close()
	w.reader.Wait()
}

// arpConn sends and receives ARP packets on an interface. (arp.Client needs the interface to have an IPv4 address.)
type arpConn struct {
	ifi  *net.Interface
	conn *packet.Conn
}

const etherTypeARP = int(ethernet.EtherTypeARP)

func dialARP(ifi *net.Interface) (arpConn, error) {
	c, err := packet.Listen(ifi, packet.Raw, etherTypeARP, nil)
	if err != nil {
		return arpConn{}, fmt.Errorf("open a packet socket on %s: %w%s", ifi.Name, err, remedy(err))
	}
	return arpConn{ifi, c}, nil
}

// send broadcasts a packet from this interface. sender may be 0.0.0.0, for a probe.
func (c arpConn) send(op arp.Operation, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) error {
	p, err := arp.NewPacket(op, c.ifi.HardwareAddr, sender, targetMAC, target)
	if err != nil {
		return err
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	frame := ethernet.Frame{Destination: ethernet.Broadcast, Source: c.ifi.HardwareAddr, EtherType: ethernet.EtherTypeARP, Payload: payload}
	raw, err := frame.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = c.conn.WriteTo(raw, &packet.Addr{HardwareAddr: ethernet.Broadcast})
	return err
}

// read hands every packet to take until that returns false or the connection ends, by its deadline or closed.
func (c arpConn) read(take func(*arp.Packet) bool) {
	buf := make([]byte, 256)
	for {
		n, _, err := c.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var f ethernet.Frame
		var p arp.Packet
		if f.UnmarshalBinary(buf[:n]) != nil || f.EtherType != ethernet.EtherTypeARP || p.UnmarshalBinary(f.Payload) != nil {
			continue // not for us to judge
		}
		if !take(&p) {
			return
		}
	}
}

// ndpWire speaks neighbour discovery for an IPv6 address.
type ndpWire struct {
	ifi    *net.Interface
	ip     netip.Addr
	conn   *ndp.Conn
	reader sync.WaitGroup
}

func openNDP(ifi *net.Interface, ip netip.Addr, clash func(Conflict)) (wire, error) {
	c, err := dialNDP(ifi)
	if err != nil {
		return nil, err
	}
	w := &ndpWire{ifi: ifi, ip: ip, conn: c}
	w.reader.Go(func() {
		readNA(c, func(na *ndp.NeighborAdvertisement) bool {
			if mac := macOf(na); na.TargetAddress == ip && mac != nil && mac.String() != ifi.HardwareAddr.String() {
				clash(Conflict{IP: ip, MAC: mac, At: time.Now()})
			}
			return true
		})
	})
	return w, nil
}

// dialNDP speaks from the interface's link-local address, which every IPv6 interface has (RFC 4291, section 2.8).
func dialNDP(ifi *net.Interface) (*ndp.Conn, error) {
	c, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, fmt.Errorf("open a socket for neighbour discovery on %s: %w%s", ifi.Name, err, remedy(err))
	}
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeNeighborAdvertisement)
	if err := c.SetICMPFilter(&only); err != nil {
		c.Close()
		return nil, fmt.Errorf("filter neighbour discovery on %s: %w", ifi.Name, err)
	}
	return c, nil
}

// announce tells all nodes that the address is here and replaces what they know (Override).
func (w *ndpWire) announce() error {
	return w.conn.WriteTo(&ndp.NeighborAdvertisement{
		Override: true, TargetAddress: w.ip,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: w.ifi.HardwareAddr}},
	}, nil, netip.IPv6LinkLocalAllNodes())
}

func (w *ndpWire) close() {
	w.conn.Close()
	w.reader.Wait()
}

// readNA hands every neighbour advertisement to take until that returns false or the connection ends.
func readNA(c *ndp.Conn, take func(*ndp.NeighborAdvertisement) bool) {
	for {
		m, _, _, err := c.ReadFrom()
		if err != nil {
			return
		}
		if na, ok := m.(*ndp.NeighborAdvertisement); ok && !take(na) {
			return
		}
	}
}

// macOf is the hardware address that an advertisement names, nil if it names none.
func macOf(na *ndp.NeighborAdvertisement) net.HardwareAddr {
	for _, o := range na.Options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == ndp.Target {
			return l.Addr
		}
	}
	return nil
}
