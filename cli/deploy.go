package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/deploy"
	"standfast/deploy/bundle"
	"standfast/deploy/distro"
	"standfast/deploy/plan"
	"standfast/deploy/remote"
	"standfast/packaging"

	"golang.org/x/sys/unix"
)

type deployCmd struct {
	File   string        `help:"The cluster's description." short:"f" default:"cluster.yml" placeholder:"FILE" type:"path"`
	DryRun bool          `help:"Look which steps are due, change nothing." name:"dry-run"`
	Bundle string        `help:"Take packages from this file, made by standfast bundle; nothing is fetched." placeholder:"FILE" type:"path"`
	Phase  int           `help:"Carry out one phase only, 1 to 5." placeholder:"N"`
	Wait   time.Duration `help:"How long the cluster may take to become whole." default:"3m" placeholder:"TIME"`
	Check  bool          `help:"As --dry-run, and exit with 5 if a step is due."`
	Diff   bool          `help:"Show which lines of files change."`
	Output string        `help:"text or json." short:"o" enum:"text,json" default:"text"`
}

func (deployCmd) Help() string {
	return `First looks at every host, as standfast plan does, and goes no further if anything is in the way. Then, on all hosts at the same time:

  1 install     PostgreSQL from the distribution, the PostgreSQL project or a bundle, this program, its services
  2 configure   certificates, secrets and configuration; standfast starts and founds the cluster
  3 replicate   proven: a commit on the primary is read on every standby
  4 serve       the applications' roles and databases; proven: they log in through every port, from other hosts
  5 prove       only where this deployment has just founded the cluster and nothing is in it: PostgreSQL is killed on the primary under load, and the role handed back; the outages are printed, and what was lost. Otherwise see standfast validate

Every step looks first whether it is done. Interrupted anywhere, run it again: it goes on where it was. Where all is done it changes nothing.

The certificate authority, keys and passwords are kept in ./standfast-CLUSTER beside cluster.yml, and a log of what was done; keep that directory in a safe place.

For Ansible and its like: --check changes nothing and exits with 0 where nothing is due, with 5 where something is; --diff shows the lines that change, secrets left out; -o json tells every step, whether it changed something, and what failed. The command is called apply too.

Examples:

    standfast deploy -f cluster.yml --dry-run
    standfast deploy -f cluster.yml
    standfast deploy -f cluster.yml --bundle standfast-main-debian-13.tar
    standfast apply -f cluster.yml --check --diff -o json`
}

func (c *deployCmd) Run(a *app) error {
	if c.Phase < 0 || c.Phase > 5 {
		return usage("--phase %d: there are the phases 1 to 5", c.Phase)
	}
	if c.Wait <= 0 {
		return usage("--wait %s: give it some time, such as 3m", c.Wait)
	}
	d, err := readDeployment(c.File)
	if err != nil {
		return err
	}
	from, err := openBundle(c.Bundle)
	if err != nil {
		return err
	}
	c.DryRun = c.DryRun || c.Check
	log, unlock, err := openLog(d, c.DryRun)
	if err != nil {
		return err
	}
	defer unlock()
	began := time.Now()
	report := &deployReport{Cluster: d.Cluster, Check: c.DryRun}
	changed, err := c.reachAndDeploy(a, d, from, log, report)
	took := time.Since(began)
	if err != nil {
		log.Error("ended", "error", err)
	} else {
		log.Info("ended", "changed", int(changed))
	}
	if c.Output == "json" {
		err = errors.Join(err, report.write(a.stdout, err, took))
	} else if err == nil {
		err = a.deployed(d, c, changed, took)
	}
	if err == nil && c.Check && changed > 0 {
		return &coded{code: Due}
	}
	return err
}

