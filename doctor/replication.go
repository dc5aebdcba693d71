package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/doctor/facts"
)

// Measures of replication.
const (
	lagBytes     = 64 << 20 // as router.read_max_lag_bytes by default: beyond it a standby serves no reads
	lagCritical  = 4 << 30
	slotWarn     = 1 << 30 // WAL kept for a slot that nobody uses
	senderSilent = 5 * time.Second
)

// standbys calls ask for every standby of the newest term that answers, with its own status.
func (c *Case) standbys(ask func(m *api.Member, own *api.Status) []Finding) []Finding {
	st := c.status()
	if st == nil || st.Primary == "" {
		return nil
	}
	var out []Finding
	for i := range st.Members {
		m := &st.Members[i]
		if m.Role == api.Standby && m.State != api.Unreachable {
			out = append(out, ask(m, c.Statuses[m.Name])...)
		}
	}
	return out
}

// detached: a standby runs and does not follow the primary.
func detached(c *Case) []Finding {
	return c.standbys(func(m *api.Member, own *api.Status) []Finding {
		if m.State != api.Running || m.Attached {
			return nil
		}
		e := because("its relay does not carry the stream of term %d", c.status().Term)
		fix := []string{"sudo journalctl -u standfast -n 50 --no-pager (on its host)", "a moment of this after a change of primary is normal: standfast doctor --only standby-detached"}
		if f := c.Facts[m.Name]; f != nil {
			for _, r := range f.Reach {
				if r.Member == c.primary() && r.Port == "postgres" && r.Error != "" {
					e = append(e, fmt.Sprintf("it can't reach the primary's PostgreSQL at %s: %s", r.Address, r.Error))
					fix = append([]string{"open that port between the hosts: standfast plan -f cluster.yml --firewall nft prints the rules"}, fix...)
				}
			}
			for _, l := range f.Logs {
				if l.Kind == "wal gone" {
					e = append(e, "its log: the WAL that it needs has been removed on the primary")
					fix = append([]string{"sudo standfast reclone " + m.Name}, fix...)
				}
			}
		}
		return one(Critical, m.Name, "runs and does not follow the primary", e, fix...)
	})
}

// failed: a member's last attempt to start, rewind or clone has failed.
func failed(c *Case) []Finding {
	st := c.status()
	if st == nil {
		return nil
	}
	var out []Finding
	for _, m := range st.Members {
		if m.State != api.Failed && m.State != api.Stopped {
			continue
		}
		text, fix := "PostgreSQL does not run there", []string{"sudo tail -n 20 " + c.dir() + "/log/postgresql.log", "sudo journalctl -u standfast -n 50 --no-pager"}
		switch {
		case strings.HasPrefix(m.Note, "rewind"):
			text, fix = "rewinding its data fails; it is cloned instead if there is room", append([]string{"df -h " + c.dir(), "with room made it goes on by itself; or: sudo standfast reclone " + m.Name}, fix...)
		case strings.HasPrefix(m.Note, "clon"):
			text, fix = "cloning its data fails", append([]string{"df -h " + c.dir(), "with the cause mended it goes on by itself"}, fix...)
		case strings.HasPrefix(m.Note, "start"):
			text = "PostgreSQL does not start there"
		case m.Note == "":
			fix = append(fix, "a moment of this while it starts is normal: standfast status --watch")
		}
		var e []string
		if m.Note != "" {
			e = append(e, m.Note)
		}
		out = append(out, one(Critical, m.Name, text, e, fix...)...)
	}
	return out
}

// rebuilding: a member's data is being brought back.
func rebuilding(c *Case) []Finding {
	st := c.status()
	if st == nil {
		return nil
	}
	var out []Finding
	for _, m := range st.Members {
		if m.State == api.Cloning || m.State == api.Rewinding || m.State == api.Initialising {
			out = append(out, one(Notice, m.Name, "its data is being brought back; it comes by itself", []string{m.Note}, "standfast status --watch")...)
		}
	}
	return out
}

// stalled: PostgreSQL runs and does not answer, or its writes hang.
func stalled(c *Case) []Finding {
	var out []Finding
	for _, m := range c.Members {
		st := c.Statuses[m.Name]
		if st == nil || st.Me() == nil || st.Me().State != api.Stalled {
			continue
		}
		out = append(out, one(Critical, m.Name, "PostgreSQL runs there and does not answer, or its writes hang", because("%s", orText(st.Me().Note, "no answer in time")),
			"sudo dmesg -T | tail", "sudo iostat -x 1 3", "if it is the primary and does not recover: standfast failover")...)
	}
	return out
}

