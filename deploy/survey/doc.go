// Package survey says what a cluster would be made of, where PostgreSQL runs already: which server is the primary, which are its
// standbys, which hosts are new, what is taken over as it is, what is masked, what it costs, and what is in the way. It is a pure
// function of what the hosts have said.
package survey

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/plan"
	"standfast/deploy/probe"
)

// Plan is what is taken over. It is kept until the takeover is committed.
type Plan struct {
	Primary   string            `json:"primary"`
	Standbys  []string          `json:"standbys"` // members that are standbys of it already, in the order in which they are taken over
	New       []string          `json:"new"`      // members that get a copy
	Units     map[string]string `json:"units"`    // by member: the service that ran its server
	System    string            `json:"system"`   // identifier
	Data      string            `json:"data"`     // directory
	Owner     string            `json:"owner"`    // the user that it belongs to
	Slots     []string          `json:"slots"`    // physical ones of the standbys, which nobody uses afterwards
	Committed bool              `json:"committed"`
}

// Survey is what was found.
type Survey struct {
	Plan      Plan
	Inherited config.Inherited
	Findings  []plan.Finding
}

// Failed reports whether anything is in the way.
func (s Survey) Failed() bool {
	return slices.ContainsFunc(s.Findings, func(f plan.Finding) bool { return f.Level == plan.Fail })
}

func (s *Survey) add(l plan.Level, host, check, remedy, text string) {
	s.Findings = append(s.Findings, plan.Finding{Level: l, Host: host, Check: check, Remedy: remedy, Text: text})
}

// Look judges what the members said. Their servers are looked for on the port that cluster.yml names.
func Look(d config.Deployment, said map[string][]probe.Existing) Survey {
	var s Survey
	servers := map[string]probe.Existing{}
	for _, h := range d.Members {
		port := d.Node(h.Name).Self().Ports.Postgres
		for _, e := range said[h.Name] {
			if e.Port == port {
				servers[h.Name] = e
			}
		}
	}
	s.roles(d, servers)
	if s.Plan.Primary == "" {
		return s
	}
	s.primary(d, servers)
	for _, name := range s.Plan.Standbys {
		s.standby(name, servers[name], servers[s.Plan.Primary])
	}
	for _, name := range s.Plan.New {
		s.fresh(d, name)
	}
	return s
}

// roles finds out who is what.
func (s *Survey) roles(d config.Deployment, servers map[string]probe.Existing) {
	var primaries []string
	s.Plan.Units = map[string]string{}
	for _, h := range d.Members {
		e, runs := servers[h.Name]
		switch {
		case h.Kind == cluster.Witness && runs:
			s.add(plan.Fail, h.Name, "role", "make it a data member, or take its server away", "is a witness, and PostgreSQL runs there")
		case h.Kind == cluster.Witness:
		case runs && e.Error != "":
			s.add(plan.Fail, h.Name, "PostgreSQL", "let the user postgres log in over the Unix socket as the role postgres (local all postgres peer in pg_hba.conf), and run this again", "can't be asked: "+e.Error)
		case runs && e.Says.Standby:
			s.Plan.Standbys = append(s.Plan.Standbys, h.Name)
		case runs:
			primaries = append(primaries, h.Name)
		default:
			s.Plan.New = append(s.Plan.New, h.Name)
		}
		if runs {
			s.Plan.Units[h.Name] = e.Unit
			s.must(h.Name, e.Manager == "", "manager", fmt.Sprintf("stop it and keep it from starting, on every host: systemctl disable --now %s", e.Manager), e.Manager+" runs there: it would promote or restart servers behind Standfast's back")
		}
	}
	switch len(primaries) {
	case 0:
		s.add(plan.Fail, "", "primary", "start the server that is to be taken over, or use standfast deploy for new hosts", fmt.Sprintf("no member has a running primary on port %d", d.Ports.Postgres))
	case 1:
		s.Plan.Primary = primaries[0]
	default:
		s.add(plan.Fail, "", "primary", "take all but one of them out of cluster.yml, or stop those that are not the primary", strings.Join(primaries, " and ")+" each run a primary of their own")
	}
}

