package plan

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/distro"
	"standfast/deploy/probe"
	"standfast/packaging"
)

// What a host should have. Less than the first is refused, less than the second is said.
const (
	leastMemory, goodMemory = 512 << 20, 2 << 30
	leastData, goodData     = 512 << 20, 10 << 30
	leastUsr                = 400 << 20
)

// How far a clock may be off: TLS and logs want no more than the first, certificates bear the second.
const (
	slightSkew = 500 * time.Millisecond
	grossSkew  = time.Minute
)

// host looks at one host by itself.
func (r *Report) host(s Site, h config.Host, f probe.Facts, skew time.Duration) {
	r.add(Pass, h.Name, "reachable", "", "by ssh, as root or by sudo")
	r.system(h.Name, f)
	r.size(h.Name, f)
	r.clock(h.Name, skew)
	r.names(s.Deployment, h.Name, f)
	r.ports(h.Name, s.adopted(h.Name, f))
	r.servers(h, f, s.Deployment.Node(h.Name), s.Adopts)
	r.bundle(s, h, f)
	r.earlier(s, h.Name, f)
}

func (r *Report) system(host string, f probe.Facts) {
	system, known := distro.Find(f.OS.ID, f.OS.Version)
	switch {
	case !known:
		r.add(Fail, host, "system", "use one of "+distro.Names()+", or set it up by hand: standfast init", fmt.Sprintf("%s is not supported", orText(f.OS.Name, "an unknown system")))
	case !system.Tested:
		r.add(Warn, host, "system", "try it on test hosts first", f.OS.Name+" should work, and has not been tested")
	default:
		r.add(Pass, host, "system", "", f.OS.Name)
	}
	if !f.Systemd {
		r.add(Fail, host, "systemd", "use a host that systemd has booted", "systemd does not run there")
	}
}

func orText(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func (r *Report) size(host string, f probe.Facts) {
	data, usr := f.Free[config.DefaultNode().StateDir], f.Free["/usr"]
	text := fmt.Sprintf("%d processors, %s of memory, %s free for data", f.CPUs, human(f.Memory), human(data))
	switch {
	case f.Memory < leastMemory:
		r.add(Fail, host, "size", "give it "+human(goodMemory), text)
	case data < leastData && !f.Found.Data:
		r.add(Fail, host, "size", fmt.Sprintf("free some space for %s, or mount a file system there", config.DefaultNode().StateDir), text)
	case usr < leastUsr && !f.Found.Running:
		r.add(Fail, host, "size", "free "+human(leastUsr)+" for packages in /usr", fmt.Sprintf("%s free in /usr", human(usr)))
	case f.Memory < goodMemory || f.CPUs < 2:
		r.add(Warn, host, "size", "two processors and "+human(goodMemory)+" are a good beginning", text)
	case data < goodData:
		r.add(Warn, host, "size", fmt.Sprintf("mount a larger file system on %s before there is data", config.DefaultNode().StateDir), text)
	default:
		r.add(Pass, host, "size", "", text)
	}
}

func human(n int64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GB", n>>30)
	}
	return fmt.Sprintf("%d MB", n>>20)
}

func (r *Report) clock(host string, skew time.Duration) {
	const remedy = "let it follow a time server: timedatectl set-ntp true"
	text := fmt.Sprintf("%s from this machine's", skew.Round(10*time.Millisecond))
	switch {
	case skew.Abs() > grossSkew:
		r.add(Fail, host, "clock", remedy, text)
	case skew.Abs() > slightSkew:
		r.add(Warn, host, "clock", remedy, text)
	default:
		r.add(Pass, host, "clock", "", "agrees with this machine's")
	}
}

