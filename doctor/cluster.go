package doctor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/doctor/facts"
)

// noSuchTerm bounds how many unplanned changes of primary a day are no sign of trouble.
const calmChanges = 3

// agentDown: the member's standfast does not answer. Whether its host lives is told by the others' attempts to reach it.
func agentDown(c *Case) []Finding {
	var out []Finding
	for _, m := range c.Members {
		why, silent := c.Silent[m.Name]
		if !silent {
			continue
		}
		e := []string{why}
		alive, dead := c.hostAnswers(m.Name)
		fix := []string{"on its host: sudo systemctl status standfast", "sudo journalctl -u standfast -n 50 --no-pager"}
		text := "standfast does not answer there"
		switch {
		case alive != "":
			text = "its host is up and standfast does not run there"
			e = append(e, alive)
			fix = append([]string{"on its host: sudo systemctl start standfast"}, fix[1:]...)
		case dead != "":
			text = "its host does not answer: it is off, cut off, or behind a firewall"
			e = append(e, dead)
			fix = []string{"ping -c 3 " + m.Address, "switch it on or mend the network; it comes back by itself"}
		}
		out = append(out, one(Critical, m.Name, text, e, fix...)...)
	}
	return out
}

// hostAnswers says by what it is known that a member's host is up, or that it is not.
func (c *Case) hostAnswers(name string) (alive, dead string) {
	if c.Self == name {
		return "this is its host", ""
	}
	var refused, silent []string
	for _, m := range c.Members {
		f := c.Facts[m.Name]
		if f == nil {
			continue
		}
		for _, r := range f.Reach {
			switch {
			case r.Member != name:
			case r.Refused || r.Error == "":
				refused = append(refused, m.Name)
			default:
				silent = append(silent, m.Name)
			}
		}
	}
	refused, silent = slices.Compact(refused), slices.Compact(silent)
	switch {
	case len(refused) > 0:
		return fmt.Sprintf("its host answers %s, and nothing listens on standfast's ports", list(refused)), ""
	case len(silent) > 0:
		return "", fmt.Sprintf("no port of it answers %s", list(silent))
	}
	return "", ""
}

// agentFails: systemd starts the agent again and again, or has given it up, or PostgreSQL's service failed.
func agentFails(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, u := range f.Units {
			if u.Name == "standfast.service" && (u.Active == "failed" || u.Sub == "auto-restart" || u.Active == "activating" && u.Restart > 2) {
				out = append(out, one(Critical, name, "standfast fails to start", because("systemd: %s, %s, result %s, started again %d times", u.Active, u.Sub, u.Result, u.Restart),
					"sudo journalctl -u standfast -n 50 --no-pager", "its last line names the remedy; docs/CLI.md, \"When it says no\", lists them")...)
			}
		}
		for _, t := range f.Taken {
			out = append(out, one(Critical, name, "another program has standfast's port "+t.Name, []string{t.By}, "sudo ss -lntup", "stop that program, or give other ports in the member's file")...)
		}
		return out
	})
}

// noMajority: the members that answer can't agree on anything.
func noMajority(c *Case) []Finding {
	var well, ill []string
	var why string
	for _, m := range c.Members {
		switch st := c.Statuses[m.Name]; {
		case st == nil:
			ill = append(ill, m.Name)
		case st.Store.OK:
			well = append(well, m.Name)
		default:
			ill = append(ill, m.Name)
			why = st.Store.Error
		}
	}
	switch {
	case len(well) == 0 && len(c.Statuses) > 0:
		e := because("no member that answers reaches a majority of the stores (etcd); missing: %s", list(ill))
		if why != "" {
			e = append(e, why)
		}
		return one(Critical, "", "no majority: no failover can be decided and no setting changed", e, "bring one of the missing hosts back; nothing is lost, and nothing else is to be done")
	case len(well) == 0:
		return one(Critical, "", "no member answers at all", because("asked: %s", list(ill)), "on each host: sudo systemctl status standfast", "docs/TROUBLESHOOTING.md, \"Everything is broken\"")
	}
	var out []Finding
	for _, name := range ill {
		if c.Statuses[name] != nil {
			out = append(out, one(Warning, name, "its store (etcd) does not answer: it can decide nothing", because("the others reach theirs"),
				"sudo tail -n 20 "+c.dir()+"/log/etcd.log")...)
		}
	}
	return out
}

func (c *Case) dir() string {
	if c.StateDir != "" {
		return c.StateDir
	}
	return "/var/lib/standfast"
}

