package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/doctor/facts"
)

// Measures of what clients do.
const (
	connectionsWarn, connectionsCritical = 80, 95 // percent of what clients may have
	longTransaction                      = time.Hour
	idleTransaction                      = 10 * time.Minute
	preparedTooLong                      = 10 * time.Minute
	blockedTooLong                       = time.Minute
)

// connections: nearly all are in use.
func connections(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		most := p.Clients.Max - p.Clients.Reserved
		used := percent(int64(p.Clients.Used), int64(most))
		sev := when(used >= connectionsCritical, used >= connectionsWarn)
		if sev == "" || most <= 0 {
			return nil
		}
		return one(sev, name, fmt.Sprintf("%d %% of the connections are in use", used), because("%d of %d (max_connections %d, %d reserved); %d active, %d idle in a transaction", p.Clients.Used, most, p.Clients.Max, p.Clients.Reserved, p.Clients.Active, p.Clients.Idle),
			c.sql("select usename, application_name, state, count(*) from pg_stat_activity group by 1, 2, 3 order by 4 desc limit 10"), "make the application's pools smaller, or: standfast config set postgresql.parameters.max_connections=… and standfast restart --pending")
	})
}

// pools: what is allowed to connect does not fit into max_connections.
func pools(c *Case) []Finding {
	p, st := c.primaryFacts(), c.status()
	if p == nil || st == nil {
		return nil
	}
	most := p.Clients.Max - p.Clients.Reserved
	var out []Finding
	limit := 0
	for _, b := range st.Router.Backends {
		if b.Side == "write" && b.Member == st.Primary {
			limit = b.Limit
		}
	}
	routers := 0
	for _, m := range st.Members {
		if m.Write != "" {
			routers++
		}
	}
	if limit > 0 && limit*routers > most {
		out = append(out, one(Warning, "", "the routers may open more sessions than the primary takes", because("%d routers × router.max_sessions %d = %d; max_connections leaves %d for clients", routers, limit, limit*routers, most),
			fmt.Sprintf("standfast config set router.max_sessions=%d", most/max(routers, 1)), "or raise postgresql.parameters.max_connections")...)
	}
	sum, names := 0, []string{}
	for _, r := range p.Roles {
		if r.Limit > 0 && !r.Super {
			sum += r.Limit
			names = append(names, fmt.Sprintf("%s %d", r.Name, r.Limit))
		}
	}
	if sum > most {
		out = append(out, one(Warning, "", "the roles may open more connections together than there are", because("CONNECTION LIMIT of %s = %d; max_connections leaves %d for clients", list(names), sum, most), "lower the limits (alter role … connection limit …) or raise postgresql.parameters.max_connections")...)
	}
	return out
}

// refusedClients: the log tells of clients that were turned away.
func refusedClients(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		add := func(kind, text string, fix ...string) {
			if l := logOf(f, "postgresql", kind); l != nil {
				out = append(out, one(Warning, name, text, because("%d times in the last hour of its log, the last at %s", l.Count, l.Last.UTC().Format("15:04:05 MST")), fix...)...)
			}
		}
		add("clients", "clients were refused for want of a connection", "connections and pools have the arithmetic", "standfast config set postgresql.parameters.max_connections=…")
		add("hba", "clients were refused by pg_hba.conf", "sudo grep 'no pg_hba.conf entry' "+c.dir()+"/log/postgresql.log | tail -n 3", "add their line: standfast config edit, under postgresql.hba")
		add("password", "clients gave a wrong password", "sudo grep 'password authentication failed' "+c.dir()+"/log/postgresql.log | tail -n 3")
		return out
	})
}

// routeWrong: a router sends writing clients elsewhere than to the primary.
func routeWrong(c *Case) []Finding {
	st := c.status()
	if st == nil || st.Primary == "" {
		return nil
	}
	var out []Finding
	for _, m := range c.Members {
		s := c.Statuses[m.Name]
		if s == nil || s.Router.Write.Target == "" || s.Router.Write.Target == st.Primary {
			continue
		}
		out = append(out, one(Critical, m.Name, fmt.Sprintf("its router sends writing clients to %s, and the primary is %s", s.Router.Write.Target, st.Primary), because("it is in term %d, the newest is %d", s.Term, st.Term),
			"sudo systemctl restart standfast (on its host; PostgreSQL goes on)", "standfast doctor --only routing")...)
	}
	return out
}

