package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/bundle"
	"standfast/deploy/plan"
	"standfast/deploy/remote"
	"standfast/ssh"
)

type planCmd struct {
	File     string `help:"The cluster's description." short:"f" default:"cluster.yml" placeholder:"FILE" type:"path"`
	Output   string `help:"text or json." short:"o" enum:"text,json" default:"text"`
	Sample   bool   `help:"Print a cluster.yml to start from."`
	Firewall string `help:"Print what the hosts' firewalls have to let through, for ufw, firewalld or nft, and ask no host." placeholder:"KIND" enum:",ufw,firewalld,nft" default:""`
}

func (planCmd) Help() string {
	return `Looks at every host over ssh, as root or by sudo: the system, its size, clock, names, ports, what PostgreSQL is there; whether the hosts reach each other on every port; whether the floating addresses are free; and, where no member runs yet, whether each host in turn can carry them, so that another reaches it, and how long the news of that takes. Nothing is changed: this program is put into a directory below /var/tmp for it, and taken away again; so is an address that was carried.

With --firewall the rules that the hosts need are printed as commands, host by host, what comes in and what goes out; no host is asked.

It exits with 0 when a deployment can begin, with 3 when something is in the way.

Examples:

    standfast plan --sample >cluster.yml
    standfast plan -f cluster.yml
    standfast plan -f cluster.yml --firewall ufw`
}

func (c *planCmd) Run(a *app) error {
	if c.Sample {
		_, err := a.stdout.Write(config.DeploymentSample)
		return err
	}
	d, err := readDeployment(c.File)
	if err != nil {
		return err
	}
	if c.Firewall != "" {
		return c.firewall(a, d)
	}
	s := a.steps()
	site, closeAll, err := reach(a.ctx, d)
	var report *plan.Report
	if err == nil {
		report, err = plan.Look(a.ctx, site.plan())
		err = errors.Join(err, closeAll())
	}
	s.end()
	if err != nil {
		return err
	}
	if c.Output == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		a.worksheet(d)
		a.findings(report.Findings)
	}
	if err == nil && report.Failed() {
		return &coded{code: Unsafe, err: fmt.Errorf("%d of %d checks failed; nothing was changed", report.Count(plan.Fail), len(report.Findings))}
	}
	return err
}

// firewall prints rules, which is all that programs want of it too.
func (c *planCmd) firewall(a *app, d config.Deployment) error {
	rules, err := plan.Rules(d, func(name string) ([]string, error) { return net.DefaultResolver.LookupHost(a.ctx, name) })
	if err != nil {
		return usage("%w; write it as a number under members", err)
	}
	if c.Output == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(rules)
	}
	text, err := plan.Commands(rules, c.Firewall)
	if err != nil {
		return err
	}
	_, err = io.WriteString(a.stdout, text)
	return err
}

func readDeployment(path string) (config.Deployment, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Deployment{}, usage("there is no %s: make one with standfast plan --sample >cluster.yml, or name it with -f", path)
	}
	if err != nil {
		return config.Deployment{}, usage("read the cluster's description: %w", err)
	}
	d, err := config.ParseDeployment(path, text)
	if err != nil {
		return config.Deployment{}, &usageError{err}
	}
	return d, nil
}

// reached is a deployment with connections to its hosts.
type reached struct {
	deployment config.Deployment
	machines   map[string]*remote.Machine
	down       map[string]error
	ca         string
	bundle     *bundle.Bundle
}

func (r reached) plan() plan.Site {
	s := plan.Site{Deployment: r.deployment, Hosts: map[string]plan.Host{}, Down: r.down, CA: r.ca, Bundle: r.bundle, Now: time.Now}
	for name, m := range r.machines {
		s.Hosts[name] = m
	}
	return s
}

// reach connects to all hosts at the same time.
func reach(ctx context.Context, d config.Deployment) (reached, func() error, error) {
	r := reached{deployment: d, machines: map[string]*remote.Machine{}, down: map[string]error{}}
	program, err := remote.Self()
	if err != nil {
		return r, nil, err
	}
	if ca, err := os.ReadFile(filepath.Join(d.Secrets, "ca", "ca.crt")); err == nil {
		sum := sha256.Sum256(ca)
		r.ca = hex.EncodeToString(sum[:])
	} else if !errors.Is(err, fs.ErrNotExist) {
		return r, nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, h := range d.Members {
		wait.Go(func() {
			m, err := connectTo(ctx, d, h, program)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.down[h.Name] = err
			} else {
				r.machines[h.Name] = m
			}
		})
	}
	wait.Wait()
	return r, func() error {
		var errs []error
		for _, m := range r.machines {
			errs = append(errs, m.Close())
		}
		return errors.Join(errs...)
	}, nil
}