// noPrimary: nobody takes writes.
func noPrimary(c *Case) []Finding {
	st := c.status()
	if st == nil {
		return nil
	}
	own := c.Statuses[st.Primary]
	if own != nil && own.Me() != nil && own.Me().Writable {
		return nil
	}
	e := because("term %d is %s%s", st.Term, st.Phase, reasonOf(st))
	for _, m := range c.Members {
		if s := c.Statuses[m.Name]; s != nil && s.Router.Write.Why != "" {
			e = append(e, m.Name+" tells clients: "+s.Router.Write.Why)
			break
		}
	}
	fix := []string{"standfast status", "bring back a host that is missing, then it goes on by itself", "if what is missing is gone for good: standfast promote --dry-run"}
	switch {
	case st.Primary != "" && own == nil && c.elsewhere(st, st.Primary):
		return nil // another member hears it take writes: agent-down tells the rest
	case st.Phase == cluster.Reigning && len(st.Commit.Rule.Of) > 0 && st.Commit.Spare < 0:
		return one(Critical, "", "nobody takes writes: commits would wait for a standby", append(e, st.Commit.Text), fix...)
	}
	return one(Critical, "", "nobody takes writes", e, fix...)
}

// elsewhere reports whether a member that answers hears the named one as an open primary.
func (c *Case) elsewhere(st *api.Status, name string) bool {
	m := st.Member(name)
	return m != nil && m.Writable && m.State != api.Unreachable
}

func reasonOf(st *api.Status) string {
	if st.Reason == "" {
		return ""
	}
	return ": " + st.Reason
}

// splitBrain: two servers of this cluster's data are open as primary.
func splitBrain(c *Case) []Finding {
	var open []string
	systems := map[string]string{}
	for _, m := range c.Members {
		f := c.Facts[m.Name]
		if f != nil && f.Postgres != nil {
			if !f.Postgres.Recovery {
				open = append(open, m.Name)
			}
			systems[m.Name] = f.Postgres.SystemID
		}
	}
	if len(open) < 2 {
		return nil
	}
	st, writable := c.status(), []string{}
	for _, n := range open {
		if s := c.Statuses[n]; s != nil && s.Me() != nil && s.Me().Writable {
			writable = append(writable, n)
		}
	}
	e := because("pg_is_in_recovery() is false on %s; term %d names %s", list(open), st.Term, st.Primary)
	if len(writable) < 2 {
		return one(Warning, "", "two servers are out of recovery; one of them takes no clients", e, "wait a moment: a former primary is stopped and brought back by itself", "standfast doctor --only split-brain")
	}
	return one(Critical, "", "two primaries take clients (split brain)", e,
		"on the host of each that is not "+st.Primary+": sudo standfast node stop --now", "keep its data directory, and report this: it is a bug of the gravest kind")
}

// systemDiffers: a member's data belongs to another cluster.
func systemDiffers(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil {
		return nil
	}
	return c.servers(func(name string, s *facts.Postgres) []Finding {
		if s.SystemID == "" || s.SystemID == p.SystemID {
			return nil
		}
		return one(Critical, name, "its PostgreSQL holds another cluster's data", because("system identifier %s, the primary's is %s", s.SystemID, p.SystemID),
			"move its data directory aside on its host; the member is cloned then")
	})
}

// paused: failover was paused and not resumed.
func paused(c *Case) []Finding {
	st := c.status()
	if st == nil || !st.Paused {
		return nil
	}
	until := "until somebody resumes it"
	if !st.PausedUntil.IsZero() {
		until = "until " + st.PausedUntil.UTC().Format("2006-01-02 15:04 MST")
	}
	return one(Warning, "", "automatic failover is paused: a primary that dies is not replaced", because("%s", until), "standfast resume")
}

// requestWaits: an operator's request is not carried out.
func requestWaits(c *Case) []Finding {
	st := c.status()
	if st == nil || st.Request == nil || c.Now.Sub(time.UnixMilli(st.Request.At)) < time.Minute {
		return nil
	}
	r := st.Request
	to := ""
	if r.To != "" {
		to = " to " + r.To
	}
	return one(Warning, "", fmt.Sprintf("a %s%s was asked for and is not carried out", r.Kind, to), because("since %s, by %s", span(c.Now.Sub(time.UnixMilli(r.At))), r.By),
		"standfast status", "its target has to catch up first; ask again when that is mended")
}

// leaving: a removal was begun and not ended.
func leaving(c *Case) []Finding {
	st := c.status()
	if st == nil {
		return nil
	}
	var out []Finding
	for _, m := range st.Members {
		if m.Leaving {
			out = append(out, one(Warning, m.Name, "its removal from the cluster was begun and is not done", nil, "standfast node remove "+m.Name)...)
		}
	}
	return out
}

