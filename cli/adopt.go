package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"standfast/config"
	"standfast/deploy"
	"standfast/deploy/plan"
	"standfast/deploy/probe"
	"standfast/deploy/survey"

	"github.com/google/renameio/v2"
)

type adoptCmd struct {
	membersFile
	Back   bool `help:"Give every server back to what ran it before. Not after --commit." xor:"end"`
	Commit bool `help:"End the way back: what only that needs is taken away." xor:"end"`
}

func (adoptCmd) Help() string {
	return `Makes a cluster of PostgreSQL that runs already, over ssh: of one server and new hosts. The server is not restarted and its sessions stay. Describe the hosts in cluster.yml as for standfast deploy; which of them has the primary is found out.

It looks first and reports: what is there, what will be taken over, what will be masked, in which order, and what it costs; it refuses what it can't take over, with the remedy. What the cluster inherits (directory, version, parameters, lines of pg_hba.conf and pg_ident.conf) is written into cluster.yml; the file as it was stays beside it.

Then the hosts are prepared, the primary's server goes on under Standfast, and the new hosts copy it. Interrupted anywhere, run it again: it goes on where it was. Until --commit, --back leads back, as long as the primary has not moved.

Examples:

    standfast adopt -f cluster.yml --dry-run
    standfast adopt -f cluster.yml
    standfast adopt -f cluster.yml --back
    standfast adopt -f cluster.yml --commit`
}

func (c *adoptCmd) Run(a *app) error {
	what := "adopted"
	switch {
	case c.Back:
		what = "given back"
	case c.Commit:
		what = "committed"
	}
	err := c.overSSH(a, what, c.adopt)
	if err != nil || c.DryRun || c.Back {
		return err
	}
	text := "standfast adopt --back leads back, standfast adopt --commit ends that; standfast restart --pending gives the primary its own start, when it suits you"
	if c.Commit {
		text = "it is a cluster like any other now: sudo standfast status, on any member"
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}

func (c *adoptCmd) adopt(a *app, r reached, o deploy.Options) (deploy.Changed, error) {
	for name, err := range r.down {
		return 0, &coded{Unsafe, fmt.Errorf("%s can't be reached: %w; nothing was changed", name, err)}
	}
	p, err := deploy.Adopted(r.deployment)
	if err != nil {
		return 0, err
	}
	if p == nil && (c.Back || c.Commit) {
		return 0, &deploy.Refusal{Reason: "nothing was taken over from here: " + r.deployment.Secrets + " knows of no adoption"}
	}
	if p == nil {
		if p, err = c.begin(a, &r); err != nil {
			return 0, err
		}
	}
	if c.Back || c.Commit {
		s, err := r.site(&plan.Report{})
		if err != nil {
			return 0, err
		}
		if c.Back {
			return deploy.Back(a.ctx, s, *p, o)
		}
		return deploy.Commit(a.ctx, s, *p, o)
	}
	s, err := a.lookAround(r, *p)
	if err != nil {
		return 0, err
	}
	return deploy.Adopt(a.ctx, s, *p, o)
}

// begin looks at what runs, tells, and remembers what is going to be taken over.
func (c *adoptCmd) begin(a *app, r *reached) (*survey.Plan, error) {
	said, err := servers(a.ctx, *r)
	if err != nil {
		return nil, err
	}
	found := survey.Look(r.deployment, said)
	a.findings(found.Findings)
	if found.Failed() {
		return nil, &coded{Unsafe, errors.New("it can't be taken over as it is; nothing was changed")}
	}
	text, err := os.ReadFile(c.File)
	if err != nil {
		return nil, err
	}
	whole, err := config.Inherit(c.File, text, found.Inherited)
	if err != nil {
		return nil, &coded{Unsafe, fmt.Errorf("%w: what the primary says can't be agreed upon", err)}
	}
	if r.deployment, err = config.ParseDeployment(c.File, whole); err != nil {
		return nil, err
	}
	fmt.Fprintf(a.stdout, "\nIn this order:\n\n")
	for i, s := range found.Plan.Steps(r.deployment) {
		fmt.Fprintf(a.stdout, "%3d  %s\n", i+1, wrap(s, a.out.width-1, "     "))
	}
	fmt.Fprintln(a.stdout)
	if c.DryRun {
		_, err := fmt.Fprintf(a.stdout, "%s would get what is inherited:\n%s\n", filepath.Base(c.File), added(string(text), string(whole)))
		return &found.Plan, err
	}
	if _, err := a.lookAround(*r, found.Plan); err != nil { // before the first trace
		return nil, err
	}
	before := c.File + ".before-adopt"
	if _, err := os.Stat(before); errors.Is(err, fs.ErrNotExist) { // else it is that of the first attempt
		if err := renameio.WriteFile(before, text, 0o600); err != nil {
			return nil, err
		}
	}
	if err := renameio.WriteFile(c.File, whole, 0o600); err != nil {
		return nil, err
	}
	return &found.Plan, deploy.KeepPlan(r.deployment, found.Plan)
}

// added are the lines of the second text that the first does not have.
func added(was, is string) string {
	have := map[string]bool{}
	for l := range strings.Lines(was) {
		have[strings.TrimSpace(l)] = true
	}
	var b strings.Builder
	for l := range strings.Lines(is) {
		if !have[strings.TrimSpace(l)] {
			b.WriteString("  " + l)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// servers asks every host what PostgreSQL runs there.
func servers(ctx context.Context, r reached) (map[string][]probe.Existing, error) {
	out := map[string][]probe.Existing{}
	for name, m := range r.machines {
		answer, err := m.Ask(ctx, probe.Request{Server: true})
		if err != nil {
			return nil, fmt.Errorf("ask %s what runs there: %w", name, err)
		}
		out[name] = answer.Server
	}
	return out, nil
}

// lookAround is phase 0 for hosts with servers that are taken over.
func (a *app) lookAround(r reached, p survey.Plan) (*deploy.Site, error) {
	look := r.plan()
	look.Adopts = p.Data
	report, err := plan.Look(a.ctx, look)
	if err != nil {
		return nil, err
	}
	if report.Failed() {
		a.findings(report.Findings)
		return nil, &coded{Unsafe, fmt.Errorf("%d of %d checks failed; nothing was changed by this run", report.Count(plan.Fail), len(report.Findings))}
	}
	return r.site(report)
}
