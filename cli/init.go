package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/ops/founding"
)

type initCmd struct {
	Cluster string   `arg:"" help:"The cluster's name, such as main."`
	Members []string `arg:"" name:"member=address" help:"Each host, such as pg1=10.0.0.11."`
	Witness []string `help:"A host that votes and holds no data, such as w1=10.0.0.14; may be repeated." placeholder:"NAME=ADDRESS"`
	Set     []string `help:"More of the members' files, such as bootstrap.detection=fast; may be repeated." placeholder:"KEY=VALUE" sep:"none"`
	Out     string   `help:"Where to write; without it ./standfast-CLUSTER, with --here /etc/standfast." placeholder:"DIR" type:"path"`
	Here    bool     `help:"Set up this host as one of the members, and print a token for each other one to join with."`
	As      string   `help:"Which member this host is, where its addresses don't tell; with --here." placeholder:"MEMBER"`

	For     time.Duration `help:"How long the tokens are good; with --here." default:"1h" placeholder:"TIME"`
	hostCmd `embed:""`
}

func (initCmd) Help() string {
	return `With --here, on the first host: writes /etc/standfast, starts the service if it is installed, and prints what to type on the other hosts, each with a token that is good once.

    sudo standfast init --here main pg1=10.0.0.11 pg2=10.0.0.12 pg3=10.0.0.13

Without it: writes one directory for each host, with its configuration, certificate and secrets, and one for the certificate authority. Nothing is contacted or started.

    standfast init main pg1=10.0.0.11 pg2=10.0.0.12 pg3=10.0.0.13

Then, on each host, put its directory to /etc/standfast, give it to the user postgres, and start standfast run.`
}

func (c *initCmd) Run(a *app) error {
	spec := founding.Spec{Cluster: c.Cluster, Settings: c.Set}
	for _, list := range []struct {
		kind  cluster.Kind
		items []string
	}{{"", c.Members}, {cluster.Witness, c.Witness}} {
		for _, item := range list.items {
			name, address, ok := strings.Cut(item, "=")
			if !ok || address == "" {
				return usage("%q: write each host as name=address, such as pg1=10.0.0.11", item)
			}
			spec.Members = append(spec.Members, config.Member{Name: name, Address: address, Kind: list.kind})
		}
	}
	if c.Here {
		return c.first(a, spec)
	}
	out := c.Out
	if out == "" {
		out = "standfast-" + c.Cluster
	}
	if _, err := os.Stat(out); errors.Is(err, fs.ErrPermission) {
		return usage("look at %s: %w; choose another place with --out", out, err)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return usage("%s is there already, and its keys may be in use; move it away or choose another with --out", out)
	}
	dir := func(m string) string { return filepath.Join(out, m) }
	if err := spec.Write(filepath.Join(out, "ca"), dir, time.Now()); err != nil {
		return c.halfWritten(out, err)
	}
	return c.next(a, out, spec.Members)
}

// halfWritten takes away what was written before a failure: left there, it would stop the next try, and a part of a cluster's
// keys is of no use. Nothing was written if the words of the command were wrong.
func (c *initCmd) halfWritten(out string, err error) error {
	if _, serr := os.Stat(out); errors.Is(serr, fs.ErrNotExist) {
		if errors.Is(err, fs.ErrPermission) {
			return usage("this user may not write to %s; choose another place with --out", filepath.Dir(out))
		}
		return &usageError{err}
	}
	if rerr := os.RemoveAll(out); rerr != nil {
		return errors.Join(err, rerr)
	}
	return fmt.Errorf("%w; %s was taken away again: make room, or choose another place with --out", err, out)
}

// next says what to do with the files.
func (c *initCmd) next(a *app, out string, members []config.Member) error {
	first, err := config.LoadNode(filepath.Join(out, members[0].Name, founding.FileName), nil, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "wrote %s; now, for each host:\n", out)
	for _, m := range members {
		fmt.Fprintf(a.stdout, "  tar -C %s -c . | ssh %s 'sudo mkdir -p /etc/standfast && sudo tar -C /etc/standfast -x && sudo chown -R postgres: /etc/standfast'\n", filepath.Join(out, m.Name), m.Address)
	}
	fmt.Fprintf(a.stdout, "then, on each:\n  sudo install -d -o postgres -m 700 %s\n  sudo -u postgres standfast run\n", first.StateDir)
	_, err = fmt.Fprintf(a.stdout, "keep %s in a safe place: whoever has its key can join the cluster\n", filepath.Join(out, "ca"))
	return err
}