func orText(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// lag: a standby is far behind, with the cause as far as it can be seen.
func lag(c *Case) []Finding {
	return c.standbys(func(m *api.Member, own *api.Status) []Finding {
		if m.Lag == nil || *m.Lag < lagBytes {
			return nil
		}
		e := because("%s behind", size(*m.Lag))
		if own != nil && own.Me() != nil && own.Me().LagSeconds != nil {
			e = because("%s and %.0f s behind", size(*m.Lag), *own.Me().LagSeconds)
		}
		cause, fix := c.lagCause(m)
		return one(when(*m.Lag >= lagCritical, true), m.Name, "replays far behind the primary: "+cause, e, fix...)
	})
}

// lagCause tells a network or disk that is too slow from a replay that is held up.
func (c *Case) lagCause(m *api.Member) (string, []string) {
	f := c.Facts[m.Name]
	received := m.ReceiveLag != nil && *m.ReceiveLag < *m.Lag/2
	switch {
	case f != nil && f.Postgres != nil && f.Postgres.ReplayPaused:
		return "replay is paused", []string{"on its host: " + c.sql("select pg_wal_replay_resume()")}
	case f != nil && f.Postgres != nil && len(f.Postgres.Oldest) > 0 && received:
		s := f.Postgres.Oldest[0]
		return fmt.Sprintf("replay waits for a query of %s", s.User), []string{fmt.Sprintf("on its host: "+c.sql("select pg_cancel_backend(%d)"), s.PID), "long reports belong on another standby, or hold hot_standby_feedback and max_standby_streaming_delay lower"}
	case f != nil && f.Sync != nil && f.Sync.Median > syncWarn:
		return "its disk is slow", []string{"sudo iostat -x 1 3 (on its host)"}
	case received:
		return "it has received the WAL and can't replay it fast enough", []string{"sudo iostat -x 1 3 (on its host)", "a large write on the primary: wait"}
	}
	return "it receives WAL too slowly: the network or its disk", []string{"sudo iostat -x 1 3 (on its host)", "ping -c 5 " + c.address(c.primary()) + " (from its host)"}
}

// replayPaused: somebody has paused replay on a standby.
func replayPaused(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		if !p.ReplayPaused {
			return nil
		}
		return one(Warning, name, "replay is paused: it falls further and further behind", because("pg_is_wal_replay_paused() is true"), "on its host: "+c.sql("select pg_wal_replay_resume()"))
	})
}

// outOfRule: a standby follows and acknowledged commits do not count on it.
func outOfRule(c *Case) []Finding {
	return c.standbys(func(m *api.Member, own *api.Status) []Finding {
		st := c.status()
		if st.Commit.Durability == cluster.Async || !m.Attached || m.InRule || m.Priority == 0 || m.Leaving || m.State != api.Running {
			return nil
		}
		return one(Notice, m.Name, "follows, and does not count in the commit rule yet", because("%s", st.Commit.Text), "a moment of this is normal after it came back: standfast status --watch")
	})
}

// senderMissing: the primary does not send to a standby that says it follows.
func senderMissing(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil {
		return nil
	}
	return c.standbys(func(m *api.Member, own *api.Status) []Finding {
		i := slices.IndexFunc(p.Senders, func(s facts.Sender) bool { return s.Name == m.Name })
		if i >= 0 || !m.Attached || m.State != api.Running {
			return nil
		}
		return one(Warning, m.Name, "says that it follows, and the primary sends it nothing", because("pg_stat_replication on %s has no row of it", c.primary()), "standfast doctor --only sender-missing (a moment of this is normal)",
			"sudo journalctl -u standfast -n 50 --no-pager (on its host)")
	})
}

// receiverSilent: a standby's WAL receiver has heard nothing for long.
func receiverSilent(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		if p.Receiver == nil || p.Receiver.Silent < senderSilent || c.primaryFacts() == nil {
			return nil
		}
		return one(Warning, name, "its WAL receiver has heard nothing from the primary", because("for %s; state %s", span(p.Receiver.Silent), p.Receiver.Status), "sudo journalctl -u standfast -n 50 --no-pager (on its host)")
	})
}

// slotHolds: a slot that nobody uses keeps WAL.
func slotHolds(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var out []Finding
		for _, s := range p.Slots {
			if s.Active || s.Held < slotWarn || name != c.primary() {
				continue
			}
			fix := []string{"bring " + s.Name + " back; it goes on from there"}
			if !c.isMember(s.Name) {
				fix = []string{"start whoever receives from it", "or, if it is not needed any more, take it out of postgresql.replication_clients or postgresql.slots if it is there: standfast config edit", "and if it is not: sudo standfast slots drop " + s.Name}
			}
			e := because("%s of WAL, status %s", size(s.Held), s.Status)
			if p.WAL.Keep > 0 {
				e = because("%s of WAL, status %s; PostgreSQL gives it up at %s (max_slot_wal_keep_size)", size(s.Held), s.Status, size(p.WAL.Keep))
			}
			out = append(out, one(Warning, name, fmt.Sprintf("the slot %s holds WAL and nobody receives from it", s.Name), e, fix...)...)
		}
		return out
	})
}

