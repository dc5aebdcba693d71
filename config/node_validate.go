package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"standfast/cluster"
)

// memberName is what can be a replication slot, an application_name, a certificate's name and a file's name alike.
var memberName = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)

// likeIP is what nobody would name a host.
var likeIP = regexp.MustCompile(`^[0-9.]+$`)

var majorVersion = regexp.MustCompile(`^[1-9][0-9]$`)

// Validate reports everything that is wrong with the file, one line each. It looks at the text only: whether files
// exist and ports are free is for the one who starts the member.
func (n Node) Validate() error {
	var p problems
	p.check(memberName.MatchString(n.Cluster), "cluster", "%q can't name a cluster; use up to 40 of a-z, 0-9 and _, such as \"main\"", n.Cluster)
	n.validateMembers(&p)
	n.Ports.validate(&p, "ports")
	n.validatePaths(&p)
	n.validateEtcd(&p)
	n.validateVIP(&p)
	n.validateOthers(&p)
	p.check(n.Hooks.Timeout > 0, "hooks.timeout", "must be more than 0; write 10s")
	p.oneOf("log.level", n.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", n.Log.Format, "text", "json")
	data, _ := n.count()
	p.check(data == 0 || n.Bootstrap.AllowSingleCopy || n.Bootstrap.Durability != cluster.Quorum || n.Bootstrap.Copies < data, "bootstrap.copies",
		"%d copies beside the primary need %d data members, and there are %d; write fewer, or add members", n.Bootstrap.Copies, n.Bootstrap.Copies+1, data)
	if name := n.Bootstrap.PostgreSQL.Collision(n.memberNames()); name != "" {
		p.add("bootstrap.postgresql.replication_clients", "%q is a member's name, and so its slot's; choose another", name)
	}
	if err := n.Bootstrap.Validate(); err != nil {
		for _, e := range unjoin(err) {
			inner := e.(*problem) // Cluster.Validate gives nothing else
			p.add("bootstrap."+inner.key, "%s", inner.text)
		}
	}
	return p.err()
}

func (n Node) memberNames() []string {
	names := make([]string, 0, len(n.Members))
	for _, m := range n.Members {
		names = append(names, m.Name)
	}
	return names
}

func (n Node) validateMembers(p *problems) {
	names, places := map[string]bool{}, map[string]string{}
	p.check(len(n.Members) > 0, "members", "nobody is listed; write each host as \"- {name: pg1, address: 10.0.0.11}\"")
	for i, m := range n.Members {
		key := fmt.Sprintf("members[%d]", i+1)
		p.check(memberName.MatchString(m.Name), key+".name", "%q can't name a member (nor a replication slot); use up to 40 of a-z, 0-9 and _, such as \"pg1\"", m.Name)
		p.check(m.Name != cluster.Nobody, key+".name", "%q is reserved; choose another", m.Name)
		p.check(!names[m.Name], key+".name", "%q is there twice; give each member a name of its own", m.Name)
		names[m.Name] = true
		p.check(m.Address != "" && !strings.ContainsAny(m.Address, "/ "), key+".address", "%q is not a host; write the address that the other members reach it at, without a port", m.Address)
		p.check(!likeIP.MatchString(m.Address) || net.ParseIP(m.Address) != nil, key+".address", "%q is no IP address; write one such as 10.0.0.11, or a host's name", m.Address)
		p.oneOf(key+".kind", string(m.Kind), string(cluster.Data), string(cluster.Witness))
		p.check(m.Priority == nil || *m.Priority >= 0, key+".priority", "can't be negative; 0 means never primary")
		if m.Ports != n.Ports { // said once, under ports
			m.Ports.validate(p, key+".ports")
		}
		at := fmt.Sprintf("%s:%d", m.Address, m.Ports.Beat)
		if other, ok := places[at]; ok && m.Address != "" {
			p.add(key+".address", "is %s's too; members on one address need ports of their own", other)
		}
		places[at] = m.Name
	}
	data, _ := n.count()
	p.check(len(n.Members) == 0 || data > 0, "members", "all are witnesses; at least one must be of kind data")
	p.check(memberName.MatchString(n.Name), "name", "%q can't name a member; write the name that this host has under members", n.Name)
	if len(n.Members) > 0 && memberName.MatchString(n.Name) && !names[n.Name] {
		near := ""
		if g, ok := Nearest(n.Name, sortedKeys(names)); ok {
			near = fmt.Sprintf(" (did you mean %q?)", g)
		}
		p.add("name", "%q is not under members%s; add it there or correct the name", n.Name, near)
	}
}

func (p Ports) validate(out *problems, key string) {
	seen := map[int]string{}
	for _, f := range p.named() {
		out.check(f.port >= 1 && f.port <= 65535, key+"."+f.name, "%d is not a port; use 1 to 65535", f.port)
		if other, ok := seen[f.port]; ok {
			out.add(key+"."+f.name, "%d is %s's already; choose another", f.port, other)
		}
		seen[f.port] = f.name
	}
}

// All lists the ports, in the order of the file.
func (p Ports) All() []int {
	var out []int
	for _, f := range p.named() {
		out = append(out, f.port)
	}
	return out
}

type namedPort struct {
	name string
	port int
}

func (p Ports) named() []namedPort {
	return []namedPort{
		{"postgres", p.Postgres}, {"write", p.Write}, {"read", p.Read}, {"health", p.Health},
		{"admin", p.Admin}, {"beat", p.Beat}, {"etcd_client", p.EtcdClient}, {"etcd_peer", p.EtcdPeer},
	}
}

func (n Node) validatePaths(p *problems) {
	for _, f := range []struct {
		key, path string
		need      bool
	}{
		{"state_dir", n.StateDir, true}, {"tls_dir", n.TLSDir, true}, {"secret_file", n.SecretFile, true}, {"token_file", n.TokenFile, true},
		{"postgres.data_dir", n.Postgres.DataDir, true}, {"postgres.wal_dir", n.Postgres.WALDir, false},
		{"etcd.ca_file", n.Etcd.CAFile, false}, {"etcd.cert_file", n.Etcd.CertFile, false}, {"etcd.key_file", n.Etcd.KeyFile, false},
	} {
		p.check(filepath.IsAbs(f.path) || f.path == "" && !f.need, f.key, "%q is not a full path; begin it with /", f.path)
	}
	bin := n.Postgres.BinDir
	p.check(bin == "" || filepath.IsAbs(bin) || majorVersion.MatchString(bin), "postgres.bin_dir", "%q is neither a full path nor a version such as 17", bin)
	if n.Postgres.WALDir != "" {
		rel, err := filepath.Rel(n.Postgres.DataDir, n.Postgres.WALDir)
		p.check(err != nil || rel == ".." || strings.HasPrefix(rel, "../"), "postgres.wal_dir", "lies in the data directory; leave it empty or put it on a file system of its own")
	}
	p.check(n.Watchdog == "auto" || n.Watchdog == "off" || filepath.IsAbs(n.Watchdog), "watchdog", "%q is neither auto nor off nor a device; write auto, off or /dev/watchdog", n.Watchdog)
	p.check(n.Postgres.Unit == "" || strings.HasSuffix(n.Postgres.Unit, ".service"), "postgres.unit", "%q is not a service; write standfast-postgres.service, or leave it empty", n.Postgres.Unit)
	p.check(n.Postgres.RunAs != "root", "postgres.run_as", "PostgreSQL refuses to run as root; write postgres")
}

func (n Node) validateEtcd(p *problems) {
	secure := false
	for _, e := range n.Etcd.Endpoints {
		u, err := url.Parse(e)
		ok := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && strings.Trim(u.Path, "/") == ""
		p.check(ok, "etcd.endpoints", "%q is not an etcd's address; write https://host:2379", e)
		secure = secure || ok && u.Scheme == "https"
	}
	p.check(!secure || n.Etcd.CAFile != "", "etcd.ca_file", "is needed for https endpoints; name the file of the CA that signed etcd's certificate")
	p.check((n.Etcd.CertFile == "") == (n.Etcd.KeyFile == ""), "etcd.cert_file", "and etcd.key_file go together; give both or neither")
}

func (n Node) validateVIP(p *problems) {
	at := map[netip.Addr]string{}
	for _, m := range n.Members {
		if ip, err := netip.ParseAddr(m.Address); err == nil {
			at[ip] = m.Name
		}
	}
	for i, v := range n.VIP {
		key := fmt.Sprintf("vip[%d]", i+1)
		p.oneOf(key+".follows", string(v.Follows), string(FollowsPrimary), string(FollowsStandby))
		ip, err := netip.ParseAddr(v.Address)
		if err != nil || ip.Zone() != "" || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
			p.add(key+".address", "%q can't be a floating address; write an unused one of the hosts' subnet, such as 10.0.1.50, without a port or /24", v.Address)
			continue
		}
		if who, ok := at[ip]; ok {
			p.add(key+".address", "%s is %s's already; choose one that nobody has", ip, who)
		}
		at[ip] = "another floating address"
		p.check(v.Prefix >= 0 && v.Prefix <= ip.BitLen(), key+".prefix", "%d is no length of a prefix; leave it out, or write 1 to %d", v.Prefix, ip.BitLen())
	}
	p.check(!n.Bootstrap.Router.FastPath || len(n.VIP) > 0, "bootstrap.router.fast_path", "leads connections to a floating address, and there is none; write one under vip, or leave it false")
}

// validateOthers looks at what is left to other programs.
func (n Node) validateOthers(p *problems) {
	p.oneOf("routing", n.Routing, BuiltIn, HAProxy)
	p.oneOf("address", n.Address, BuiltIn, Keepalived)
	p.check(!n.Bootstrap.Router.FastPath || n.Routing == BuiltIn && n.Address == BuiltIn, "bootstrap.router.fast_path", "goes with routing: builtin and address: builtin only; leave it false")
	if n.Address != Keepalived {
		return
	}
	p.check(len(n.VIP) > 0, "address", "there is no floating address that Keepalived could hold; write one under vip, or leave address out")
	for i, m := range n.Members {
		_, err := netip.ParseAddr(m.Address)
		p.check(err == nil, fmt.Sprintf("members[%d].address", i+1), "%q is a name, and Keepalived wants a number; write an IP address", m.Address)
	}
}

// unjoin splits what errors.Join put together.
func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
