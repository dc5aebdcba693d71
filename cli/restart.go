package cli

import (
	"fmt"
	"strings"
	"time"
)

type restartCmd struct {
	Members []string      `arg:"" optional:"" name:"member" help:"Only these; without any, all."`
	Member  []string      `help:"The same as naming it." placeholder:"MEMBER" hidden:""`
	Rolling bool          `help:"Hand the primary's role over instead of restarting the primary where it is."`
	Pending bool          `help:"Only where changed parameters wait for it."`
	Timeout time.Duration `help:"For each member to follow again." default:"5m" placeholder:"5m"`
}

func (restartCmd) Help() string {
	return `One after another, standbys first and the primary last; each must follow again before the next one is restarted. New connections wait while the primary restarts. With --rolling a standby that was restarted takes the role over before the primary's turn, and the old primary begins anew as its standby: no connection is refused, and writing is out for a switchover instead of a restart. The new primary stays.

Where parameters like max_connections are lowered, the standbys' turn comes after the primary's, for they must not have less than it.

Examples:

    standfast restart --pending
    standfast restart --pending --rolling
    standfast restart pg2`
}

func (c *restartCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	restart := cl.Restart
	if c.Rolling {
		restart = cl.RestartRolling
	}
	s := a.steps()
	done, err := restart(a.ctx, append(c.Members, c.Member...), c.Pending, c.Timeout, s.show)
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
