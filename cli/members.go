package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/api"
	"standfast/deploy"
	"standfast/deploy/plan"
	"standfast/ops"
	"standfast/ssh"
)

// membersFile is how the commands that change the members over ssh find the cluster's description.
type membersFile struct {
	File   string `help:"The cluster's description." short:"f" default:"cluster.yml" placeholder:"FILE" type:"path"`
	DryRun bool   `help:"Look which steps are due, change nothing." name:"dry-run"`
}

// arriving is for the commands that install hosts.
type arriving struct {
	membersFile
	Bundle string `help:"Take packages from this file, made by standfast bundle; nothing is fetched." placeholder:"FILE" type:"path"`
}

// lookFirst has the hosts looked at, with the bundle that they are to be installed from.
func (c *arriving) lookFirst(a *app, r reached, o deploy.Options) (*deploy.Site, *plan.Report, error) {
	from, err := openBundle(c.Bundle)
	if err != nil {
		return nil, nil, err
	}
	r.bundle = from
	return a.lookFirst(r, o)
}

type nodeAddCmd struct{ arriving }

func (nodeAddCmd) Help() string {
	return `Takes the hosts that stand in cluster.yml, and are not in the running cluster yet, into it, over ssh: describe them there like the others first. It looks as standfast plan does, installs, configures and starts them, has the cluster take them in one after another, waits until they are cloned and count for commits, and tries the checkpoints of a deployment. Clients notice nothing. A witness has no PostgreSQL and is not cloned.

Interrupted anywhere, run it again: it goes on where it was. What is only begun is taken back by standfast node remove.

Examples:

    standfast node add -f cluster.yml --dry-run
    standfast node add -f cluster.yml
    standfast node add -f cluster.yml --bundle standfast-main-debian-13.tar`
}

func (c *nodeAddCmd) Run(a *app) error {
	return c.overSSH(a, "added", func(a *app, r reached, o deploy.Options) (deploy.Changed, error) {
		s, _, err := c.lookFirst(a, r, o)
		if err != nil {
			return 0, err
		}
		return deploy.Add(a.ctx, s, o)
	})
}

type nodeReplaceCmd struct {
	Name string `arg:"" help:"The member whose host died for good."`
	arriving
}

func (nodeReplaceCmd) Help() string {
	return `For a host that died for good and has a new, bare machine in its place: of the same name, at the address that cluster.yml names. The dead member is taken out of the cluster, the new one is added and clones itself. It is refused while the old one is still heard from.

The new machine has another host key: ssh-keygen -R ADDRESS forgets the old one, then log in once and compare the new one.

Examples:

    standfast node replace pg3 --dry-run
    standfast node replace pg3`
}

func (c *nodeReplaceCmd) Run(a *app) error {
	return c.overSSH(a, "replaced "+c.Name, func(a *app, r reached, o deploy.Options) (deploy.Changed, error) {
		s, report, err := c.lookFirst(a, r, o)
		if err != nil {
			return 0, err
		}
		found := report.Facts[c.Name].Found
		return deploy.Replace(a.ctx, s, c.Name, found.Data || found.Cluster != "", o)
	})
}

// overSSH reaches the hosts, shows what is done there, and says how it ended.
func (c *membersFile) overSSH(a *app, what string, do func(*app, reached, deploy.Options) (deploy.Changed, error)) error {
	d, err := readDeployment(c.File)
	if err != nil {
		return err
	}
	log, unlock, err := openLog(d, c.DryRun)
	if err != nil {
		return err
	}
	defer unlock()
	r, closeAll, err := reach(a.ctx, d)
	if err != nil {
		return err
	}
	log.Info("began", "command", what, "file", c.File)
	show := a.deployment(log)
	began := time.Now()
	changed, err := c.alone(a, r, deploy.Options{DryRun: c.DryRun, Tell: show.event}, do)
	show.end()
	if err := errors.Join(refusedThere(err), closeAll()); err != nil {
		log.Error("ended", "error", err)
		return err
	}
	log.Info("ended", "changed", int(changed))
	switch {
	case c.DryRun:
		_, err = fmt.Fprintf(a.stdout, "%d steps are due; nothing was changed\n", changed)
	case changed == 0:
		_, err = fmt.Fprintf(a.stdout, "nothing was to be done, and every checkpoint holds\n")
	default:
		_, err = fmt.Fprintf(a.stdout, "%s: %d steps done in %s\n", what, changed, time.Since(began).Round(100*time.Millisecond))
	}
	return err
}

// alone has the hosts that can be reached for itself while it changes them.
func (c *membersFile) alone(a *app, r reached, o deploy.Options, do func(*app, reached, deploy.Options) (deploy.Changed, error)) (deploy.Changed, error) {
	if o.DryRun {
		return do(a, r, o)
	}
	release, err := take(a.ctx, r)
	if err != nil {
		return 0, err
	}
	changed, err := do(a, r, o)
	return changed, errors.Join(err, release())
}

