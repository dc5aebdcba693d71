package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"standfast/config"
	"standfast/playground"
	"standfast/playground/demo"
)

type playgroundCmd struct {
	Nodes     int      `help:"How many members." default:"3" placeholder:"3"`
	Dir       string   `help:"Where to keep the state; without it below the directory for temporary files." placeholder:"DIR" type:"path"`
	Demo      bool     `help:"Show a failover: write, kill the primary, count what was lost."`
	Freeze    bool     `help:"With --demo: freeze a whole host afterwards as well."`
	Keep      bool     `help:"Keep the state, and use it again next time."`
	Detection string   `help:"fast, balanced, vm or a time." default:"fast" placeholder:"fast"`
	Floating  string   `help:"The floating address; the members' are the ones after it." default:"127.0.0.10" placeholder:"127.0.0.10"`
	Offset    int      `help:"Add this to every port." name:"port-offset" placeholder:"N"`
	Set       []string `help:"More of the members' files, such as log.level=debug; may be repeated." placeholder:"KEY=VALUE" sep:"none"`
}

func (playgroundCmd) Help() string {
	return `Real members with PostgreSQL and etcd, on 127.0.0.11, .12 and .13 with the usual ports on each, and the floating address 127.0.0.10. It runs until Ctrl-C and then leaves nothing behind. Run by root, everything runs as the user postgres.

Examples:

    standfast playground
    standfast playground --demo
    standfast playground --port-offset 10000    (5432 becomes 15432 and so on)
    standfast status                    (in another terminal)`
}

func (c *playgroundCmd) Run(a *app) error {
	cfg := playground.Config{Nodes: c.Nodes, Dir: c.Dir, Detection: c.Detection, Keep: c.Keep, Floating: c.Floating, Settings: c.Set}
	if c.Offset != 0 {
		cfg.Ports = config.DefaultNode().Ports.Plus(c.Offset)
	}
	if err := cfg.Check(); err != nil {
		return &usageError{err}
	}
	if err := playground.Become(); err != nil {
		return err
	}
	s := a.steps()
	cfg.Say = func(text string) { s.show(progress(text)) }
	p, err := playground.Start(a.ctx, cfg)
	s.end()
	if err != nil {
		if a.ctx.Err() != nil {
			return &coded{code: Failed, err: errors.New("interrupted; nothing was left running")}
		}
		return err
	}
	err = c.with(a, p)
	if stopErr := p.Stop(); stopErr != nil {
		return errors.Join(err, stopErr)
	}
	return err
}

// with does what the playground was started for.
func (c *playgroundCmd) with(a *app, p *playground.Playground) error {
	if c.Demo {
		if err := c.demo(a, p); err != nil || !a.out.terminal {
			return err
		}
	}
	c.greet(a, p)
	select {
	case <-a.ctx.Done():
		fmt.Fprintln(a.stderr, "stopping")
		return nil
	case h := <-p.Ended(a.ctx):
		return fmt.Errorf("%s has ended by itself; see %s", h.Name, h.LogFile())
	}
}

func (c *playgroundCmd) demo(a *app, p *playground.Playground) error {
	screen := newScreen(a.stdout, a.out)
	r, err := demo.Run(a.ctx, p, c.Freeze, screen)
	screen.end()
	if err != nil {
		if a.ctx.Err() != nil {
			return &coded{code: Failed, err: errors.New("interrupted")}
		}
		return err
	}
	for _, act := range r.Acts {
		fmt.Fprintf(a.stdout, "%s:\n  %s took over, writes were out for %d ms\n", act.Fault, act.To, act.Outage.Milliseconds())
	}
	fmt.Fprintf(a.stdout, "%d commits were acknowledged; all were looked for afterwards\n", r.Acknowledged)
	verdict := fmt.Sprintf("writes were out for %d ms, %d acknowledged commits lost", worst(r.Acts).Milliseconds(), len(r.Lost))
	if !r.OK() {
		fmt.Fprintln(a.stdout, a.out.bad(verdict))
		for _, o := range r.Overlaps {
			fmt.Fprintln(a.stdout, a.out.bad(fmt.Sprintf("%s acknowledged row %d after %s had taken over", o.Older.Server, o.Older.ID, o.Newer.Server)))
		}
		return &coded{code: Failed, err: errors.New("the promise was broken; please report this with the logs")}
	}
	_, err = fmt.Fprintln(a.stdout, a.out.good(verdict))
	return err
}

func worst(acts []demo.Act) time.Duration {
	var d time.Duration
	for _, a := range acts {
		d = max(d, a.Outage)
	}
	return d
}

// greet says how to connect and what to try.
func (c *playgroundCmd) greet(a *app, p *playground.Playground) {
	ports := p.Ports()
	fmt.Fprintf(a.stdout, "\n%s\n\n", a.out.bold("The cluster runs. Connect with:"))
	fmt.Fprintf(a.stdout, "  export PGPASSFILE=%s\n", p.PasswordFile())
	fmt.Fprintf(a.stdout, "  psql -h %s -p %d -U %s  # writing: the primary\n", p.Floating(), ports.Write, playground.Name)
	fmt.Fprintf(a.stdout, "  psql -h %s -p %d -U %s  # reading: a standby\n", p.Floating(), ports.Read, playground.Name)
	fmt.Fprintf(a.stdout, "  curl http://%s:%d/primary  # a health check\n", p.Hosts[0].Address, ports.Health)
	fmt.Fprintf(a.stdout, "\nTry, in another terminal:\n\n")
	with := ""
	if c.Dir != "" {
		with = " --config " + p.Hosts[0].File()
	}
	self, err := os.Executable()
	if err != nil {
		self = "standfast"
	}
	fmt.Fprintf(a.stdout, "  %s status%s --watch\n", self, with)
	fmt.Fprintf(a.stdout, "  %s switchover%s\n", self, with)
	fmt.Fprintf(a.stdout, "\nLogs: %s\nCtrl-C ends everything.\n", filepath.Join(filepath.Dir(p.Hosts[0].Dir), "pg*", "standfast.log"))
}