// routeNone: a router has nobody to send clients to.
func routeNone(c *Case) []Finding {
	var out []Finding
	for _, m := range c.Members {
		s := c.Statuses[m.Name]
		if s == nil || c.primary() == "" {
			continue
		}
		if w := s.Router.Write; w.Target == "" && !w.Hold && w.Why != "" {
			out = append(out, one(Critical, m.Name, "clients that write through its router are refused", []string{w.Why}, "standfast status", "mend what keeps it from the others: ports, majority")...)
		}
		if s.Router.Write.Waiting > 0 {
			out = append(out, one(Warning, m.Name, "clients wait in its router for a session", because("%d wait", s.Router.Write.Waiting), "a primary is being chosen, or router.max_sessions is in use: standfast status")...)
		}
	}
	return out
}

// addressAway: a floating address is on no host, or on the wrong one.
func addressAway(c *Case) []Finding {
	st := c.status()
	if st == nil {
		return nil
	}
	var out []Finding
	for _, a := range st.Address {
		e := because("follows the %s", a.Follows)
		for _, m := range c.Members {
			if s := c.Statuses[m.Name]; s != nil {
				for _, b := range s.Address {
					if b.Address == a.Address && b.Error != "" {
						e = append(e, m.Name+": "+b.Error)
					}
				}
			}
		}
		switch {
		case a.Holder == "" && st.Primary != "":
			out = append(out, one(Critical, "", fmt.Sprintf("the floating address %s is on no host", a.Address), e, "ip -brief address (on the primary's host)", "docs/ADDRESSES.md; the error above names the interface or the right that is missing")...)
		case a.Follows == "primary" && a.Holder != st.Primary && st.Primary != "":
			out = append(out, one(Critical, "", fmt.Sprintf("the floating address %s is on %s, and the primary is %s", a.Address, a.Holder, st.Primary), e, "standfast status --watch (it moves within a second of a change)", "sudo systemctl restart standfast on "+a.Holder)...)
		}
	}
	return out
}

// addressTwice: more than one host has a floating address, or a stranger answers for it.
func addressTwice(c *Case) []Finding {
	at, macs := map[string][]string{}, map[string]bool{}
	for _, m := range c.Members {
		if f := c.Facts[m.Name]; f != nil {
			for _, a := range f.Addresses {
				for _, mac := range a.Own {
					macs[mac] = true
				}
				if a.Here {
					at[a.Address] = append(at[a.Address], m.Name)
				}
			}
		}
	}
	var out []Finding
	for _, m := range c.Members {
		f := c.Facts[m.Name]
		if f == nil {
			continue
		}
		for _, a := range f.Addresses {
			if a.Answers != "" && !macs[a.Answers] && len(c.Silent) == 0 {
				out = append(out, one(Critical, m.Name, fmt.Sprintf("a host that is no member answers for the floating address %s", a.Address), because("from MAC %s", a.Answers), "find it by its MAC in the switch, and take the address off it", "ip neighbour show "+a.Address)...)
			}
		}
	}
	for _, address := range sortedKeys(at) {
		if names := at[address]; len(names) > 1 {
			out = append(out, one(Critical, "", fmt.Sprintf("the floating address %s is on %d hosts at once", address, len(names)), because("on %s; the primary is %s", list(names), c.primary()), "on the host that is not the primary's: ip -brief address; remove it with ip address del", "keepalived or the distribution's network files may put it there: leftover-units")...)
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// who names a session.
func who(s facts.Session) string {
	return fmt.Sprintf("process %d, %s in %s from %s (%s), %s for %s", s.PID, s.User, s.Database, s.Client, orText(s.Program, "no name"), orText(s.State, "running"), span(s.Since))
}

// longTransactions keep rows from being cleaned up, on all hosts.
func longTransactions(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var out []Finding
		for _, s := range p.Oldest {
			idle := strings.HasPrefix(s.State, "idle in")
			if s.Since < longTransaction && !(idle && s.Since >= idleTransaction) {
				continue
			}
			text := "a transaction has been open for long: dead rows pile up in all tables"
			if idle {
				text = "a session sits idle in a transaction: its locks stay and dead rows pile up"
			}
			out = append(out, one(Warning, name, text, []string{who(s)}, c.sql(fmt.Sprintf("select pg_terminate_backend(%d)", s.PID)), "for good: standfast config set postgresql.parameters.idle_in_transaction_session_timeout=10min")...)
		}
		return out
	})
}

// preparedTransactions were prepared and neither committed nor rolled back.
func preparedTransactions(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil {
		return nil
	}
	var out []Finding
	for _, s := range p.Prepared {
		if s.Since >= preparedTooLong {
			out = append(out, one(Warning, c.primary(), "a prepared transaction was never ended: its locks stay for ever", because("%s in %s, prepared %s ago by %s", s.GID, s.Database, span(s.Since), s.User),
				fmt.Sprintf("in %s: ROLLBACK PREPARED '%s' (or COMMIT PREPARED, as its coordinator says)", s.Database, s.GID))...)
		}
	}
	return out
}

// blocked sessions wait for a lock.
func blocked(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var out []Finding
		for _, s := range p.Blocked {
			if s.Since >= blockedTooLong {
				out = append(out, one(Warning, name, "a session waits for a lock that another one holds", because("%s, waits for process %d", who(s), s.By), c.sql(fmt.Sprintf("select pg_cancel_backend(%d)", s.By)))...)
			}
		}
		return out
	})
}