// names: members know each other by address, so a name may be unknown; but where one is known, people will use it.
func (r *Report) names(d config.Deployment, host string, f probe.Facts) {
	ok := true
	for _, m := range d.Members {
		found := f.Names[m.Name]
		if net.ParseIP(m.Address) == nil {
			found = f.Names[m.Address]
			if len(found) == 0 {
				ok = false
				r.add(Fail, host, "names", "put it into DNS or /etc/hosts, or write an IP address", m.Address+" can't be resolved")
				continue
			}
		} else if len(found) > 0 && !slices.Contains(found, m.Address) {
			ok = false
			r.add(Warn, host, "names", fmt.Sprintf("have it resolve to %s, in DNS or /etc/hosts", m.Address), fmt.Sprintf("%s is %s there", m.Name, strings.Join(found, ", ")))
			continue
		}
		if loopback(found) {
			ok = false
			level := Warn
			if net.ParseIP(m.Address) == nil {
				level = Fail // others would be told to connect to themselves
			}
			r.add(level, host, "names", "take the line with "+strings.Join(found, ", ")+" out of /etc/hosts", m.Name+" is the loopback address there")
		}
	}
	if ok {
		r.add(Pass, host, "names", "", "no member's name leads elsewhere")
	}
}

func loopback(all []string) bool {
	return slices.ContainsFunc(all, func(text string) bool {
		ip, err := netip.ParseAddr(text)
		return err == nil && ip.IsLoopback()
	})
}

// ports reports what has a port of ours. A server that is set aside gives its own free.
func (r *Report) ports(host string, f probe.Facts) {
	var taken []string
	for e, why := range f.Ports {
		_, port, _ := net.SplitHostPort(e[strings.IndexByte(e, ' ')+1:]) // as it was asked for
		leaves := slices.ContainsFunc(f.Servers, func(s probe.Server) bool { return s.Empty && s.Online && strconv.Itoa(s.Port) == port })
		if !leaves {
			taken = append(taken, why)
		}
	}
	slices.Sort(taken)
	if len(taken) > 0 {
		r.add(Fail, host, "ports", "", strings.Join(slices.Compact(taken), "; "))
		return
	}
	r.add(Pass, host, "ports", "", "free, or Standfast's own")
}

// adopted leaves the port of a server that is taken over out of what is in the way.
func (s Site) adopted(host string, f probe.Facts) probe.Facts {
	if s.Adopts == "" {
		return f
	}
	port := strconv.Itoa(s.Deployment.Node(host).Self().Ports.Postgres)
	f.Ports = maps.Clone(f.Ports)
	maps.DeleteFunc(f.Ports, func(e, why string) bool { return strings.HasSuffix(e, ":"+port) && strings.Contains(why, "postgres") })
	return f
}

// servers looks at the distribution's clusters. Nothing is done to one that holds anything.
func (r *Report) servers(h config.Host, f probe.Facts, n config.Node, adopts string) {
	port := n.Self().Ports.Postgres
	for _, s := range f.Servers {
		name := s.Version + "/" + s.Name
		switch {
		case adopts != "" && s.Dir == adopts && s.Port == port:
			r.add(Pass, h.Name, "PostgreSQL", "", fmt.Sprintf("%s is taken over", name))
		case s.Dir == n.Postgres.DataDir && (s.Name == distro.ClusterName || f.Found.Cluster == n.Cluster && s.Start == "disabled"):
			continue // the member's own; one that was taken over keeps its name
		case s.Name == distro.ClusterName:
			r.add(Fail, h.Name, "PostgreSQL", fmt.Sprintf("give it another name: pg_renamecluster %s %s other", s.Version, s.Name), fmt.Sprintf("%s has the name that Standfast registers its own under", name))
		case s.Empty && s.Start == "disabled" && !s.Online:
			r.add(Pass, h.Name, "PostgreSQL", "", fmt.Sprintf("%s is empty and disabled", name))
		case s.Empty && s.Name == "main":
			r.add(Pass, h.Name, "PostgreSQL", "", fmt.Sprintf("%s is empty; it is stopped and disabled, and its files stay in %s", name, s.Dir))
		case s.Port == port:
			r.add(Fail, h.Name, "PostgreSQL", fmt.Sprintf("Standfast does not touch it: move it to another port or host, or dump it and drop it (pg_dropcluster %s %s)", s.Version, s.Name),
				fmt.Sprintf("%s on port %d holds data", name, s.Port))
		default:
			r.add(Warn, h.Name, "PostgreSQL", "it stays as it is, and shares the host", fmt.Sprintf("%s runs on port %d", name, s.Port))
		}
	}
}