func (c *Case) isMember(slot string) bool {
	return slices.ContainsFunc(c.Members, func(m Known) bool {
		return strings.ReplaceAll(strings.ToLower(m.Name), "-", "_") == slot || m.Name == slot
	})
}

// slotLost: PostgreSQL has given up, or is about to give up, a slot's WAL.
func slotLost(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var out []Finding
		for _, s := range p.Slots {
			if s.Status != "lost" && s.Status != "unreserved" {
				continue
			}
			text, sev := fmt.Sprintf("the slot %s is invalidated: its WAL is gone", s.Name), Critical
			if s.Status == "unreserved" {
				text, sev = fmt.Sprintf("the slot %s is about to lose its WAL", s.Name), Warning
			}
			fix := "a declared one: take it out (standfast config edit) and declare it again; a stranger's: sudo standfast slots drop " + s.Name + "; then begin anew, a base backup for Barman, a new subscription for logical"
			if c.isMember(s.Name) {
				fix = "the member is cloned by itself when it comes back; to do it now: sudo standfast reclone " + s.Name
			}
			out = append(out, one(sev, name, text, because("wal_status is %s; max_slot_wal_keep_size %s", s.Status, size(p.WAL.Keep)), fix)...)
		}
		return out
	})
}

// foreignSlot: a slot that is neither a member's nor declared is not kept by a failover.
func foreignSlot(c *Case) []Finding {
	p, st := c.primaryFacts(), c.status()
	if p == nil {
		return nil
	}
	var out []Finding
	for _, s := range p.Slots {
		declared := slices.ContainsFunc(st.ReplicationClients, func(r api.ReplicationClient) bool { return r.Name == s.Name })
		if s.Type != "physical" || c.isMember(s.Name) || declared {
			continue
		}
		out = append(out, one(Warning, "", fmt.Sprintf("the slot %s is not declared: a failover does not keep it", s.Name), because("it is on %s only, %s", c.primary(), map[bool]string{true: "in use", false: "not in use"}[s.Active]),
			fmt.Sprintf("standfast config set postgresql.replication_clients='[{name: %s}]'", s.Name), "or drop it: sudo standfast slots drop "+s.Name)...)
	}
	return out
}

// clientAway: a declared replication client is not connected.
func clientAway(c *Case) []Finding {
	st := c.status()
	if st == nil {
		return nil
	}
	var out []Finding
	for _, r := range st.ReplicationClients {
		if !r.Receiving {
			out = append(out, one(Warning, "", fmt.Sprintf("the replication client %s is not connected", r.Name), because("%s of WAL is kept for it", size(r.Held)),
				"start it; docs/RECEIVERS.md", "if it is gone for good take it out: standfast config edit")...)
		}
	}
	return out
}

// commitsWait: sessions wait for a standby.
func commitsWait(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil || p.Waiting.Commits == 0 || p.Waiting.Longest < time.Second {
		return nil
	}
	return one(Critical, c.primary(), fmt.Sprintf("%d commits wait for a standby", p.Waiting.Commits), append(because("the longest for %s", span(p.Waiting.Longest)), c.status().Commit.Text),
		"bring a standby back: standby-detached and agent-down say which", "do not cancel them: PostgreSQL would report a success that no copy has")
}

// optOut: commits of a role or a database do not wait for a copy.
func optOut(c *Case) []Finding {
	p, st := c.primaryFacts(), c.status()
	if p == nil || st.Commit.Durability == cluster.Async {
		return nil
	}
	var out []Finding
	for _, o := range p.OptOuts {
		who, fix := "", ""
		switch {
		case o.Role != "" && o.Database != "":
			who, fix = fmt.Sprintf("%s in %s", o.Role, o.Database), fmt.Sprintf(`alter role \"%s\" in database \"%s\" reset synchronous_commit`, o.Role, o.Database)
		case o.Role != "":
			who, fix = "the role "+o.Role, fmt.Sprintf(`alter role \"%s\" reset synchronous_commit`, o.Role)
		default:
			who, fix = "the database "+o.Database, fmt.Sprintf(`alter database \"%s\" reset synchronous_commit`, o.Database)
		}
		out = append(out, one(Warning, "", fmt.Sprintf("commits of %s do not wait for a copy: a failover may lose them", who), because("synchronous_commit=%s is set for it (pg_db_role_setting)", o.Value), "on "+c.primary()+": "+c.sql(fix))...)
	}
	return out
}

// asyncMode: the cluster is configured to lose what a standby does not have.
func asyncMode(c *Case) []Finding {
	st := c.status()
	if st == nil || st.Commit.Durability != cluster.Async {
		return nil
	}
	return one(Notice, "", "durability is async: a failover may lose the newest commits", []string{st.Commit.Text}, "if that is not meant: standfast config set durability=quorum")
}
