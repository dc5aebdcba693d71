package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/renameio/v2"

	"standfast/config"
	"standfast/doctor/facts"
	"standfast/ops"
	"standfast/runbook"
)

type runbookCmd struct {
	Out string `help:"Where to write; without it standard output." short:"o" placeholder:"FILE" type:"path"`
}

func (runbookCmd) Help() string {
	return `This site's own reference card in Markdown: what to type when something happens, hosts, addresses, ports, files, who is called, and what is due to be tried. Print it and keep it where it can be read when the cluster is down; print it again after changes. With no member that answers it is written from this host's file.

Whoever is to be called stands in the agreed configuration: standfast config set contacts='["Anna Example, on call, +49 30 123456"]'. Run as root or as the user that standfast runs as, it has that, and what the archive last did; otherwise it does not.

Examples:

    sudo standfast runbook > runbook.md
    sudo standfast runbook | pandoc -o runbook.pdf`
}

func (c *runbookCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	file, err := a.file()
	if err != nil {
		return err
	}
	text, err := runbook.Markdown(a.site(n, file))
	if err != nil {
		return err
	}
	if c.Out == "" {
		_, err = a.stdout.Write(text)
		return err
	}
	if err := renameio.WriteFile(c.Out, text, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", c.Out, err)
	}
	fmt.Fprintf(a.stderr, "wrote %s\n", c.Out)
	return nil
}

// site is what can be found out about the cluster. What can't is said on standard error, for the card is of use all the same.
func (a *app) site(n config.Node, file string) runbook.Site {
	s := runbook.Site{Node: n, File: file, Agreed: n.Bootstrap, Now: time.Now(), Version: version}
	cl, err := a.connect()
	if err == nil {
		defer cl.Close()
		err = a.ask(cl, &s)
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "%s %v\n", a.err.warn("not all is known:"), err)
	}
	return s
}

// ask fills in what the members tell, as far as they do.
func (a *app) ask(cl *ops.Cluster, s *runbook.Site) error {
	ctx, cancel := context.WithTimeout(a.ctx, liveTime)
	defer cancel()
	var err error
	if s.Status, _, err = cl.Status(ctx); err != nil {
		return err
	}
	if s.History, err = cl.History(ctx); err != nil {
		return err
	}
	agreed, err := cl.Agreed(ctx)
	if err != nil {
		return err
	}
	if s.Agreed, err = config.ParseCluster("the agreed configuration", []byte(agreed.YAML)); err != nil {
		return err
	}
	m := s.Status.Member(s.Status.Primary)
	if m == nil {
		return nil // the archive is its
	}
	var f facts.Member
	for _, d := range cl.Documents(ctx, "/facts", m.Admin) {
		if err := d.Err; err != nil {
			return err
		}
		if err := json.Unmarshal(d.Body, &f); err != nil {
			return fmt.Errorf("read what %s tells of its archive: %w", m.Name, err)
		}
	}
	if f.Postgres != nil {
		s.Asked, s.Archive = true, runbook.Archive{Mode: f.Postgres.Archive.Mode, LastOK: f.Postgres.Archive.LastOK, Failed: f.Postgres.Archive.LastFailed}
	}
	return nil
}
