package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"standfast/cluster"
	"standfast/config"
)

// Direction is the way of connections that a rule lets through, as seen from its host.
type Direction string

// The directions.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// Rule is what a host's firewall has to let through. Answers to what was let through are taken for granted.
type Rule struct {
	Host      string    `json:"host"`
	Direction Direction `json:"direction"`
	Peers     []string  `json:"peers"` // addresses and networks of the other side, of one family; none: everywhere
	Protocol  string    `json:"protocol"`
	Ports     []int     `json:"ports"` // where the connections go to
	Why       string    `json:"why"`
}

// Rules are those that the cluster needs, host by host. A member's address that is a name is turned into numbers by resolve.
func Rules(d config.Deployment, resolve func(name string) ([]string, error)) ([]Rule, error) {
	at := map[string][]string{}
	for _, h := range d.Members {
		at[h.Name] = []string{h.Address}
		if _, err := netip.ParseAddr(h.Address); err == nil {
			continue
		}
		numbers, err := resolve(h.Address)
		if err != nil {
			return nil, fmt.Errorf("find the address of %s, which firewalls want as a number: %w", h.Name, err)
		}
		at[h.Name] = numbers
	}
	var out []Rule
	for _, h := range d.Members {
		out = append(out, inward(d, h, at)...)
		out = append(out, outward(d, h, at)...)
	}
	return out, nil
}

// inward: the other members, the applications, and who looks after the host.
func inward(d config.Deployment, h config.Host, at map[string][]string) (out []Rule) {
	p := d.Node(h.Name).Self().Ports
	add := func(why string, peers []string, protocol string, ports ...int) {
		for _, family := range families(peers) {
			out = append(out, Rule{h.Name, In, family, protocol, ports, why})
		}
	}
	var others []string
	for _, o := range d.Members {
		if o.Name != h.Name {
			others = append(others, at[o.Name]...)
		}
	}
	if len(others) > 0 {
		add("the other members", others, "tcp", tcpPorts(d, h.Name)...)
		add("the other members' heartbeats", others, "udp", p.Beat)
	}
	if keepalived(d, h) {
		var peers []string
		for _, o := range d.Members {
			if o.Name != h.Name && keepalived(d, o) {
				peers = append(peers, at[o.Name]...)
			}
		}
		add("the other members' Keepalived", peers, vrrp)
	}
	add("applications", clients(d), "tcp", p.Write, p.Read)
	_, way := d.Way(h)
	if end, err := netip.ParseAddrPort(way); err == nil && end.Addr().String() == h.Address {
		add("administration, from your machine", nil, "tcp", int(end.Port()))
	} else {
		add("administration, from your machine", nil, "tcp", d.SSH.Port)
	}
	return out
}

// outward: hosts that let everything out need none of these.
func outward(d config.Deployment, h config.Host, at map[string][]string) (out []Rule) {
	for _, o := range d.Members {
		if o.Name == h.Name {
			continue
		}
		for _, family := range families(at[o.Name]) {
			out = append(out, Rule{h.Name, Out, family, "tcp", tcpPorts(d, o.Name), "to " + o.Name},
				Rule{h.Name, Out, family, "udp", []int{d.Node(o.Name).Self().Ports.Beat}, "heartbeats to " + o.Name})
			if keepalived(d, h) && keepalived(d, o) {
				out = append(out, Rule{h.Name, Out, family, vrrp, nil, "to Keepalived on " + o.Name})
			}
		}
	}
	for _, v := range d.VIP {
		p := d.Ports
		out = append(out, Rule{h.Name, Out, []string{v.Address}, "tcp", []int{p.Write, p.Read}, "to the floating address, as validate tries it"},
			Rule{h.Name, Out, []string{v.Address}, "udp", []int{p.Beat}, "to the floating address, as plan tries it"})
	}
	return out
}

// vrrp is a protocol of its own, number 112, without ports.
const vrrp = "vrrp"

// keepalived reports whether a host runs it.
func keepalived(d config.Deployment, h config.Host) bool {
	return d.Address == config.Keepalived && h.Kind != cluster.Witness && len(d.Members) > 1
}

// tcpPorts are those that a member listens on: the same that are tried before a deployment.
func tcpPorts(d config.Deployment, name string) []int {
	m := d.Node(name).Self()
	p := m.Ports
	tcp := []int{p.Write, p.Read, p.Health, p.Admin, p.Beat, p.EtcdClient, p.EtcdPeer}
	if m.Kind == cluster.Data {
		tcp = append(tcp, p.Postgres)
	}
	slices.Sort(tcp)
	return slices.Compact(tcp)
}

