package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/doctor/facts"
)

// Measures of hosts.
const (
	skewWarn, skewCritical = time.Second, time.Minute
	memoryWarn             = 5 // percent available
	stallWarn              = time.Second
	manyFiles              = 4096
	hugeWorth              = 8 << 30 // of shared_buffers
	etcdWarn               = 50      // percent of its quota
	etcdSlow               = 20      // slow syncs in an hour
)

// clocks differ between the hosts.
func clocks(c *Case) []Finding {
	var low, high string
	for _, m := range c.Members {
		o, ok := c.Offsets[m.Name]
		if !ok {
			continue
		}
		if low == "" || o.By < c.Offsets[low].By {
			low = m.Name
		}
		if high == "" || o.By > c.Offsets[high].By {
			high = m.Name
		}
	}
	if low == high {
		return nil
	}
	apart := c.Offsets[high].By - c.Offsets[low].By - c.Offsets[high].Within - c.Offsets[low].Within
	sev := when(apart > skewCritical, apart > skewWarn)
	if sev == "" {
		return nil
	}
	return one(sev, "", fmt.Sprintf("the clocks of %s and %s differ by %s", low, high, span(apart)), because("%s is ahead; certificates and logs go by clocks, decisions do not", high), "timedatectl (on both)", "sudo timedatectl set-ntp true, or start chrony")
}

// unsynced: nothing keeps a host's clock right.
func unsynced(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		if f.Host.Clock != "no" || f.Host.Container {
			return nil
		}
		return one(Warning, name, "nothing keeps its clock right (NTP)", because("timedatectl: NTPSynchronized=no"), "sudo timedatectl set-ntp true, or: sudo apt-get install chrony")
	})
}

// rivals are services that do what Standfast does.
var rivals = []struct {
	prefix   string
	severity Severity
	why      string
}{
	{"patroni", Critical, "it starts, stops and promotes PostgreSQL"},
	{"repmgrd", Critical, "it promotes standbys by itself"},
	{"stolon-keeper", Critical, "it starts, stops and promotes PostgreSQL"},
	{"pgautofailover", Critical, "it starts, stops and promotes PostgreSQL"},
	{"pacemaker", Critical, "it may start and stop PostgreSQL and move addresses"},
	{"keepalived", Warning, "it may hold the floating address, which then is on two hosts"},
	{"vip-manager", Warning, "it may hold the floating address, which then is on two hosts"},
	{"pgchk", Warning, "it answers health checks on port 8008 in Standfast's place"},
	{"haproxy", Warning, "it may have ports 5000 and 5001, and route by its own view"},
}

// leftovers of another stack will fight Standfast.
func leftovers(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, u := range f.Units {
			for _, r := range rivals {
				if !strings.HasPrefix(u.Name, r.prefix) || !busy(u) {
					continue
				}
				sev := r.severity
				if u.Active != "active" {
					sev = Warning // at the next boot
				}
				out = append(out, one(sev, name, fmt.Sprintf("%s is there: %s", u.Name, r.why), because("%s, %s", u.Active, orText(u.Enabled, "not enabled")), "sudo systemctl disable --now "+u.Name)...)
			}
		}
		return out
	})
}

// busy: it runs, or will after the next boot.
func busy(u facts.Unit) bool {
	return u.Active == "active" || u.Active == "activating" || u.Enabled == "enabled" || u.Enabled == "enabled-runtime"
}

// distribution: PostgreSQL's own unit would start a server beside ours.
func distribution(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, u := range f.Units {
			instance := strings.HasPrefix(u.Name, "postgresql@") && u.Active == "active"
			if instance {
				out = append(out, one(Warning, name, fmt.Sprintf("the distribution's %s runs a PostgreSQL of its own", u.Name), because("%s", u.Active), "pg_lsclusters", "if it is not needed: sudo systemctl disable --now "+u.Name+", and disabled in its start.conf")...)
			}
		}
		return out
	})
}

// notEnabled: the member does not come back after a boot.
func notEnabled(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		i := slices.IndexFunc(f.Units, func(u facts.Unit) bool { return u.Name == "standfast.service" })
		if i < 0 || f.Units[i].Enabled == "enabled" || f.Units[i].Enabled == "" || !f.Host.Service {
			return nil
		}
		return one(Warning, name, "standfast does not start at the next boot", because("systemd: %s", f.Units[i].Enabled), "sudo systemctl enable standfast")
	})
}

// oomKills: the kernel has killed processes of PostgreSQL.
func oomKills(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		if f.Host.OOMKills == 0 {
			return nil
		}
		return one(Warning, name, "the kernel has killed processes of PostgreSQL for want of memory", because("%d since its service was started", f.Host.OOMKills), "sudo journalctl -k -g 'Out of memory' -n 5 --no-pager", "lower work_mem or shared_buffers, or give the host more memory")
	})
}

// memory: hardly any is available.
func memory(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		if h := f.Host; h.Memory > 0 && percent(h.Available, h.Memory) < memoryWarn {
			return one(Warning, name, "hardly any memory is available", because("%s of %s", size(h.Available), size(h.Memory)), "ps aux --sort=-rss | head")
		}
		return nil
	})
}