// reachAndDeploy connects, and has the hosts for itself while it changes them.
func (c *deployCmd) reachAndDeploy(a *app, d config.Deployment, from *bundle.Bundle, log *slog.Logger, report *deployReport) (changed deploy.Changed, err error) {
	r, closeAll, err := reach(a.ctx, d)
	if err != nil {
		return 0, err
	}
	r.bundle = from
	defer func() { err = errors.Join(err, closeAll()) }()
	if !c.DryRun {
		release, err := take(a.ctx, r)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	return c.deploy(a, r, log, report)
}

// take locks the hosts that can be reached; without the others nothing is done.
func take(ctx context.Context, r reached) (release func() error, err error) {
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed host"
	}
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	who := fmt.Sprintf("%s on %s (process %d, cluster %s, since %s)", name, host, os.Getpid(), r.deployment.Cluster, time.Now().Format(time.DateTime))
	release, err = deploy.Take(ctx, r.plan().Hosts, who)
	var busy *deploy.BusyError
	if errors.As(err, &busy) {
		err = &coded{Unsafe, fmt.Errorf("%w; nothing was changed", err)}
	}
	return release, err
}

// openLog opens the deployment's log, and sees to it that nobody else deploys the same cluster from here. A dry run writes none.
func openLog(d config.Deployment, dry bool) (*slog.Logger, func(), error) {
	if dry {
		return slog.New(slog.NewTextHandler(io.Discard, nil)), func() {}, nil
	}
	if err := os.MkdirAll(d.Secrets, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the directory of the secrets: %w", err)
	}
	path := filepath.Join(d.Secrets, "deploy.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, nil, &coded{Unsafe, fmt.Errorf("another deployment of %s runs: it has %s locked", d.Cluster, path)}
	}
	return slog.New(slog.NewTextHandler(f, nil)), func() { f.Close() }, nil
}

func (c *deployCmd) deploy(a *app, r reached, log *slog.Logger, told *deployReport) (deploy.Changed, error) {
	log.Info("began", "file", c.File, "phase", c.Phase)
	report, err := plan.Look(a.ctx, r.plan())
	if err != nil {
		return 0, err
	}
	for _, f := range report.Findings {
		log.Info("looked", "level", f.Level, "host", f.Host, "check", f.Check, "found", f.Text)
	}
	told.looked(report)
	if report.Failed() {
		if c.Output == "text" {
			a.findings(report.Findings)
		}
		return 0, &coded{Unsafe, fmt.Errorf("%d of %d checks failed; nothing was changed", report.Count(plan.Fail), len(report.Findings))}
	}
	s, err := r.site(report)
	if err != nil {
		return 0, err
	}
	s.Patience = c.Wait
	show := a.deployment(log)
	defer show.end()
	show.line(fmt.Sprintf("phase 0 look: %d checks passed, %d are unusual", report.Count(plan.Pass), report.Count(plan.Warn)))
	return deploy.Run(a.ctx, s, deploy.Options{DryRun: c.DryRun, Only: c.Phase, Diff: c.Diff, Tell: func(e deploy.Event) {
		told.note(e)
		show.event(e)
	}})
}

// site is what the deployment works on.
func (r reached) site(report *plan.Report) (*deploy.Site, error) {
	program, err := remote.Self()
	if err != nil {
		return nil, err
	}
	s := &deploy.Site{
		Deployment: r.deployment, Machines: map[string]deploy.Machine{}, Postgres: report.Postgres, Now: time.Now,
		Systems: map[string]distro.System{}, Bundle: r.bundle,
		Program: deploy.File{Path: packaging.Binary, Text: program.Text, Mode: 0o755, Owner: "root"},
	}
	for name, m := range r.machines {
		s.Machines[name] = m
		os := report.Facts[name].OS
		s.Systems[name], _ = distro.Find(os.ID, os.Version) // of one that is not known nothing is deployed
	}
	return s, nil
}

