package cli

import "fmt"

type nodeDrainCmd struct {
	State  string `arg:"" enum:"on,off" help:"on or off."`
	Name   string `arg:"" help:"The member."`
	DryRun bool   `help:"Check only, change nothing." name:"dry-run"`
}

func (nodeDrainCmd) Help() string {
	return `Keeps new sessions for reading (port 5001) away from a standby; those that are there go on until they end. For work on it that readers would notice. The member replicates and counts for commits as ever, and stays drained over restarts until "off". On the primary it has an effect once that is a standby. With every standby drained reads go to the primary.

Examples:

    standfast node drain on pg3
    standfast status
    standfast node drain off pg3`
}

func (c *nodeDrainCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	changed, err := cl.Drain(a.ctx, c.Name, c.State == "on", c.DryRun, s.show)
	s.end()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s takes new sessions for reading", c.Name)
	if c.State == "on" {
		text = fmt.Sprintf("%s takes no new sessions for reading; those that are there go on", c.Name)
	}
	switch {
	case !changed:
		text = "nothing was to be done: " + text
	case c.DryRun:
		text = "nothing was changed; then " + text
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}
