package gather

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"standfast/certs"
	"standfast/cluster"
	"standfast/doctor/facts"
	"standfast/ops/preflight"
	"standfast/vip"
)

// reachTime bounds one attempt to connect. A packet that is lost is sent again after a second.
const reachTime = 1500 * time.Millisecond

// reach tries every port of every other member, all at once. Nothing is sent.
func (g *Gatherer) reach(ctx context.Context) (func(*facts.Member), error) {
	var out []facts.Reach
	for _, m := range g.cfg.Members() {
		if m.Name == g.cfg.Node.Name {
			continue
		}
		for _, p := range portsOf(m) {
			out = append(out, facts.Reach{Member: m.Name, Port: p[0], Address: p[1]})
		}
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { dial(ctx, &out[i]) })
	}
	wg.Wait()
	return func(m *facts.Member) { m.Reach = out }, nil
}

// portsOf are a member's ports by the names that its file gives them. A witness has no PostgreSQL; members with an etcd of the site's
// have none of their own.
func portsOf(m cluster.Member) [][2]string {
	all := [][2]string{{"write", m.Write}, {"read", m.Read}, {"health", m.API}, {"admin", m.Admin}, {"etcd_client", m.Etcd}, {"etcd_peer", m.EtcdPeer}}
	if m.Kind == cluster.Data {
		all = append([][2]string{{"postgres", m.Postgres}}, all...)
	}
	var out [][2]string
	for _, p := range all {
		if p[1] != "" {
			out = append(out, p)
		}
	}
	return out
}

func dial(ctx context.Context, r *facts.Reach) {
	d := net.Dialer{Timeout: reachTime}
	began := time.Now()
	c, err := d.DialContext(ctx, "tcp", r.Address)
	r.Took = time.Since(began)
	if err == nil {
		_ = c.Close() // nothing was sent
		return
	}
	r.Refused = errors.Is(err, syscall.ECONNREFUSED)
	r.Error = reason(err)
}

// reason says in a few words why there is no connection.
func reason(err error) string {
	var netErr net.Error
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	case errors.As(err, &dns):
		return "the name is not known"
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "no answer"
	}
	return err.Error()
}

// Taken lists this member's own ports that another program has. It is for a member that does not run: its own agent has them otherwise.
func Taken(c Config) []facts.Port {
	n := c.Node
	p := n.Self().Ports
	var out []facts.Port
	for _, port := range []struct {
		name, network string
		number        int
	}{
		{"write", "tcp", p.Write}, {"read", "tcp", p.Read}, {"health", "tcp", p.Health}, {"admin", "tcp", p.Admin}, {"beat", "udp", p.Beat},
		{"etcd_client", "tcp", p.EtcdClient}, {"etcd_peer", "tcp", p.EtcdPeer},
	} {
		var taken *preflight.Taken
		if err := preflight.Port(port.network, n.ListenAt(port.number)); errors.As(err, &taken) {
			out = append(out, facts.Port{Name: port.name + " " + strconv.Itoa(port.number), By: taken.Error()})
		}
	}
	return out
}

// cert reads until when the member's certificate and the cluster's authority are good.
func (g *Gatherer) cert(context.Context) (func(*facts.Member), error) {
	files := certs.In(g.cfg.Node.TLSDir)
	var c facts.Cert
	leaf, err := files.Leaf()
	if err != nil {
		c.Error = err.Error()
	} else {
		c.Start, c.End = leaf.NotBefore, leaf.NotAfter
	}
	text, err := os.ReadFile(files.CA)
	if err != nil && c.Error == "" {
		c.Error = err.Error()
	}
	if block, _ := pem.Decode(text); block != nil {
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil {
			c.CAEnd = ca.NotAfter
		}
	}
	return func(m *facts.Member) { m.Cert = &c }, nil
}

// addresses looks where each floating address is, and, on the hosts where it is not, who answers for it.
func (g *Gatherer) addresses(ctx context.Context) (func(*facts.Member), error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var own []string
	at := map[netip.Addr]string{} // MACs by address
	for _, l := range links {
		if len(l.HardwareAddr) > 0 {
			own = append(own, l.HardwareAddr.String())
		}
		list, _ := l.Addrs() // the interface has just gone
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				at[p.Addr().Unmap()] = l.HardwareAddr.String()
			}
		}
	}
	var out []facts.Address
	for _, v := range g.cfg.Node.VIP {
		ip, err := netip.ParseAddr(v.Address)
		if err != nil {
			continue // the file was validated
		}
		mac, here := at[ip.Unmap()]
		a := facts.Address{Address: ip.String(), Here: here, MAC: mac, Own: own}
		var taken *vip.TakenError
		if !here && errors.As(vip.Check(ctx, vip.Address{IP: ip, Interface: v.Interface, Bits: v.Prefix}), &taken) {
			a.Answers = taken.MAC.String()
		}
		out = append(out, a)
	}
	return func(m *facts.Member) { m.Addresses = out }, nil
}

func (g *Gatherer) etcd(ctx context.Context) (func(*facts.Member), error) {
	e, err := g.cfg.Etcd(ctx)
	if err != nil {
		e = &facts.Etcd{Error: err.Error()}
	}
	return func(m *facts.Member) { m.Etcd = e }, nil
}

// file reads what of the member's own file should be alike everywhere, and which of its secrets others may read.
func (g *Gatherer) file(context.Context) (func(*facts.Member), error) {
	n := g.cfg.Node
	var f facts.File
	for _, m := range n.Members {
		f.Members = append(f.Members, m.Name+" "+m.Address)
	}
	for _, v := range n.VIP {
		f.VIPs = append(f.VIPs, fmt.Sprintf("%s follows %s", v.Address, v.Follows))
	}
	if g.cfg.Watchdog != nil {
		f.Watchdog = g.cfg.Watchdog()
	}
	keys := certs.In(n.TLSDir)
	for _, path := range []string{n.TokenFile, n.SecretFile, keys.Key} {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
			f.Open = append(f.Open, path)
		}
	}
	return func(m *facts.Member) { m.File = f }, nil
}
