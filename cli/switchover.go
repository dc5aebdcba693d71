package cli

import (
	"fmt"
	"time"

	"standfast/ops"
)

type switchoverCmd struct {
	To     string `help:"The member to become primary; without it the best." placeholder:"MEMBER"`
	DryRun bool   `help:"Say what would happen, change nothing." name:"dry-run"`
}

func (switchoverCmd) Help() string {
	return `The primary holds new connections, lets the other catch up and stops in order; then the other takes over and the connections go on there. Nothing that was acknowledged is lost, no connection is refused; sessions are cut and must connect again. If the target does not make it, the old primary stays.

Examples:

    standfast switchover
    standfast switchover --to pg2
    standfast switchover --to pg2 --dry-run`
}

func (c *switchoverCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	moved, err := cl.Switchover(a.ctx, c.To, c.DryRun, s.show)
	s.end()
	if err != nil || c.DryRun {
		return err
	}
	return a.moved(moved)
}

// moved says how it ended.
func (a *app) moved(m ops.Moved) error {
	text := fmt.Sprintf("%s is primary in term %d", m.To, m.Term)
	if m.From != "" && m.From != m.To {
		text += ", " + m.From + " was"
	}
	if m.Outage > 0 {
		text += fmt.Sprintf("; writes were out for %d ms", m.Outage.Milliseconds())
	} else {
		text += fmt.Sprintf("; it took %s", m.Took.Round(10*time.Millisecond))
	}
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}