func connectTo(ctx context.Context, d config.Deployment, h config.Host, p remote.Program) (*remote.Machine, error) {
	user, at := d.Way(h)
	shell, err := ssh.Dial(ctx, ssh.Target{User: user, Address: at}, ssh.Keys{File: d.SSH.Key, KnownHosts: d.SSH.KnownHosts})
	if err != nil {
		return nil, err
	}
	m, err := remote.Connect(ctx, shell, p)
	if err != nil {
		return nil, errors.Join(err, shell.Close())
	}
	return m, nil
}

// worksheet shows what is to be made.
func (a *app) worksheet(d config.Deployment) {
	fmt.Fprintf(a.stdout, "Cluster %s\n\n", a.out.bold(d.Cluster))
	var names, addresses, kinds, places []string
	for _, h := range d.Members {
		names, addresses, places = append(names, h.Name), append(addresses, h.Address), append(places, h.Location)
		kind := "data"
		if h.Kind == cluster.Witness {
			kind = string(cluster.Witness)
		}
		kinds = append(kinds, kind)
	}
	columns := []column{{head: "MEMBER", cells: names}, {head: "ADDRESS", cells: addresses}, {head: "KIND", cells: kinds}, {head: "LOCATION", cells: places}}
	if !anyText(places) {
		columns = columns[:3]
	}
	writeTable(a.stdout, a.out, columns, len(names))
	fmt.Fprintln(a.stdout)
	for _, v := range d.VIP {
		fmt.Fprintf(a.stdout, "floating address  %s, follows the %s\n", v.Address, orText(string(v.Follows), "primary"))
	}
	if d.Routing != config.BuiltIn || d.Address != config.BuiltIn {
		fmt.Fprintf(a.stdout, "data plane        routing %s, address %s\n", d.Routing, d.Address)
	}
	p := d.Ports
	fmt.Fprintf(a.stdout, "ports             write %d, read %d, health %d, PostgreSQL %d, changes %d, members %d, etcd %d and %d\n", p.Write, p.Read, p.Health, p.Postgres, p.Admin, p.Beat, p.EtcdClient, p.EtcdPeer)
	for _, app := range d.Applications {
		fmt.Fprintf(a.stdout, "application       role %s, database %s, from %s\n", app.Role, app.Database, orText(strings.Join(app.From, ", "), "anywhere"))
	}
	fmt.Fprintf(a.stdout, "secrets           %s\n\n", d.Secrets)
}

func orText(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// findings shows a line for each, and below it what to do.
func (a *app) findings(all []plan.Finding) {
	paint := map[plan.Level]func(string) string{plan.Pass: a.out.good, plan.Warn: a.out.warn, plan.Fail: a.out.bad}
	var hosts, checks, levels, texts []string
	for _, f := range all {
		hosts, checks, levels, texts = append(hosts, orText(f.Host, "all")), append(checks, f.Check), append(levels, string(f.Level)), append(texts, f.Text)
	}
	head := []column{
		{head: "", cells: levels, paint: func(i int, t string) string { return paint[all[i].Level](t) }},
		{head: "HOST", cells: hosts}, {head: "CHECK", cells: checks}, {head: "FOUND", cells: texts},
	}
	wide := a.out
	wide.width = 1000 // what was found is never cut
	writeTable(a.stdout, wide, head, len(all))
	a.remedies(all, paint)
}

// remedies says what to do, once for all hosts that it is the same on.
func (a *app) remedies(all []plan.Finding, paint map[plan.Level]func(string) string) {
	type same struct {
		level         plan.Level
		check, remedy string
	}
	hosts := map[same][]string{}
	var order []same
	for _, f := range all {
		k := same{f.Level, f.Check, f.Remedy}
		if f.Remedy != "" && hosts[k] == nil {
			order = append(order, k)
		}
		hosts[k] = append(hosts[k], orText(f.Host, "all"))
	}
	if len(order) > 0 {
		fmt.Fprintln(a.stdout)
	}
	for _, k := range order {
		who := fmt.Sprintf("%s, %s:", strings.Join(hosts[k], ", "), k.check)
		fmt.Fprintf(a.stdout, "%s %s\n", paint[k.level](who), wrap(k.remedy, a.out.width-1, "    "))
	}
}