// earlier looks at what a deployment before has left.
func (r *Report) earlier(s Site, host string, f probe.Facts) {
	was := f.Found
	switch {
	case was.Cluster == "unreadable":
		r.add(Fail, host, "Standfast", "mend "+config.DefaultPath+", or move it away if nothing of it is in use", "its configuration there can't be read")
	case was.Cluster != "" && was.Cluster != s.Deployment.Cluster:
		r.add(Fail, host, "Standfast", "choose another host", fmt.Sprintf("is a member of the cluster %s", was.Cluster))
	case was.Cluster != "" && was.Name != host:
		r.add(Fail, host, "Standfast", "correct the name or the address", fmt.Sprintf("is the member %s", was.Name))
	case was.CA != "" && was.CA != s.CA:
		r.add(Fail, host, "Standfast", fmt.Sprintf("put back the directory of its secrets (secrets: %s), or deploy from the machine that has it", s.Deployment.Secrets),
			"has certificates of an authority that is not this deployment's")
	case was.Data && was.Cluster == "":
		r.add(Fail, host, "Standfast", "move "+config.DefaultNode().StateDir+" away if nobody needs it", "holds the data of a cluster that is not known: "+orText(was.System, "its pg_control can't be read"))
	case f.Packages[packaging.Package] != "":
		r.add(Warn, host, "Standfast", "upgrade the package there, and deploy with a program of the same version",
			fmt.Sprintf("comes from the package %s %s; what is deployed takes its place until the package is upgraded", packaging.Package, f.Packages[packaging.Package]))
	case was.Data && len(moved(s.Deployment, host, was)) > 0:
		r.add(Fail, host, "Standfast", "put back what is there: a deployment does not move a member; remove it from the cluster and add it with its new address or ports",
			"of a founded cluster, and cluster.yml has another "+strings.Join(moved(s.Deployment, host, was), ", another "))
	case was.Running:
		r.add(Pass, host, "Standfast", "", "runs as this cluster's member")
	case was.Cluster != "":
		r.add(Pass, host, "Standfast", "", "is installed as this cluster's member")
	}
}

// moved names what the others find a member by, where cluster.yml differs from what the member has.
func moved(d config.Deployment, host string, was probe.Standfast) (out []string) {
	is := d.Node(host).Self()
	if was.Address != "" && was.Address != is.Address {
		out = append(out, fmt.Sprintf("address (%s, there %s)", is.Address, was.Address))
	}
	for _, p := range []struct {
		name    string
		is, was int
	}{
		{"postgres", is.Ports.Postgres, was.Ports.Postgres}, {"admin", is.Ports.Admin, was.Ports.Admin}, {"beat", is.Ports.Beat, was.Ports.Beat},
		{"etcd_client", is.Ports.EtcdClient, was.Ports.EtcdClient}, {"etcd_peer", is.Ports.EtcdPeer, was.Ports.EtcdPeer},
	} {
		if p.was != 0 && p.is != p.was {
			out = append(out, fmt.Sprintf("port %s (%d, there %d)", p.name, p.is, p.was))
		}
	}
	return out
}

