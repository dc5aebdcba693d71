package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/node"
	"standfast/ops"
	"standfast/packaging"
	"standfast/recovery"
	"standfast/store/embed"

	"github.com/google/renameio/v2"
	"golang.org/x/term"
)

type recoverCmd struct {
	DryRun     bool   `help:"Say what this host has, what may be lost and what would be done; change nothing." name:"dry-run"`
	AcceptLoss bool   `help:"Yes, acknowledged commits may be lost." name:"accept-loss"`
	YesCluster string `help:"The cluster's name, instead of typing it." name:"yes-cluster" placeholder:"NAME"`
}

func (recoverCmd) Help() string {
	return `For the day when a majority of the members is gone for good, and with it what the cluster has agreed upon. Founds the cluster anew from this host alone: run it here, on the survivor, as root; of several survivors on the one with the newest data (it says which). It says first what may be lost.

If one of the missing hosts can be brought back, bring it back instead: the cluster goes on by itself then, and nothing is lost. After a power failure of all hosts no command is needed. While a majority answers, this is refused.

Members of before that come back find that their cluster is over and start nothing; "standfast node rejoin" there, or "standfast node add" for a new host, takes them in again.

Examples:

    sudo standfast recover --dry-run
    sudo standfast recover --accept-loss`
}

func (c *recoverCmd) Run(a *app) error {
	path, err := a.file()
	if err != nil {
		return err
	}
	n, err := a.node()
	if err != nil {
		return err
	}
	if !n.Etcd.Embedded() {
		return &coded{Unsafe, fmt.Errorf("what is agreed is kept in an etcd of the site's (%s), which no loss of members takes away: bring that back, and see standfast promote --dry-run", strings.Join(n.Etcd.Endpoints, ", "))}
	}
	p, err := c.plan(a, n)
	if err != nil {
		return err
	}
	c.show(a, p)
	if c.DryRun {
		_, err := fmt.Fprintln(a.stdout, "nothing was changed")
		return err
	}
	if err := c.confirm(a, n.Cluster); err != nil {
		return err
	}
	return c.carryOut(a, path, n, p)
}

func (c *recoverCmd) plan(a *app, n config.Node) (recovery.Plan, error) {
	s, err := node.Survey(a.ctx, n)
	if err != nil {
		return recovery.Plan{}, owned(err)
	}
	for _, m := range s.Known.Members { // added since the file was written
		if !slices.ContainsFunc(n.Members, func(o config.Member) bool { return o.Name == m.Name }) {
			n.Members = append(slices.Clip(n.Members), fileMember(m))
		}
	}
	if s.Others, err = others(a.ctx, n); err != nil {
		return recovery.Plan{}, err
	}
	s.Now, s.Operator = time.Now(), operator()
	p, err := recovery.Make(s)
	if err != nil {
		return p, &coded{Unsafe, fmt.Errorf("%w; nothing was changed", err)}
	}
	return p, nil
}

// operator is who runs this, for the history.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "an operator"
}

// others asks every other member.
func others(ctx context.Context, n config.Node) ([]recovery.Other, error) {
	cl, err := ops.Connect(n)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	replies := cl.Statuses(ctx)
	var out []recovery.Other
	for _, m := range n.Members {
		if m.Name == n.Name {
			continue
		}
		o := recovery.Other{Name: m.Name, Kind: m.Kind, Silent: "it was not asked"}
		for _, r := range replies {
			if r.Endpoint != net.JoinHostPort(m.Address, strconv.Itoa(m.Ports.Admin)) && r.Endpoint != net.JoinHostPort(m.Address, strconv.Itoa(m.Ports.Health)) {
				continue
			}
			if o.Silent = ""; r.Err != nil {
				o.Silent = r.Err.Error()
				continue
			}
			o.Epoch, o.Term = r.Status.Epoch, r.Status.Term
			if me := r.Status.Me(); me != nil {
				o.End = cluster.Position{Timeline: me.Timeline, LSN: me.LSN}
			}
		}
		out = append(out, o)
	}
	return out, nil
}

