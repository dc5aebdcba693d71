package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"standfast/doctor/facts"
)

// own are parameters that belong to a host or a role and are meant to differ, or that Standfast keeps by itself.
var own = []string{
	"cluster_name", "data_directory", "config_file", "hba_file", "ident_file", "listen_addresses", "port", "unix_socket_directories", "primary_conninfo", "primary_slot_name",
	"ssl_ca_file", "ssl_cert_file", "ssl_key_file", "synchronous_standby_names", "synchronized_standby_slots", "sync_replication_slots", "max_slot_wal_keep_size", "hot_standby",
	"transaction_read_only", "in_hot_standby", "log_timezone", "TimeZone", "dynamic_shared_memory_type", "external_pid_file", "stats_temp_directory", "restore_command",
	"lc_messages", "lc_monetary", "lc_numeric", "lc_time",
}

// settingsDiffer: a parameter has another value on one host than on the others.
func settingsDiffer(c *Case) []Finding {
	values := map[string]map[string][]string{} // by name and value, the members
	var known []string
	for _, m := range c.Members {
		f := c.Facts[m.Name]
		if f == nil || f.Postgres == nil || len(f.Postgres.Settings) == 0 {
			continue
		}
		known = append(known, m.Name)
		for _, s := range f.Postgres.Settings {
			if slices.Contains(own, s.Name) || s.Source == "default" {
				continue
			}
			if values[s.Name] == nil {
				values[s.Name] = map[string][]string{}
			}
			values[s.Name][s.Value] = append(values[s.Name][s.Value], m.Name)
		}
	}
	var out []Finding
	for _, name := range sortedKeys(values) {
		by := values[name]
		var have []string
		for _, names := range by {
			have = append(have, names...)
		}
		for _, m := range known {
			if !slices.Contains(have, m) {
				by["its default"] = append(by["its default"], m)
			}
		}
		out = append(out, differ(by, fmt.Sprintf("%s differs between the hosts: after a failover PostgreSQL behaves otherwise", name),
			fmt.Sprintf("agree on one: standfast config set postgresql.parameters.%s=…", name), "and take it out of postgresql.conf and postgresql.auto.conf on the hosts")...)
	}
	return out
}

// autoConf: ALTER SYSTEM on a host overrides what is agreed.
func autoConf(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var names []string
		for _, s := range p.Settings {
			if s.Auto && !slices.Contains([]string{"synchronous_standby_names", "synchronized_standby_slots", "sync_replication_slots"}, s.Name) {
				names = append(names, fmt.Sprintf("%s = %s", s.Name, s.Value))
			}
		}
		if len(names) == 0 {
			return nil
		}
		reset, _, _ := strings.Cut(names[0], " ")
		return one(Warning, name, "postgresql.auto.conf overrides the agreed parameters", names, c.sql("alter system reset "+reset), "then set it for all hosts: standfast config set postgresql.parameters."+reset+"=…")
	})
}

// pendingRestart: changed parameters wait for a restart.
func pendingRestart(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var names []string
		for _, s := range p.Settings {
			if s.Pending {
				names = append(names, s.Name)
			}
		}
		if len(names) == 0 {
			return nil
		}
		return one(Warning, name, "changed parameters wait for a restart", []string{list(names)}, "standfast restart --pending")
	})
}

// settingsError: PostgreSQL can't use a line of its files.
func settingsError(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		if len(p.Files) == 0 {
			return nil
		}
		return one(Warning, name, "PostgreSQL's configuration has lines that it can't use", p.Files, "standfast config edit, or mend the file on its host")
	})
}

// unsafe are values that give up what PostgreSQL promises.
var unsafe = []struct{ name, value, why string }{
	{"fsync", "off", "a power loss destroys the data"},
	{"full_page_writes", "off", "a torn page after a power loss can't be mended"},
	{"zero_damaged_pages", "on", "damaged pages are replaced by empty ones, silently"},
	{"ignore_checksum_failure", "on", "damaged pages are read as if they were sound"},
	{"ignore_invalid_pages", "on", "replay passes over pages that are not there"},
	{"allow_in_place_tablespaces", "on", "it is for PostgreSQL's own tests"},
	{"autovacuum", "off", "tables bloat, and the server stops before transaction numbers run out"},
	{"track_counts", "off", "autovacuum does not know what to do"},
	{"hot_standby_feedback", "off", "long reads on a standby are cancelled"},
}

// unsafeSettings: a parameter has a value that endangers data.
func unsafeSettings(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var out []Finding
		for _, u := range unsafe {
			if s := setting(p, u.name); s == u.value {
				sev := Warning
				if u.name == "hot_standby_feedback" {
					sev = Notice
				}
				out = append(out, one(sev, name, fmt.Sprintf("%s is %s: %s", u.name, u.value, u.why), nil, "standfast config set postgresql.parameters."+u.name+"= (the default holds again)")...)
			}
		}
		return out
	})
}

// setting is the value of a parameter that was set; "" if it has its default.
func setting(p *facts.Postgres, name string) string {
	for _, s := range p.Settings {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

// serverVersions: hosts run different versions of PostgreSQL.
func serverVersions(c *Case) []Finding {
	major, minor := map[string][]string{}, map[string][]string{}
	c.servers(func(name string, p *facts.Postgres) []Finding {
		if p.Version > 0 {
			v := fmt.Sprintf("%d.%d", p.Version/10000, p.Version%10000)
			minor[v] = append(minor[v], name)
			major[strconv.Itoa(p.Version/10000)] = append(major[strconv.Itoa(p.Version/10000)], name)
		}
		return nil
	})
	if len(major) > 1 {
		return differ(major, "hosts run different major versions of PostgreSQL: they can't replicate", "install the same on all, and name it as postgres.bin_dir")
	}
	return differ(minor, "hosts run different minor versions of PostgreSQL", "upgrade the standbys' packages first, then the primary's: standfast restart")
}

// filesDiffer: the members' own files do not name the same members and floating addresses.
func filesDiffer(c *Case) []Finding {
	vips, members := map[string][]string{}, map[string][]string{}
	c.each(func(name string, f *facts.Member) []Finding {
		if len(f.File.Members) == 0 {
			return nil
		}
		v := slices.Clone(f.File.VIPs)
		slices.Sort(v)
		vips[orText(list(v), "none")] = append(vips[orText(list(v), "none")], name)
		for _, m := range f.File.Members {
			host, address, _ := strings.Cut(m, " ")
			key := host + " is at " + address
			members[key] = append(members[key], name)
		}
		return nil
	})
	out := differ(vips, "the members' files name different floating addresses", "write the same vip in /etc/standfast/standfast.yml on all hosts, then: sudo systemctl restart standfast")
	at := map[string]string{}
	for _, key := range sortedKeys(members) {
		host, _, _ := strings.Cut(key, " ")
		if other, ok := at[host]; ok {
			out = append(out, one(Warning, "", "the members' files place "+host+" at different addresses", []string{other + ": " + list(members[other]), key + ": " + list(members[key])}, "write the same in /etc/standfast/standfast.yml on all hosts")...)
		}
		at[host] = key
	}
	return out
}