// owned are parameters that Standfast gives PostgreSQL itself; what the site has set of them ends with the takeover, or at the next
// start. Package postgres refuses them in what is agreed.
var owned = []string{
	"data_directory", "config_file", "hba_file", "ident_file", "external_pid_file", "listen_addresses", "port", "unix_socket_directories", "cluster_name",
	"primary_conninfo", "primary_slot_name", "recovery_target_timeline", "restore_command", "hot_standby", "wal_log_hints", "fsync",
	"full_page_writes", "restart_after_crash", "wal_retrieve_retry_interval", "data_sync_retry", "update_process_title", "ssl", "ssl_ca_file", "ssl_cert_file", "ssl_key_file",
	"synchronous_standby_names", "synchronized_standby_slots", "sync_replication_slots", "promote_trigger_file", "recovery_target", "recovery_target_action",
	"recovery_target_inclusive", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid", "recovery_end_command", "archive_cleanup_command",
}

// What a cluster needs beside what the site uses.
const spare = 2

func (s *Survey) primary(d config.Deployment, servers map[string]probe.Existing) {
	name := s.Plan.Primary
	e := servers[name]
	says, h := e.Says, *d.Host(name)
	s.Plan.System, s.Plan.Data, s.Plan.Owner = says.System, e.Data, e.Owner
	s.Inherited = config.Inherited{PostgreSQL: says.Version / 10000, DataDir: e.Data, Parameters: maps.Clone(says.Settings)}
	maps.DeleteFunc(s.Inherited.Parameters, func(k, v string) bool { return v == "" || slices.Contains(owned, k) })
	s.add(plan.Pass, name, "primary", "", fmt.Sprintf("PostgreSQL %d in %s, %d MB, run by %s, goes on as it runs: no restart", s.Inherited.PostgreSQL, e.Data, says.Size>>20, cmp.Or(e.Unit, "no service")))
	s.must(name, e.Owner == "postgres", "owner", "Standfast runs PostgreSQL as postgres: chown its directories while it is stopped", "its data belongs to "+e.Owner)
	s.must(name, says.Superuser, "role", "make one: CREATE ROLE postgres SUPERUSER LOGIN", "there is no superuser postgres that may log in")
	s.must(name, s.Inherited.PostgreSQL >= 14 && s.Inherited.PostgreSQL <= 18, "version", "upgrade it first (pg_upgrade)", fmt.Sprintf("PostgreSQL %d is not supported", s.Inherited.PostgreSQL))
	s.must(name, d.PostgreSQL == 0 || d.PostgreSQL == s.Inherited.PostgreSQL, "version", fmt.Sprintf("write postgresql: %d", s.Inherited.PostgreSQL), fmt.Sprintf("runs PostgreSQL %d, and cluster.yml says %d", s.Inherited.PostgreSQL, d.PostgreSQL))
	s.must(name, d.DataDir == "" || filepath.Clean(d.DataDir) == e.Data, "data", "write data_dir: "+e.Data, "its data is in "+e.Data+", and cluster.yml says "+d.DataDir)
	s.must(name, h.Priority == nil || *h.Priority > 0, "priority", "give it a priority above 0", "is never to be primary by cluster.yml, and is the primary")
	s.must(name, e.Locked == "", "configuration", fmt.Sprintf("chown postgres %s", e.Locked), "postgres may not write to "+e.Locked+", where its configuration lies")
	restart := "set it and restart PostgreSQL at a time of your choosing (the only restart), then run this again"
	s.must(name, listens(says.Listen, h.Address), "listen_addresses", "listen_addresses = '*': "+restart, fmt.Sprintf("it listens on %q, where the other members do not reach it", says.Listen))
	s.must(name, says.WALLevel != "minimal", "wal_level", "wal_level = replica: "+restart, "is minimal")
	need := len(d.Members) - 1 + spare
	s.must(name, says.Senders >= need+len(says.Streams), "max_wal_senders", fmt.Sprintf("max_wal_senders = %d: %s", need+len(says.Streams), restart), fmt.Sprintf("is %d", says.Senders))
	s.must(name, says.Slots >= len(d.Members)-1+len(says.Held), "max_replication_slots", fmt.Sprintf("max_replication_slots = %d: %s", len(d.Members)-1+len(says.Held), restart), fmt.Sprintf("is %d", says.Slots))
	s.files(name, e)
	s.costs(d, name, e, servers)
}

