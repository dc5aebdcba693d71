package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/deploy"
	"standfast/deploy/bundle"
	"standfast/deploy/distro"
	"standfast/deploy/probe"
)

type bundleCmd struct {
	File   string `help:"The cluster's description." short:"f" default:"cluster.yml" placeholder:"FILE" type:"path"`
	System string `help:"What the hosts run, such as debian-13; without it what this machine runs." placeholder:"NAME"`
	Mirror string `help:"Of the distribution's archive, in place of its own." placeholder:"URI"`
	Out    string `help:"Where to write; without it ./standfast-CLUSTER-SYSTEM.tar." short:"o" placeholder:"FILE" type:"path"`
}

func (bundleCmd) Help() string {
	return `For hosts that reach no mirror. On a machine that does, with Debian or Ubuntu of any release, it downloads PostgreSQL, what stands under packages in cluster.yml and all that these need, and writes them with this program and checksums into one file. This machine's own packages are not touched. No host is asked for anything.

Carry the file and cluster.yml to the machine that you deploy from, take the program out of it, and deploy:

    tar -xf standfast-main-debian-13.tar standfast SHA256SUMS manifest.json
    ./standfast deploy -f cluster.yml --bundle standfast-main-debian-13.tar

Examples:

    standfast bundle -f cluster.yml
    standfast bundle -f cluster.yml --system debian-13`
}

func (c *bundleCmd) Run(a *app) error {
	d, err := readDeployment(c.File)
	if err != nil {
		return err
	}
	w, err := c.want(d)
	if err != nil {
		return err
	}
	out := c.Out
	if out == "" {
		out = fmt.Sprintf("standfast-%s-%s.tar", d.Cluster, w.System.Name())
	}
	w.Tell = func(step string) { fmt.Fprintln(a.stderr, step) }
	if err := bundle.Make(a.ctx, w, out); err != nil {
		return err
	}
	b, err := bundle.Open(out)
	if err != nil {
		return err
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s (%s) has PostgreSQL %s for %s on %s\nthere: standfast deploy -f %s --bundle %[1]s\n", out, megabytes(info.Size()), b.Postgres, b.Manifest.System, b.Arch, c.File)
	return err
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+1<<19)>>20) }

// want is what the bundle is made of.
func (c *bundleCmd) want(d config.Deployment) (w bundle.Want, err error) {
	var known bool
	if c.System != "" {
		w.System, known = distro.Named(c.System)
	} else {
		os := probe.System("/etc/os-release")
		w.System, known = distro.Find(os.ID, os.Version)
	}
	if !known {
		return w, usage("name what the hosts run with --system: one of %s", distro.Names())
	}
	if w.Postgres = w.System.Postgres; d.PostgreSQL != 0 {
		w.Postgres = strconv.Itoa(d.PostgreSQL)
	}
	if w.Postgres == "" || w.Postgres != w.System.Postgres && d.Repository.Source != config.FromPGDG {
		return w, usage("%s does not bring PostgreSQL %s: in cluster.yml, leave postgresql out or write repository: {source: pgdg}", w.System.Name(), w.Postgres)
	}
	if w.Repositories, err = deploy.Repositories(d, w.System, w.Postgres); err != nil {
		return w, &usageError{err}
	}
	w.Packages = append(w.System.Server(w.Postgres), d.PackagesOf(cluster.Data)...)
	w.Arch, w.Version, w.Made, w.Mirror = runtime.GOARCH, version, time.Now(), c.Mirror
	w.Program, err = os.Executable()
	return w, err
}

// openBundle reads the one that a deployment is to take packages from; "": none.
func openBundle(path string) (*bundle.Bundle, error) {
	if path == "" {
		return nil, nil
	}
	b, err := bundle.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage("%w; make one with standfast bundle", err)
	}
	return b, err
}
