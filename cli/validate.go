package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/config"
	"standfast/deploy"
	"standfast/deploy/plan"
)

type validateCmd struct {
	File     string `help:"The cluster's description." short:"f" default:"cluster.yml" placeholder:"FILE" type:"path"`
	Failover bool   `help:"Then kill the primary's PostgreSQL under load, and hand the role back: writes are out twice for a moment."`
	Yes      string `help:"The cluster's name, for scripts: with --failover nobody is asked to type it." name:"yes-cluster" placeholder:"NAME"`
}

func (validateCmd) Help() string {
	return `Tries the checkpoints of phases 1 to 4 of a deployment, all of them, and says which hold. Nothing that was there is changed: a word is committed in a table of its own, read on every standby, and taken away.

With --failover, if all hold, phase 5 follows on the running cluster: rows are written through the floating address (or the members' ports for writing) to a schema of their own in the first application's database, the primary's PostgreSQL is killed, another takes over, every acknowledged row is read back; when all members are whole again the role is handed back, under load too. Sessions of applications are cut twice. You are asked for the cluster's name first.

It exits with 0 when all holds, with 1 when something does not, with 3 when the name is not the cluster's.

Examples:

    standfast validate -f cluster.yml
    standfast validate -f cluster.yml --failover
    standfast validate -f cluster.yml --failover --yes-cluster main`
}

// validatePatience is how long a cluster that should be whole may take: long enough for what passes by itself.
const validatePatience = 15 * time.Second

func (c *validateCmd) Run(a *app) error {
	if c.Yes != "" && !c.Failover {
		return usage("--yes-cluster is for --failover: without it nothing is asked")
	}
	d, err := readDeployment(c.File)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(d.Secrets, "ca", "ca.crt")); errors.Is(err, fs.ErrNotExist) {
		return usage("%s has no certificate authority: %s was not deployed from here; take the directory from where it was", d.Secrets, d.Cluster)
	}
	if err := c.agree(a, d); err != nil {
		return err
	}
	log, unlock, err := openLog(d, false)
	if err != nil {
		return err
	}
	defer unlock()
	r, closeAll, err := reach(a.ctx, d)
	if err != nil {
		return err
	}
	show := a.deployment(log)
	proof, err := c.validate(a, r, show)
	show.end()
	if err := errors.Join(err, closeAll()); err != nil {
		log.Error("validation ended", "error", err)
		return err
	}
	if proof != "" {
		proof = "; failover " + proof
	}
	_, err = fmt.Fprintf(a.stdout, "every checkpoint of %s holds%s\n", d.Cluster, proof)
	return err
}

// agree asks for the cluster's name where a failover is wanted.
func (c *validateCmd) agree(a *app, d config.Deployment) error {
	if !c.Failover {
		return nil
	}
	name := c.Yes
	if name == "" {
		fmt.Fprintf(a.stderr, "This kills the primary's PostgreSQL and hands its role back afterwards: writes are out and sessions are cut twice.\nType the cluster's name to go on: ")
		line, err := bufio.NewReader(a.stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the cluster's name: %w", err)
		}
		name = strings.TrimSpace(line)
	}
	if name != d.Cluster {
		return &coded{Unsafe, fmt.Errorf("%q is not the name of the cluster in %s; nothing was done", name, c.File)}
	}
	return nil
}

// validate returns what the failover has shown, if there was one.
func (c *validateCmd) validate(a *app, r reached, show *deployment) (proof string, err error) {
	var down []error
	for name, err := range r.down {
		down = append(down, fmt.Errorf("%s: %w", name, err))
	}
	if len(down) > 0 {
		slices.SortFunc(down, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
		return "", errors.Join(down...)
	}
	s, err := r.site(&plan.Report{})
	if err != nil {
		return "", err
	}
	if c.Failover {
		release, err := take(a.ctx, r)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	s.Patience = validatePatience
	err = deploy.Validate(a.ctx, s, c.Failover, func(e deploy.Event) {
		if e.Phase == 5 && e.State == deploy.Holds {
			proof = e.Text
		}
		show.event(e)
	})
	return proof, err
}