// must notes what is in the way.
func (s *Survey) must(host string, holds bool, check, remedy, text string) {
	if !holds {
		s.add(plan.Fail, host, check, remedy, text)
	}
}

func listens(on, address string) bool {
	for _, a := range strings.Split(on, ",") {
		if a = strings.TrimSpace(a); a == "*" || a == "0.0.0.0" && !strings.Contains(address, ":") || a == "::" || a == address {
			return true
		}
	}
	return false
}

// files takes the lines of the site's authentication files, and refuses what would mean something else in ours.
func (s *Survey) files(name string, e probe.Existing) {
	s.Inherited.HBA, s.Inherited.Ident = lines(e.HBA), lines(e.Ident)
	for what, list := range map[string][]string{"pg_hba.conf": s.Inherited.HBA, "pg_ident.conf": s.Inherited.Ident} {
		for _, l := range list {
			f := strings.Fields(l)
			switch {
			case strings.HasPrefix(f[0], "include"), slices.ContainsFunc(f, func(w string) bool { return strings.HasPrefix(w, "@") }):
				s.add(plan.Fail, name, what, "put the lines of the other file in its place", fmt.Sprintf("%q reads another file", l))
			case what == "pg_hba.conf" && slices.Contains(f, "cert"), strings.Contains(l, "clientcert="):
				s.add(plan.Fail, name, what, "let them log in by password (scram-sha-256) for now", fmt.Sprintf("%q checks clients' certificates, and the server's authority becomes the cluster's", l))
			case strings.HasSuffix(l, `\`):
				s.add(plan.Fail, name, what, "write it as one line", fmt.Sprintf("%q goes on in the next line", l))
			}
		}
	}
	if len(s.Inherited.HBA) == 0 {
		s.add(plan.Fail, name, "pg_hba.conf", "look at "+e.Says.HBA, "has no line")
	}
	s.add(plan.Pass, name, "pg_hba.conf", "", fmt.Sprintf("its %d lines are kept, word for word, after ours; %d of pg_ident.conf; %d parameters", len(s.Inherited.HBA), len(s.Inherited.Ident), len(s.Inherited.Parameters)))
}

// lines are those that say something.
func lines(text string) (out []string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
			out = append(out, l)
		}
	}
	return out
}

// costs tells what will be different.
func (s *Survey) costs(d config.Deployment, name string, e probe.Existing, servers map[string]probe.Existing) {
	says := e.Says
	if says.Names != "" {
		s.add(plan.Warn, name, "synchronous_standby_names", "", fmt.Sprintf("%q: commits wait for nobody from the takeover until a standby of the cluster streams; then the cluster's own rule holds", says.Names))
	}
	if says.SSL {
		s.add(plan.Warn, name, "TLS", "give clients that verify it the cluster's authority (standfast-CLUSTER/ca/ca.crt)", "the server's certificate becomes the member's: clients that verify it (sslmode=verify-ca, verify-full) are refused")
	}
	if !says.Hints {
		s.add(plan.Warn, name, "wal_log_hints", "", "off, and no checksums: until its first restart, data of this server that has diverged is cloned, not rewound")
	}
	if _, site := says.Settings["restore_command"]; site {
		s.add(plan.Warn, name, "restore_command", "", "is not used any more: slots keep what a standby needs")
	}
	for _, spc := range says.Tablespaces {
		s.add(plan.Warn, name, "tablespaces", "make "+spc+" on the other hosts, empty and owned by postgres, before they are copied to", spc+" is needed on every host, at the same path")
	}
	for _, h := range says.Held {
		if h.Type == "logical" {
			s.add(plan.Warn, name, "slots", "declare it (postgresql.slots) and it follows the primary", fmt.Sprintf("the logical slot %s stays on %s alone", h.Name, name))
		}
	}
	for _, r := range says.Streams {
		if member := s.memberOf(d, r, servers); member == "" {
			s.add(plan.Warn, name, "receivers", "declare it (postgresql.replication_clients), or add its host to cluster.yml", fmt.Sprintf("%q at %s receives WAL and is no member: it goes on, and does not follow the primary elsewhere", r.Name, cmp.Or(r.Address, "this host")))
		} else if r.Slot != "" && r.Slot != member {
			s.Plan.Slots = append(s.Plan.Slots, r.Slot)
		}
	}
}

// memberOf finds the standby that somebody who receives WAL is, by its address.
func (s *Survey) memberOf(d config.Deployment, r probe.Stream, servers map[string]probe.Existing) string {
	for _, h := range d.Members {
		if servers[h.Name].Says.Standby && (h.Address == r.Address || h.Name == r.Name) {
			return h.Name
		}
	}
	return ""
}

func (s *Survey) standby(name string, e, primary probe.Existing) {
	s.must(name, e.Says.System == s.Plan.System, "standby", "take it out of cluster.yml, or empty it", fmt.Sprintf("follows another cluster (system identifier %s, the primary's is %s)", e.Says.System, s.Plan.System))
	s.must(name, e.Says.Version/10000 == primary.Says.Version/10000, "version", "", fmt.Sprintf("PostgreSQL %d", e.Says.Version/10000))
	s.must(name, e.Data == s.Plan.Data, "data", "move it there while it is stopped, or empty it: then it is copied anew", fmt.Sprintf("its data is in %s, the primary's in %s", e.Data, s.Plan.Data))
	s.must(name, e.Owner == "postgres", "owner", "Standfast runs PostgreSQL as postgres", "its data belongs to "+e.Owner)
	s.must(name, e.Unit != "", "service", "run it as a service, or stop it: then nobody starts it again", "was started by hand: nothing is known that would stop it")
	// The steps are there (deploy.Adopt) and have not been run on whole machines: until then nobody's standby is touched.
	s.add(plan.Fail, name, "standby", fmt.Sprintf("stop it and keep it from starting (systemctl disable --now %s), move %s away, and run this again: the host is copied to like a new one", e.Unit, e.Data), "is a standby that runs; standbys are not taken over with their data yet")
}

func (s *Survey) fresh(d config.Deployment, name string) {
	s.add(plan.Pass, name, "new", "", "gets PostgreSQL and a copy of the primary's data in "+s.Plan.Data)
}

// Early are the standbys that are taken over before the primary, so that a majority of the members is there to agree on it.
func (p Plan) Early(d config.Deployment) []string {
	others := len(d.Members) - 1 - len(p.Standbys) // new ones and witnesses
	return p.Standbys[:min(max(len(d.Members)/2-others, 0), len(p.Standbys))]
}

// Steps are what is going to be done, for people to read before.
func (p Plan) Steps(d config.Deployment) []string {
	out := []string{"on every host: packages, program, certificates and configuration; no server is stopped or started"}
	if len(p.New) > 0 {
		out = append(out, strings.Join(p.New, ", ")+": standfast starts, and waits for the cluster")
	}
	early := p.Early(d)
	for _, name := range early {
		out = append(out, p.follows(name))
	}
	out = append(out, fmt.Sprintf("%s: %s is masked, its server goes on under Standfast: pg_hba.conf, pg_ident.conf and parameters are reloaded, commits wait for nobody; the cluster is founded on it", p.Primary, cmp.Or(p.Units[p.Primary], "what started PostgreSQL")))
	if len(p.New) > 0 {
		out = append(out, strings.Join(p.New, ", ")+": copied from "+p.Primary)
	}
	for _, name := range p.Standbys[len(early):] {
		out = append(out, p.follows(name))
	}
	out = append(out, fmt.Sprintf("commits wait for %d of the standbys, by the joint procedure, as soon as so many stream", d.Node(p.Primary).Bootstrap.Copies))
	return append(out, fmt.Sprintf("every port is tried: %d writes, %d reads, %d health checks", d.Ports.Write, d.Ports.Read, d.Ports.Health))
}

func (p Plan) follows(name string) string {
	return fmt.Sprintf("%s: %s is stopped and masked, standfast starts with its data; reads there pause until it follows again", name, p.Units[name])
}