// clients are the networks that applications connect from; none: one may come from everywhere.
func clients(d config.Deployment) (all []string) {
	for _, a := range d.Applications {
		if len(a.From) == 0 {
			return nil
		}
		all = append(all, a.From...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// families sorts addresses by IPv4 and IPv6, which no rule has both of. Everywhere is one of its own.
func families(peers []string) [][]string {
	if len(peers) == 0 {
		return [][]string{nil}
	}
	var four, six []string
	for _, p := range peers {
		if isSix(p) {
			six = append(six, p)
		} else {
			four = append(four, p)
		}
	}
	return slices.DeleteFunc([][]string{four, six}, func(list []string) bool { return len(list) == 0 })
}

func isSix(address string) bool { return strings.Contains(address, ":") }

// firewalls write a host's rules as commands of a program. What is let out by itself there is left out.
var firewalls = map[string]func(Rule) []string{"ufw": ufw, "firewalld": firewalld, "nft": nft}

// notes say what has to be known beside the rules.
var notes = map[string]string{
	"ufw":       "ufw(8): outgoing connections are let through unless \"ufw default deny outgoing\" was said; then the lines with \"out\" are needed too.",
	"firewalld": "firewall-cmd(1): outgoing connections are let through unless a policy says otherwise. The rules go to the default zone; add --zone for another.",
	"nft":       "nft(8): for the chains input and output of the table inet filter, as in Debian's /etc/nftables.conf; put them there to have them after a boot. Established connections, icmp and icmpv6 have to be accepted there too.",
}

// Commands writes the rules for "ufw", "firewalld" or "nft", host by host, with a comment for each, as a script of the shell's.
func Commands(rules []Rule, firewall string) (string, error) {
	write, ok := firewalls[firewall]
	if !ok {
		return "", fmt.Errorf("write rules: no firewall %q is known; there are ufw, firewalld and nft", firewall)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", notes[firewall])
	host := ""
	for _, r := range rules {
		lines := write(r)
		if r.Host != host {
			host = r.Host
			fmt.Fprintf(&b, "\n# ---- on %s\n", host)
		}
		if len(lines) == 0 {
			continue
		}
		fmt.Fprintf(&b, "# %s: %s\n%s\n", r.Direction, r.Why, strings.Join(lines, "\n"))
	}
	if firewall == "firewalld" {
		b.WriteString("\n# then, on each host\nfirewall-cmd --reload\n")
	}
	return b.String(), nil
}

// joined is a list of ports as a rule has it.
func joined(ports []int, by string) string {
	var texts []string
	for _, p := range ports {
		texts = append(texts, strconv.Itoa(p))
	}
	return strings.Join(texts, by)
}

// each calls write for every peer, once for everywhere.
func each(r Rule, everywhere string, write func(peer string) string) (lines []string) {
	peers := r.Peers
	if len(peers) == 0 {
		peers = []string{everywhere}
	}
	for _, p := range peers {
		lines = append(lines, write(p))
	}
	return lines
}

func ufw(r Rule) []string {
	return each(r, "any", func(peer string) string {
		switch {
		case r.Protocol == vrrp && r.Direction == Out:
			return fmt.Sprintf("ufw allow out proto vrrp to %s", peer)
		case r.Protocol == vrrp:
			return fmt.Sprintf("ufw allow in proto vrrp from %s", peer)
		case r.Direction == Out:
			return fmt.Sprintf("ufw allow out proto %s to %s port %s", r.Protocol, peer, joined(r.Ports, ","))
		}
		return fmt.Sprintf("ufw allow in proto %s from %s to any port %s", r.Protocol, peer, joined(r.Ports, ","))
	})
}

// firewalld takes one port in a rich rule (firewalld.richlanguage(5)), and lets out what begins at the host.
func firewalld(r Rule) (lines []string) {
	if r.Direction == Out {
		return nil
	}
	if r.Protocol == vrrp {
		return each(r, "", func(peer string) string {
			family := "ipv4"
			if isSix(peer) {
				family = "ipv6"
			}
			return fmt.Sprintf(`firewall-cmd --permanent --add-rich-rule='rule family="%s" source address="%s" protocol value="vrrp" accept'`, family, peer)
		})
	}
	for _, port := range r.Ports {
		lines = append(lines, each(r, "", func(peer string) string {
			if peer == "" {
				return fmt.Sprintf("firewall-cmd --permanent --add-port=%d/%s", port, r.Protocol)
			}
			family := "ipv4"
			if isSix(peer) {
				family = "ipv6"
			}
			return fmt.Sprintf(`firewall-cmd --permanent --add-rich-rule='rule family="%s" source address="%s" port port="%d" protocol="%s" accept'`, family, peer, port, r.Protocol)
		})...)
	}
	return lines
}

// nft inserts, for a chain may end with a rule that drops.
func nft(r Rule) []string {
	chain, side := "input", "saddr"
	if r.Direction == Out {
		chain, side = "output", "daddr"
	}
	peers := ""
	if len(r.Peers) > 0 {
		family := "ip"
		if isSix(r.Peers[0]) {
			family = "ip6"
		}
		peers = fmt.Sprintf("%s %s { %s } ", family, side, strings.Join(r.Peers, ", "))
	}
	if r.Protocol == vrrp {
		return []string{fmt.Sprintf("nft 'insert rule inet filter %s %smeta l4proto 112 accept'", chain, peers)}
	}
	return []string{fmt.Sprintf("nft 'insert rule inet filter %s %s%s dport { %s } accept'", chain, peers, r.Protocol, joined(r.Ports, ", "))}
}