// hbaErrors: PostgreSQL can't read a line of pg_hba.conf, or one lets anybody in.
func hbaErrors(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var out []Finding
		for _, h := range p.HBA {
			if h.Error != "" {
				out = append(out, one(Warning, name, fmt.Sprintf("line %d of pg_hba.conf is not understood", h.Line), []string{h.Error}, "standfast config edit, under postgresql.hba")...)
			}
		}
		return out
	})
}

// hbaTrust: a line lets anybody in without a password.
func hbaTrust(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil {
		return nil
	}
	var out []Finding
	for _, h := range p.HBA {
		if h.Method == "trust" && !h.Ours {
			out = append(out, one(Warning, "", "pg_hba.conf lets clients in without a password (trust)", because("line %d: %s %s %s %s", h.Line, h.Type, list(h.Databases), list(h.Users), h.Address), "standfast config edit, under postgresql.hba: write scram-sha-256 instead")...)
		}
	}
	return out
}

// hbaGap: with the site's own lines in force, an application would be turned away when it comes through one of the routers, whose address
// is what PostgreSQL sees.
func hbaGap(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil || !slices.ContainsFunc(p.HBA, func(h facts.HBA) bool { return !h.Ours && h.Method != "reject" }) {
		return nil // closed to clients now, or nothing known
	}
	var out []Finding
	for _, r := range p.Roles {
		for _, db := range r.Databases {
			var refused []string
			for _, m := range c.Members {
				ip, err := netip.ParseAddr(m.Address)
				if err == nil && !admits(p.HBA, db, r.Name, ip) {
					refused = append(refused, m.Name)
				}
			}
			if len(refused) > 0 && !r.Super {
				out = append(out, one(Warning, "", fmt.Sprintf("%s would be refused in the database %s when it comes through some routers", r.Name, db), because("pg_hba.conf has no line for it from %s, whose address PostgreSQL sees", list(refused)),
					fmt.Sprintf(`standfast config edit, under postgresql.hba: host "%s" "%s" <each member's address>/32 scram-sha-256`, db, r.Name))...)
			}
		}
	}
	return out
}

// admits follows PostgreSQL: the first line that matches decides.
func admits(lines []facts.HBA, database, role string, from netip.Addr) bool {
	for _, h := range lines {
		if h.Error != "" || h.Type == "local" || !matches(h.Databases, database, role) || !matches(h.Users, role, "") || !covers(h, from) {
			continue
		}
		return h.Method != "reject"
	}
	return false
}

// matches reads a list of pg_hba.conf. What it can't judge (groups, patterns) counts as a match: a gap must be certain.
func matches(names []string, name, same string) bool {
	for _, n := range names {
		switch {
		case n == "all" || n == name, strings.HasPrefix(n, "+"), strings.HasPrefix(n, "/"), n == "samerole", n == "samegroup":
			return true
		case n == "sameuser" && name == same:
			return true
		}
	}
	return false
}

func covers(h facts.HBA, from netip.Addr) bool {
	ip, err := netip.ParseAddr(h.Address)
	if err != nil { // all, samehost, samenet, a host's name
		return h.Address != ""
	}
	mask, err := netip.ParseAddr(h.Mask)
	if err != nil {
		return ip == from
	}
	if ip.Is4() != from.Unmap().Is4() {
		return false
	}
	a, b, m := ip.AsSlice(), from.Unmap().AsSlice(), mask.AsSlice()
	for i := range a {
		if i >= len(m) || a[i]&m[i] != b[i]&m[i] {
			return false
		}
	}
	return true
}

// readUnreachable: no standby serves reads although there are some.
func noReaders(c *Case) []Finding {
	st := c.status()
	if st == nil || st.Primary == "" {
		return nil
	}
	standbys, readable := []string{}, 0
	for _, m := range st.Members {
		if m.Role == api.Standby && m.State == api.Running && !m.Draining {
			standbys = append(standbys, m.Name)
			if m.Readable {
				readable++
			}
		}
	}
	if len(standbys) == 0 || readable > 0 {
		return nil
	}
	return one(Warning, "", "no standby serves reads: they all go to the primary", because("running: %s", list(standbys)), "replication-lag and standby-detached say why")
}