// versions sees to it that all hosts get the same PostgreSQL: standbys can't follow another major version.
func (r *Report) versions(s Site) {
	got := map[string][]string{}
	for _, h := range s.Deployment.Members {
		f, ok := r.Facts[h.Name]
		if !ok || h.Kind == cluster.Witness {
			continue
		}
		version := r.version(s.Deployment, h.Name, f)
		if version == "" {
			continue // that was said
		}
		got[version] = append(got[version], h.Name)
	}
	if len(got) > 1 {
		var texts []string
		for v, hosts := range got {
			texts = append(texts, fmt.Sprintf("%s: PostgreSQL %s", strings.Join(hosts, ", "), v))
		}
		slices.Sort(texts)
		r.add(Fail, "", "version", "use the same release of the same distribution on all", strings.Join(texts, "; "))
	}
	for v := range got {
		if len(got) == 1 {
			r.Postgres = v
			r.add(Pass, "", "version", "", "PostgreSQL "+v+" on all members")
		}
	}
}

// version is the PostgreSQL that a host has or gets; "": none can be.
func (r *Report) version(d config.Deployment, host string, f probe.Facts) string {
	system, known := distro.Find(f.OS.ID, f.OS.Version)
	if !known {
		return "" // that was said
	}
	wanted := strconv.Itoa(d.PostgreSQL)
	switch {
	case d.PostgreSQL == 0 && system.Postgres != "":
		return system.Postgres
	case d.PostgreSQL == 0:
		r.add(Fail, host, "version", "write which: postgresql: 17", f.OS.Name+" brings no PostgreSQL that is supported")
		return ""
	case d.Repository.Source == config.FromPGDG || system.Postgres == wanted || f.Packages[system.Server(wanted)[0]] != "":
		return wanted
	}
	r.add(Fail, host, "version", "leave postgresql out, take it from the PostgreSQL project (repository: {source: pgdg}), or install "+system.Server(wanted)[0]+" from elsewhere first",
		fmt.Sprintf("%s brings %s, not %s", f.OS.Name, orNone(system.Postgres), wanted))
	return wanted
}

func orNone(version string) string {
	if version == "" {
		return "no PostgreSQL that is supported"
	}
	return "PostgreSQL " + version
}

// bundle looks whether what a host needs is there, where it comes in a bundle.
func (r *Report) bundle(s Site, h config.Host, f probe.Facts) {
	if s.Bundle == nil || h.Kind == cluster.Witness {
		return
	}
	system, known := distro.Find(f.OS.ID, f.OS.Version)
	if !known {
		return // that was said
	}
	version := s.Bundle.Postgres
	if s.Deployment.PostgreSQL != 0 {
		version = strconv.Itoa(s.Deployment.PostgreSQL)
	} else if system.Postgres != "" {
		version = system.Postgres
	}
	if err := s.Bundle.Fits(system.Name(), f.Arch, version, append(system.Server(version), s.Deployment.PackagesOf(h.Kind)...)); err != nil {
		r.add(Fail, h.Name, "bundle", "", err.Error())
		return
	}
	r.add(Pass, h.Name, "bundle", "", fmt.Sprintf("has PostgreSQL %s for %s", version, system.Name()))
}

// addresses looks at the floating ones. Of a cluster that runs somebody has them.
func (r *Report) addresses(s Site) {
	running := false
	for _, f := range r.Facts {
		running = running || f.Found.Running
	}
	for _, v := range s.Deployment.VIP {
		ok := true
		for _, h := range s.Deployment.Members {
			f, answered := r.Facts[h.Name]
			found := f.VIPs[v.Address]
			switch {
			case !answered:
				ok = false
			case found.Error != "" && v.Interface == "":
				ok = false
				r.add(Fail, h.Name, "floating address", "choose an address of the hosts' subnet, or name the interface under vip", fmt.Sprintf("%s: %s", v.Address, found.Error))
			case found.Taken != "" && !running:
				ok = false
				r.add(Fail, h.Name, "floating address", "stop the host that uses it, or choose another address under vip", fmt.Sprintf("%s answers already, from MAC %s", v.Address, found.Taken))
			}
		}
		if ok {
			r.add(Pass, "", "floating address", "", v.Address+": every host has its subnet, and no stranger uses it")
		}
	}
}

// several shortens a long list.
func several(list []string) string {
	slices.Sort(list)
	if len(list) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:3], ", "), len(list)-3)
	}
	return strings.Join(list, ", ")
}