// nextLoss: what the loss of one more host would mean.
func nextLoss(c *Case) []Finding {
	st := c.status()
	if st == nil || st.Primary == "" || st.Commit.Durability == cluster.Async && st.Commit.Text == "" {
		return nil
	}
	fix := []string{"bring the missing standbys back: what else is told here says which, and why"}
	heard := 0
	for _, m := range st.Members {
		if m.State != api.Unreachable {
			heard++
		}
	}
	switch {
	case len(st.Members) < 3:
		return one(Notice, "", "with fewer than three members the loss of one stops failover", because("%d members", len(st.Members)), "standfast node add")
	case st.Commit.Durability == cluster.Async:
		return nil // asyncMode tells
	case st.Commit.Rule.K == 0:
		return one(Warning, "", "commits are on the primary's host alone: with that host its newest commits would be lost", []string{st.Commit.Text}, fix...)
	case st.Commit.Spare < 0:
		return one(Critical, "", "commits wait now, for too few standbys are there", []string{st.Commit.Text}, fix...)
	case st.Commit.Spare == 0 && heard < len(st.Members):
		return one(Warning, "", "if one more host fails, writing stops until one is back", []string{st.Commit.Text}, fix...)
	case st.Commit.Spare == 0:
		return one(Warning, "", "if a standby fails now, writing waits until it is back", []string{st.Commit.Text}, fix...)
	}
	return nil
}

// copies: how many copies of the data are there.
func copies(c *Case) []Finding {
	st := c.status()
	if st == nil || st.Primary == "" {
		return nil
	}
	var have, lack []string
	for _, m := range st.Members {
		switch {
		case m.Role == api.Witness:
		case m.State == api.Running && (m.Role == api.Primary || m.Attached):
			have = append(have, m.Name)
		default:
			lack = append(lack, m.Name)
		}
	}
	if len(have) > 1 || len(lack) == 0 {
		return nil
	}
	return one(Critical, "", fmt.Sprintf("there is %d current copy of the data", len(have)), because("current: %s; not: %s", list(have), list(lack)), "bring a standby back before anything else; what else is told here says why it is away")
}

// versions: members run different versions of standfast.
func versions(c *Case) []Finding {
	by := map[string][]string{}
	for _, m := range c.Members {
		if st := c.Statuses[m.Name]; st != nil {
			by[st.Version] = append(by[st.Version], m.Name)
		}
	}
	return differ(by, "members run different versions of standfast", "install the same version on all hosts, the primary's last")
}

// differ warns when there is more than one group.
func differ(by map[string][]string, text string, fix ...string) []Finding {
	if len(by) < 2 {
		return nil
	}
	var e []string
	for v, names := range by {
		e = append(e, fmt.Sprintf("%s: %s", v, list(names)))
	}
	slices.Sort(e)
	return one(Warning, "", text, e, fix...)
}

// flapping: the primary has changed unplanned again and again.
func flapping(c *Case) []Finding {
	var reasons []string
	for _, e := range c.History {
		if e.Kind == "failover" && c.Now.Sub(time.UnixMilli(e.At)) < 24*time.Hour {
			reasons = append(reasons, fmt.Sprintf("%s: %s took over: %s", time.UnixMilli(e.At).UTC().Format("15:04 MST"), e.Primary, e.Reason))
		}
	}
	if len(reasons) <= calmChanges {
		return nil
	}
	return one(Warning, "", fmt.Sprintf("%d failovers within a day", len(reasons)), reasons[len(reasons)-calmChanges:], "standfast history", "a longer detection time if hosts stall: standfast config set detection=vm")
}

// lost: a failover has cost commits, or set some aside.
func lost(c *Case) []Finding {
	var out []Finding
	for _, e := range c.History {
		if e.Lost != "" && c.Now.Sub(time.UnixMilli(e.At)) < 7*24*time.Hour {
			out = append(out, one(Warning, "", fmt.Sprintf("acknowledged commits may have been lost in term %d", e.Term), []string{e.Lost}, fmt.Sprintf("standfast history --term %d", e.Term))...)
		}
	}
	return out
}

// told are the warnings of a status that a check of its own tells better.
var told = regexp.MustCompile(`^(no writes|no majority|the store \(etcd\)|\S+ is not heard from|changed parameters wait|automatic failover is paused|the clock of|\S+ is being removed|the cluster has not been founded)`)

// says passes on what members warn of and no other check knows.
func says(c *Case) []Finding {
	var out []Finding
	for _, m := range c.Members {
		st := c.Statuses[m.Name]
		if st == nil {
			continue
		}
		for _, w := range st.Warnings {
			failed := slices.ContainsFunc(st.Members, func(o api.Member) bool { return o.Note != "" && strings.Contains(w, o.Note) })
			if told.MatchString(w) || failed || slices.ContainsFunc(out, func(f Finding) bool { return f.Text == w }) {
				continue
			}
			out = append(out, Finding{Severity: Warning, Text: w, Evidence: because("%s says so in its status", m.Name), Fix: []string{"standfast status"}})
		}
	}
	return out
}

// founded: the cluster has never been founded.
func founded(c *Case) []Finding {
	st := c.status()
	if st == nil || st.Term != 0 {
		return nil
	}
	return one(Critical, "", "the cluster has not been founded yet: every data member has to run once", st.Warnings, "start standfast on all hosts: sudo systemctl start standfast")
}