// refusedThere makes a refusal of what the cluster refused: the command on a member has exited with that code.
func refusedThere(err error) error {
	var change *deploy.ChangeError
	var exit *ssh.ExitError
	if errors.As(err, &change) && errors.As(change.Err, &exit) && exit.Status == int(Unsafe) {
		return &coded{Unsafe, err}
	}
	return err
}

// lookFirst is phase 0: nothing is begun while anything is in the way.
func (a *app) lookFirst(r reached, o deploy.Options) (*deploy.Site, *plan.Report, error) {
	report, err := plan.Look(a.ctx, r.plan())
	if err != nil {
		return nil, nil, err
	}
	if report.Failed() {
		a.findings(report.Findings)
		return nil, nil, &coded{Unsafe, fmt.Errorf("%d of %d checks failed; nothing was changed", report.Count(plan.Fail), len(report.Findings))}
	}
	s, err := r.site(report)
	return s, report, err
}

type nodeRemoveCmd struct {
	Name       string `arg:"" help:"The member that goes."`
	File       string `help:"The cluster's description; without it ./cluster.yml, if there is one." short:"f" placeholder:"FILE" type:"path"`
	Switchover bool   `help:"If it is the primary, hand its role over first."`
	DryRun     bool   `help:"Say what would be done, or why not; change nothing." name:"dry-run"`
}

func (nodeRemoveCmd) Help() string {
	return `Takes a member out of the cluster: the commit rule comes to do without it, then its votes go. Its host is stopped over ssh, if it can be reached; its data stays there. A host that comes back later says that it was removed, and stays out.

It is refused for the primary (--switchover hands the role over first), where the members left would have no majority that runs, and where commits would wait for copies that are not to be had.

Without a cluster.yml, on a member, it only changes what is agreed: the removed host stops its PostgreSQL by itself.

Examples:

    standfast node remove pg4 --dry-run
    standfast node remove pg4
    sudo standfast node remove pg4        # on a member`
}

func (c *nodeRemoveCmd) Run(a *app) error {
	if c.File == "" {
		if _, err := os.Stat("cluster.yml"); errors.Is(err, fs.ErrNotExist) {
			return c.agreed(a)
		}
		c.File = "cluster.yml"
	}
	f := membersFile{c.File, c.DryRun}
	var stays string
	err := f.overSSH(a, "removed "+c.Name, func(a *app, r reached, o deploy.Options) (deploy.Changed, error) {
		s, err := r.site(&plan.Report{})
		if err != nil {
			return 0, err
		}
		stays = deploy.Left(c.Name, r.machines[c.Name] != nil)
		if r.deployment.Host(c.Name) != nil {
			stays += fmt.Sprintf("\ntake %s out of %s", c.Name, filepath.Base(c.File))
		}
		return deploy.Remove(a.ctx, s, deploy.Removal{Name: c.Name, Switchover: c.Switchover}, o)
	})
	if err != nil || c.DryRun {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, stays)
	return err
}

// agreed changes what the members have agreed upon, and reaches no host.
func (c *nodeRemoveCmd) agreed(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	nothing, err := c.ask(a, cl, s)
	s.end()
	if err != nil || c.DryRun || nothing {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s is removed; %s\n", c.Name, strings.TrimPrefix(deploy.Left(c.Name, false), c.Name+" could not be reached: "))
	return err
}

func (c *nodeRemoveCmd) ask(a *app, cl *ops.Cluster, s *steps) (nothing bool, err error) {
	if c.Switchover && !c.DryRun {
		st, err := newest(a.ctx, cl)
		if err != nil {
			return false, err
		}
		if st.Primary == c.Name {
			if _, err := cl.Switchover(a.ctx, "", false, s.show); err != nil {
				return false, err
			}
		}
	}
	err = cl.RemoveMember(a.ctx, api.RemoveMemberRequest{Name: c.Name, DryRun: c.DryRun}, func(p api.Progress) {
		nothing = nothing || p.Step == api.StepNothing
		s.show(p)
	})
	return nothing, err
}

// nodeChangeCmd is asked over ssh, on a member: the request comes on standard input, the last step goes to standard output.
type nodeChangeCmd struct {
	What string `arg:"" enum:"add,remove"`
}

func (c *nodeChangeCmd) Run(a *app) error {
	text, err := io.ReadAll(a.stdin)
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	last := api.Progress{}
	note := func(p api.Progress) { last = p }
	if c.What == "add" {
		var r api.AddMemberRequest
		if err := json.Unmarshal(text, &r); err != nil {
			return usage("read the request: %w", err)
		}
		err = cl.AddMember(a.ctx, r, note)
	} else {
		var r api.RemoveMemberRequest
		if err := json.Unmarshal(text, &r); err != nil {
			return usage("read the request: %w", err)
		}
		err = cl.RemoveMember(a.ctx, r, note)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(a.stdout).Encode(last)
}
