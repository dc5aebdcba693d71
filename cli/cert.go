package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"standfast/ops"
)

type certCmd struct {
	List   certListCmd   `cmd:"" help:"Show how long the members' certificates are good."`
	Rotate certRotateCmd `cmd:"" help:"Give members new keys and certificates now."`
}

type certListCmd struct {
	Output string `help:"text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
}

func (certListCmd) Help() string {
	return `Looks at what each member shows: its api, its etcd and its PostgreSQL. Certificates are renewed by the members themselves when a third of their life is left, four months before their end, and nothing is restarted for it.

Example:

    standfast cert list`
}

// shownCerts is what cert list prints for programs.
type shownCerts struct {
	Members     []ops.Certificate `json:"members"`
	Authorities []ops.Authority   `json:"authorities"`
}

func (c *certListCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	members, authorities, err := cl.Certificates(a.ctx)
	if err != nil {
		return usage("%w; %s", err, runElse)
	}
	switch c.Output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(shownCerts{members, authorities})
	case "yaml":
		return writeYAML(a.stdout, shownCerts{members, authorities})
	}
	now := time.Now()
	who, until, days, note := column{head: "OF"}, column{head: "UNTIL"}, column{head: "DAYS", right: true}, column{head: "NOTE"}
	add := func(of string, end time.Time, text string) {
		who.cells, note.cells = append(who.cells, of), append(note.cells, text)
		if end.IsZero() {
			until.cells, days.cells = append(until.cells, "-"), append(days.cells, "-")
			return
		}
		until.cells, days.cells = append(until.cells, end.UTC().Format(time.DateOnly)), append(days.cells, strconv.Itoa(int(end.Sub(now).Hours()/24)))
	}
	for _, m := range members {
		text := m.Error
		if len(m.Stale) > 0 {
			text = strings.Join(m.Stale, " and ") + " shows an older one: standfast cert rotate " + m.Member
		}
		add(m.Member, m.Until, text)
	}
	for _, ca := range authorities {
		add("("+ca.Name+")", ca.Until, "")
	}
	writeTable(a.stdout, a.out, []column{who, until, days, note}, len(who.cells))
	return nil
}

type certRotateCmd struct {
	Members []string `arg:"" optional:"" help:"Whose; without it all, one after another."`
}

func (certRotateCmd) Help() string {
	return `For a key that somebody may have seen. Connections stay, PostgreSQL is not restarted, no failover takes place. The old certificate is good until its end: nothing takes it back but a new authority, and rotating that is not there yet.

Examples:

    standfast cert rotate
    standfast cert rotate pg2`
}

func (c *certRotateCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	err = cl.RenewCertificates(a.ctx, c.Members, s.show)
	s.end()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, "done; see standfast cert list")
	return err
}