// deployed says how it ended, and where to go from here.
func (a *app) deployed(d config.Deployment, c *deployCmd, changed deploy.Changed, took time.Duration) error {
	switch {
	case c.DryRun:
		_, err := fmt.Fprintf(a.stdout, "%d steps are due; nothing was changed\n", changed)
		return err
	case changed == 0:
		_, err := fmt.Fprintf(a.stdout, "nothing was to be done, and every checkpoint holds (%s)\n", took.Round(100*time.Millisecond))
		return err
	}
	fmt.Fprintf(a.stdout, "%d steps done in %s\n", changed, took.Round(100*time.Millisecond))
	if c.Phase != 0 && c.Phase != 4 {
		return nil
	}
	at := d.Members[0].Address
	if len(d.VIP) > 0 {
		at = d.VIP[0].Address
	}
	for _, app := range d.Applications {
		fmt.Fprintf(a.stdout, "%s connects to host=%s port=%d dbname=%s user=%s; its password is in %s\n", app.Role, at, d.Ports.Write, app.Database, app.Role, deploy.PasswordFile(d, app))
	}
	_, err := fmt.Fprintf(a.stdout, "on any member: sudo standfast status\n")
	return err
}

// deployment shows what goes on: a line for each step that has ended, and on a terminal below them one that lives, with what is being
// done on which host.
type deployment struct {
	a     *app
	log   *slog.Logger
	steps *steps

	mu    sync.Mutex
	phase int
	busy  map[string]string // by host
	order []string
}

func (a *app) deployment(log *slog.Logger) *deployment {
	return &deployment{a: a, log: log, steps: a.steps(), busy: map[string]string{}}
}

func (p *deployment) end() { p.steps.end() }

func (p *deployment) event(e deploy.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.State != deploy.Begins {
		p.log.Info(string(e.State), "phase", e.Phase, "host", e.Host, "step", e.Step, "took", e.Took.Round(time.Millisecond), "text", e.Text, "error", e.Err)
	}
	if e.Phase != p.phase {
		p.phase = e.Phase
		p.line(p.a.err.bold(fmt.Sprintf("phase %d %s", e.Phase, e.Title)))
	}
	p.track(e)
	if text := p.describe(e); text != "" {
		p.line("  " + text)
	}
	for _, d := range e.Diff {
		p.line("    " + d.Path)
		for l := range strings.Lines(d.Text) {
			p.line("      " + p.colour(strings.TrimSuffix(l, "\n")))
		}
	}
}

// colour marks what comes and what goes.
func (p *deployment) colour(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return p.a.err.good(line)
	case strings.HasPrefix(line, "-"):
		return p.a.err.bad(line)
	}
	return line
}

// track keeps the line that lives.
func (p *deployment) track(e deploy.Event) {
	if e.State == deploy.Begins {
		if p.busy[e.Host] == "" {
			p.order = append(p.order, e.Host)
		}
		p.busy[e.Host] = e.Step
	} else if p.busy[e.Host] == e.Step {
		delete(p.busy, e.Host)
	}
	var texts []string
	for _, h := range p.order {
		if step := p.busy[h]; step != "" {
			texts = append(texts, strings.TrimPrefix(h+": "+step, ": "))
		}
	}
	if p.steps.style.terminal && len(texts) > 0 {
		p.steps.show(api.Progress{Text: strings.Join(texts, ", ")})
	}
}

func (p *deployment) describe(e deploy.Event) string {
	s := p.a.err
	what := strings.TrimPrefix(e.Host+": "+e.Step, ": ")
	took := s.dim(fmt.Sprintf("(%s)", e.Took.Round(100*time.Millisecond)))
	switch e.State {
	case deploy.Did:
		return s.good("done ") + what + " " + took
	case deploy.Was:
		return s.dim("is   " + what)
	case deploy.Would:
		return s.warn("due  ") + what
	case deploy.Holds:
		return s.good("holds ") + what + ": " + e.Text + " " + took
	case deploy.Passed:
		return s.dim("not  " + what + ": " + e.Text)
	case deploy.Failure:
		return s.bad("fails ") + what
	}
	return "" // it begins: the line that lives shows it
}

// line writes one above the line that lives.
func (p *deployment) line(text string) { p.steps.above(text) }
