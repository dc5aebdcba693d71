package cli

import (
	"fmt"
	"strings"
)

type restartCmd struct {
	Member  []string `help:"Only this member; may be repeated." placeholder:"MEMBER"`
	Pending bool     `help:"Only where changed parameters wait for it."`
}

func (restartCmd) Help() string {
	return `One after another, standbys first and the primary last; each must follow again before the next one is restarted. New connections wait while the primary restarts.

Examples:

    standfast restart --pending
    standfast restart --member pg2`
}

func (c *restartCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	done, err := cl.Restart(a.ctx, c.Member, c.Pending, s.show)
	s.end()
	if err != nil {
		if len(done) > 0 {
			return fmt.Errorf("%w (restarted before that: %s)", err, strings.Join(done, ", "))
		}
		return err
	}
	if len(done) == 0 {
		_, err = fmt.Fprintln(a.stdout, "nothing to restart: no member waits for it")
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "restarted %s\n", strings.Join(done, ", "))
	return err
}
