package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"standfast/cluster"
)

// Beats go out every 100 ms; three of them may be missed on a healthy but busy machine (131 ms of delay was measured under
// full load), so nothing shorter than this can tell death from noise.
const leastDetect = 300 * time.Millisecond

// Validate reports everything that is wrong with the document, one line each.
func (c Cluster) Validate() error {
	var p problems
	p.oneOf("durability", string(c.Durability), string(cluster.Quorum), string(cluster.Async))
	p.check(c.Copies >= 0, "copies", "%d copies make no sense; write 1 for three hosts, 2 for five", c.Copies)
	p.check(c.Copies > 0 || c.AllowSingleCopy || c.Durability == cluster.Async, "copies",
		"0 under durability quorum means that a commit may be lost with its host; set allow_single_copy: true if that is meant, or copies: 1")
	c.validateTimes(&p)
	c.Notify.validate(&p)
	for i, who := range c.Contacts {
		p.check(strings.TrimSpace(who) != "" && !strings.ContainsAny(who, "\n\r"), "contacts", "entry %d is empty or has several lines; write each as \"Anna Example, on call, +49 30 123456\"", i+1)
	}
	c.validateRouter(&p)
	c.PostgreSQL.validate(&p)
	return p.err()
}

func (c Cluster) validateTimes(p *problems) {
	detect, err := c.Detection.Time()
	if err != nil {
		p.add("detection", "%v", err)
		return
	}
	p.check(detect >= leastDetect, "detection", "%v is shorter than three heartbeats; write at least %v", detect, leastDetect)
	p.check(time.Duration(c.Lease) >= detect, "lease", "%v is shorter than the detection time of %v, so sessions would be cut before anyone suspects a failure; write %v",
		c.Lease, detect, Duration(detect+time.Second))
	p.check(c.GuardDelay > 0, "guard_delay", "must be more than 0; write 1s")
	p.check(c.AgentGrace >= 0, "agent_grace", "can't be negative; write 3s")
	p.check(c.AntiFlap >= 0, "anti_flap", "can't be negative; write 60s")
}

func (c Cluster) validateRouter(p *problems) {
	p.check(c.Router.Wait >= 0, "router.wait", "can't be negative; write 10s")
	p.check(c.Router.MaxSessions >= 0, "router.max_sessions", "can't be negative; write 0 for no limit of the router's own")
	p.check(c.Router.MaxWaiting >= 0, "router.max_waiting", "can't be negative; write 1000")
	p.check(!c.Router.FastPath || c.Router.MaxSessions == 0, "router.fast_path",
		"goes past the router, which could not keep max_sessions then; leave one of the two out (PostgreSQL's max_connections holds either way)")
}

var parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$`)

// ours are parameters that Standfast sets by itself, with the reason why the site may not.
var ours = map[string]string{
	"synchronous_standby_names":  "it follows durability and copies; change those",
	"synchronized_standby_slots": "it follows the commit rule, so that no subscriber gets ahead of it",
	"sync_replication_slots":     "it is on where wal_level is logical",
	"primary_conninfo":           "standbys connect through the member's relay",
	"primary_slot_name":          "each member has a slot of its name",
	"restore_command":            "WAL of any other origin would bypass the election",
	"recovery_target_timeline":   "standbys follow the primary of the newest term",
	"restart_after_crash":        "a crashed primary is replaced, not restarted in place",
	"listen_addresses":           "it follows the member's file; change listen there",
	"port":                       "it follows the member's file; change ports.postgres there",
	"unix_socket_directories":    "the member and its server meet there",
	"data_directory":             "it follows the member's file; change postgres.data_dir there",
	"hba_file":                   "write your lines under postgresql.hba",
	"ident_file":                 "write your lines under postgresql.ident",
	"hot_standby":                "standbys serve reads",
	"wal_log_hints":              "pg_rewind needs it",
	"cluster_name":               "it is the member's name",
	"update_process_title":       "it tells which clients are logging in when a server is closed to them",
}

// floor are parameters with values that would break a promise.
var floor = map[string]struct {
	bad []string
	why string
}{
	"fsync":              {[]string{"off", "false", "no", "0"}, "an acknowledged commit would be lost with a host's power"},
	"full_page_writes":   {[]string{"off", "false", "no", "0"}, "a torn page after a power loss could not be repaired"},
	"synchronous_commit": {[]string{"off", "local", "remote_write"}, "commits would be acknowledged before a standby has them on disk; leave it at on, or set durability: async"},
	"wal_level":          {[]string{"minimal"}, "standbys need replica or logical"},
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (pg PostgreSQL) validateSlots(p *problems) {
	const key = "postgresql.slots"
	seen := map[string]bool{}
	for i, s := range pg.Slots {
		p.check(slotName.MatchString(s.Name), key, "slot %d: the name %q may hold a-z, 0-9 and _ only, at most 63", i+1, s.Name)
		p.check(!strings.HasPrefix(s.Name, "standfast"), key, "slot %d: names that begin with standfast are Standfast's own; choose another than %q", i+1, s.Name)
		p.check(!seen[s.Name], key, "slot %d: %q is declared twice", i+1, s.Name)
		p.check(s.Database != "" && s.Plugin != "", key, "slot %d, %q, needs a database and a plugin, such as {name: %s, database: app, plugin: pgoutput}", i+1, s.Name, s.Name)
		seen[s.Name] = true
	}
	if len(pg.Slots) == 0 {
		return
	}
	for _, name := range sortedKeys(pg.Parameters) {
		v := strings.ToLower(string(pg.Parameters[name]))
		switch strings.ToLower(name) {
		case "wal_level":
			p.check(v == "logical", "postgresql.parameters."+name, "%s: the slots under postgresql.slots need logical; write that, or leave it out", v)
		case "hot_standby_feedback":
			off := slices.Contains([]string{"off", "false", "no", "0"}, v)
			p.check(!off, "postgresql.parameters."+name, "%s: the slots under postgresql.slots can't be kept on standbys without it; leave it out", v)
		}
	}
}

func (pg PostgreSQL) validateClients(p *problems) {
	const key = "postgresql.replication_clients"
	seen := map[string]bool{}
	for _, s := range pg.Slots {
		seen[s.Name] = true
	}
	for i, c := range pg.ReplicationClients {
		p.check(slotName.MatchString(c.Name), key, "client %d: the name %q may hold a-z, 0-9 and _ only, at most 63: it is that of a replication slot", i+1, c.Name)
		p.check(!strings.HasPrefix(c.Name, "standfast"), key, "client %d: names that begin with standfast are Standfast's own; choose another than %q", i+1, c.Name)
		p.check(!seen[c.Name], key, "client %d: there is another slot %q here or under postgresql.slots; choose another name", i+1, c.Name)
		p.check(len(c.LoginRole()) <= 63 && !strings.ContainsAny(c.Role, "\n\r\x00\""), key, "client %d: %q can't name a role", i+1, c.Role)
		p.check(!strings.HasPrefix(c.Role, "standfast") && !strings.HasPrefix(c.Role, "pg_"), key, "client %d: the role %q is not the site's to use; choose another", i+1, c.Role)
		seen[c.Name] = true
	}
}

// Collision names the first declared slot that would be a data member's own; "": none is.
func (pg PostgreSQL) Collision(members []string) string {
	for _, c := range pg.ReplicationClients {
		if slices.Contains(members, c.Name) {
			return c.Name
		}
	}
	return ""
}

func (pg PostgreSQL) validate(p *problems) {
	pg.validateSlots(p)
	pg.validateClients(p)
	for _, name := range sortedKeys(pg.Parameters) {
		key, low := "postgresql.parameters."+name, strings.ToLower(name)
		p.check(parameterName.MatchString(name), key, "is not a parameter's name; see \"select name from pg_settings\"")
		if why, ok := ours[low]; ok {
			p.add(key, "is set by Standfast: %s", why)
		}
		v := string(pg.Parameters[name])
		if f, ok := floor[low]; ok && slices.Contains(f.bad, strings.ToLower(v)) {
			p.add(key, "%s is refused: %s", v, f.why)
		}
		p.check(!strings.ContainsAny(v, "\n\r\x00"), key, "the value runs over several lines; write it on one")
	}
	kinds := []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
	for i, l := range pg.HBA {
		first, _, _ := strings.Cut(strings.TrimSpace(l), " ")
		first, _, _ = strings.Cut(first, "\t")
		ok := first == "" || strings.HasPrefix(first, "#") || slices.Contains(kinds, first)
		p.check(ok && !strings.ContainsAny(l, "\n\r"), "postgresql.hba", "line %d, %q, does not begin with local, host or hostssl; see pg_hba.conf in PostgreSQL's manual", i+1, l)
	}
	for i, l := range pg.Ident {
		ok := strings.HasPrefix(strings.TrimSpace(l), "#") || len(strings.Fields(l)) >= 3
		p.check(ok && !strings.ContainsAny(l, "\n\r"), "postgresql.ident", "line %d, %q, needs a map's name, a system user and a database user", i+1, l)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