// swapping: memory lies on the disk.
func swapping(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		h := f.Host
		if h.SwapUsed > 1<<30 && percent(h.SwapUsed, h.Memory) > 10 {
			return one(Warning, name, "the host swaps: PostgreSQL stalls and failovers take longer", because("%s of swap in use", size(h.SwapUsed)), "free -h", "sudo sysctl vm.swappiness=1, and more memory")
		}
		return nil
	})
}

// kernel: settings that PostgreSQL's manual advises against ("Managing Kernel Resources").
func kernel(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		h := f.Host
		if h.Overcommit == 1 {
			out = append(out, one(Warning, name, "the kernel promises memory that it does not have", because("vm.overcommit_memory=1"), "sudo sysctl vm.overcommit_memory=2, and in /etc/sysctl.d/ for the next boot")...)
		}
		if h.RemoveIPC && !h.SystemUser {
			out = append(out, one(Warning, name, "logind takes PostgreSQL's shared memory away when its user logs out", because("RemoveIPC=yes, and the user that PostgreSQL runs as is not a system user"), "write RemoveIPC=no into /etc/systemd/logind.conf.d/postgresql.conf, then: sudo systemctl restart systemd-logind")...)
		}
		if h.Files > 0 && h.Files < manyFiles {
			out = append(out, one(Warning, name, "PostgreSQL may open few files", because("%d", h.Files), "LimitNOFILE= of its service, or ulimit -n")...)
		}
		return out
	})
}

// hugePages: large shared buffers without huge pages.
func hugePages(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		if f.Postgres == nil || f.Host.Container {
			return nil
		}
		pages := parseInt(setting(f.Postgres, "shared_buffers"))
		if pages*8192 < hugeWorth || setting(f.Postgres, "huge_pages") == "on" {
			return nil
		}
		return one(Notice, name, "large shared_buffers work better with huge pages", because("shared_buffers %s", size(pages*8192)), "vm.nr_hugepages by PostgreSQL's manual, \"Linux Huge Pages\"; then standfast config set postgresql.parameters.huge_pages=on")
	})
}

func parseInt(s string) (n int64) {
	_, _ = fmt.Sscanf(s, "%d", &n) // PostgreSQL wrote it
	return n
}

// stalls: a member was held up.
func stalls(c *Case) []Finding {
	var out []Finding
	for _, m := range c.Members {
		st := c.Statuses[m.Name]
		if st == nil || st.Me() == nil || time.Duration(st.Me().StallMS)*time.Millisecond < stallWarn {
			continue
		}
		out = append(out, one(Warning, m.Name, "its host holds standfast up: a false failover may come of it", because("%d ms late within the last second", st.Me().StallMS), "top", "on hypervisors that stun guests: standfast config set detection=vm")...)
	}
	return out
}

// watchdog: nothing resets a host whose kernel hangs.
func watchdog(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		if f.File.Watchdog != "" || f.Host.Container || f.Postgres == nil {
			return nil
		}
		return one(Notice, name, "no watchdog resets the host when even the guard hangs", because("watchdog in the member's file found no device"), "sudo modprobe softdog, and in /etc/modules-load.d/; then: sudo systemctl restart standfast")
	})
}

// ports: one member can't reach another.
func ports(c *Case) []Finding {
	var out []Finding
	for _, m := range c.Members {
		f := c.Facts[m.Name]
		if f == nil {
			continue
		}
		for _, other := range c.Members {
			if _, silent := c.Silent[other.Name]; silent {
				continue // agent-down tells
			}
			out = append(out, c.wayTo(m.Name, f, other.Name)...)
		}
	}
	return out
}

// wayTo tells the ports of one member that another can't reach. One that refuses while its server is known to be down is no riddle.
func (c *Case) wayTo(from string, f *facts.Member, to string) []Finding {
	var bad, why []string
	for _, r := range f.Reach {
		if r.Member != to || r.Error == "" || r.Port == "postgres" && r.Refused && !c.runs(to) {
			continue
		}
		bad = append(bad, r.Port+" "+r.Address)
		why = append(why, r.Error)
	}
	if len(bad) == 0 {
		return nil
	}
	fix := "open them: standfast plan -f cluster.yml --firewall nft (or ufw, firewalld) prints the rules"
	if !slices.ContainsFunc(why, func(w string) bool { return w != "refused" }) {
		fix = "nothing listens there, or a firewall rejects: sudo ss -lntp on " + to + "; standfast plan -f cluster.yml --firewall nft prints the rules"
	}
	slices.Sort(why)
	return one(Warning, from, "can't reach "+plural(len(bad), "a port", "ports")+" of "+to, because("%s: %s", list(bad), list(slices.Compact(why))), fix)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func (c *Case) runs(name string) bool {
	st := c.status()
	if st == nil {
		return true
	}
	m := st.Member(name)
	return m == nil || m.State == api.Running
}

// deaf: one member hears another and is not heard, or its heartbeats do not come through.
func deaf(c *Case) []Finding {
	var out []Finding
	for _, m := range c.Members {
		st := c.Statuses[m.Name]
		if st == nil {
			continue
		}
		for _, o := range st.Members {
			if o.State != api.Unreachable || c.Statuses[o.Name] == nil {
				continue // agent-down tells of those that answer nobody
			}
			out = append(out, one(Critical, m.Name, "does not hear "+o.Name+", which answers here", because("no heartbeats (UDP) from %s", o.Name), "open UDP port "+portOf(o.Beat)+" from "+o.Name+" to "+m.Name+": standfast plan -f cluster.yml --firewall nft", "the cluster's secret must be the same on all hosts: secret_file")...)
		}
	}
	return out
}

func portOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return address[i+1:]
	}
	return address
}