func (c *recoverCmd) show(a *app, p recovery.Plan) {
	list := func(head string, lines []string) {
		fmt.Fprintln(a.stdout, a.out.bold(head))
		for _, l := range lines {
			fmt.Fprintln(a.stdout, wrap("  - "+l, a.out.width-1, "    "))
		}
	}
	list("What is here", p.Here)
	if p.Sure {
		list("What may be lost (this host has every commit that was acknowledged while it took part)", p.Lost)
	} else {
		list("What may be lost", p.Lost)
	}
	list("What is done", p.Do)
}

// confirm asks for what can't be taken back.
func (c *recoverCmd) confirm(a *app, name string) error {
	if !c.AcceptLoss {
		return &coded{Unsafe, errors.New("acknowledged commits may be lost by this, as it says above: say --accept-loss if that is so; nothing was changed")}
	}
	if c.YesCluster == "" {
		f, isFile := a.stdin.(*os.File)
		if !isFile || !term.IsTerminal(int(f.Fd())) {
			return &coded{Unsafe, fmt.Errorf("there is no terminal to type the cluster's name on: give it with --yes-cluster %s; nothing was changed", name)}
		}
		fmt.Fprintf(a.stderr, "type the cluster's name (%s) to found it anew from this host: ", name)
		text, err := bufio.NewReader(f).ReadString('\n')
		if err != nil {
			return fmt.Errorf("read the cluster's name: %w; nothing was changed", err)
		}
		c.YesCluster = strings.TrimSpace(text)
	}
	if c.YesCluster != name {
		return &coded{Unsafe, fmt.Errorf("the cluster's name is %s, not %q; nothing was changed", name, c.YesCluster)}
	}
	return nil
}

func (c *recoverCmd) carryOut(a *app, path string, n config.Node, p recovery.Plan) error {
	service := isService(a.ctx) == nil && path == config.DefaultPath
	if service {
		if err := systemctl(a.ctx, "stop", packaging.Unit); err != nil {
			return err
		}
	}
	if err := embed.AwaitOrphan(a.ctx, embed.File(n.StateDir)); err != nil {
		return err
	}
	files, err := node.BeginAnew(n, p.Seed, func() error {
		return rewriteMembers(path, p.Seed.State.Epoch, []config.Member{n.Self()}, false)
	})
	if err != nil {
		return owned(err)
	}
	if err := give(n.Postgres.RunAs, append(files, path)...); err != nil {
		return err
	}
	if !service {
		fmt.Fprintf(a.stdout, "%s is prepared; ", n.Name)
		runNext(a, filepath.Dir(path), n)
		return nil
	}
	if err := systemctl(a.ctx, "start", packaging.Unit); err != nil {
		return err
	}
	return a.awaitAnew(path)
}

// anewTime is how long the survivor may take to let clients in: its server starts and is promoted.
const anewTime = 2 * time.Minute

func (a *app) awaitAnew(path string) error {
	n, err := config.LoadNode(path, nil, nil)
	if err != nil {
		return err
	}
	cl, err := ops.Connect(n)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(a.ctx, anewTime)
	defer cancel()
	for began := time.Now(); ; {
		st, _, err := cl.Status(ctx)
		if err == nil {
			if me := st.Me(); me != nil && me.Writable {
				_, err := fmt.Fprintf(a.stdout, "%s is the primary of term %d and takes writes (after %s); on each other host that is to be a member again: standfast node rejoin, or standfast node add for a new one\n",
					n.Name, st.Term, time.Since(began).Round(100*time.Millisecond))
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not take writes after %s: see standfast status and journalctl -u standfast", n.Name, anewTime)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// rewriteMembers changes whom a member's file names, and keeps the file as it was beside it.
func rewriteMembers(path string, e cluster.Epoch, members []config.Member, join bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	next, err := config.WithMembers(path, text, members, join)
	if err != nil || slices.Equal(next, text) {
		return err
	}
	kept := fmt.Sprintf("%s.before-%d", path, e)
	if _, err := os.Lstat(kept); errors.Is(err, os.ErrNotExist) {
		if err := renameio.WriteFile(kept, text, st.Mode().Perm()); err != nil {
			return fmt.Errorf("keep the configuration of before: %w", err)
		}
	}
	if err := renameio.WriteFile(path, next, st.Mode().Perm(), renameio.WithStaticPermissions(st.Mode().Perm())); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}