// certificates end.
func certificates(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		k := f.Cert
		switch {
		case k == nil:
			return nil
		case k.Error != "":
			return one(Critical, name, "its certificate can't be used", []string{k.Error}, "sudo ls -l /etc/standfast/tls", "standfast cert rotate "+name)
		case k.Start.After(c.Now):
			return one(Critical, name, "its certificate is not valid yet: a clock is wrong", because("from %s", k.Start.UTC().Format(time.RFC3339)), "timedatectl")
		}
		left := k.End.Sub(c.Now)
		if sev := when(left < 3*24*time.Hour, left < 30*24*time.Hour); sev != "" {
			return one(sev, name, "its certificate ends and was not renewed", because("on %s; members renew four months before", k.End.UTC().Format("2006-01-02")), "standfast cert rotate "+name, "sudo journalctl -u standfast -g certificate -n 10 --no-pager")
		}
		if !k.CAEnd.IsZero() && k.CAEnd.Sub(c.Now) < 180*24*time.Hour {
			return one(Warning, "", "the cluster's certificate authority ends", because("on %s", k.CAEnd.UTC().Format("2006-01-02")), "docs/STATUS.md, \"Certificates\"")
		}
		return nil
	})
}

// passwords end.
func passwords(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil {
		return nil
	}
	var out []Finding
	for _, r := range p.Roles {
		if r.Until.IsZero() {
			continue
		}
		left := r.Until.Sub(c.Now)
		if sev := when(left < 0, left < 14*24*time.Hour); sev != "" {
			text := fmt.Sprintf("the password of %s ends soon: then it can't log in", r.Name)
			if left < 0 {
				text = fmt.Sprintf("the password of %s has ended: it can't log in", r.Name)
			}
			out = append(out, one(sev, "", text, because("on %s (rolvaliduntil)", r.Until.UTC().Format("2006-01-02 15:04 MST")), "on "+c.primary()+": "+c.sql(fmt.Sprintf(`alter role \"%s\" valid until 'infinity'`, r.Name)))...)
		}
	}
	return out
}

// oldPasswords are stored in a way that PostgreSQL gives up.
func oldPasswords(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil {
		return nil
	}
	var names []string
	for _, r := range p.Roles {
		if r.MD5 {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return one(Warning, "", "passwords are stored as MD5, and pg_hba.conf asks for SCRAM: these roles can't log in", []string{list(names)}, "set each again: \\password ROLE in psql")
}

// openSecrets may be read by others than their owner.
func openSecrets(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, path := range f.File.Open {
			out = append(out, one(Warning, name, "anybody on the host may read "+path, nil, "sudo chmod o= "+path)...)
		}
		return out
	})
}

// etcdIll: the store warns of itself.
func etcdIll(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		e := f.Etcd
		switch {
		case e == nil:
			return nil
		case e.Error != "":
			return one(Warning, name, "its etcd does not answer", []string{e.Error}, "sudo tail -n 20 "+c.dir()+"/log/etcd.log")
		case len(e.Alarms) > 0:
			return one(Critical, name, "etcd has raised an alarm: it takes no writes", e.Alarms, "sudo tail -n 20 "+c.dir()+"/log/etcd.log", "NOSPACE mends itself once the database is compacted; CORRUPT: standfast node replace "+name)
		case e.Learner:
			return one(Warning, name, "its etcd does not vote yet", because("it is a learner"), "it becomes a voter once it has caught up: standfast status")
		case e.Quota > 0 && percent(e.Size, e.Quota) > etcdWarn:
			return one(Warning, name, "etcd's database is large", because("%s of %s", size(e.Size), size(e.Quota)), "it is compacted by itself every ten minutes; if it stays so: sudo tail -n 20 "+c.dir()+"/log/etcd.log")
		}
		return nil
	})
}

// etcdSlow: the disk is too slow for etcd.
func etcdDisk(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		l := logOf(f, "etcd", "slow disk")
		if l == nil || l.Count < etcdSlow {
			return nil
		}
		return one(Warning, name, "its disk is often too slow for etcd: failovers may take longer", because("%d slow syncs in the last hour of etcd.log", l.Count), "sudo iostat -x 1 3", "put "+c.dir()+" on a faster disk than the backups")
	})
}
