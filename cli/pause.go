package cli

import (
	"fmt"
	"time"

	"standfast/api"
)

type pauseCmd struct {
	For string `help:"How long; it ends by itself." default:"2h" placeholder:"2h"`
}

func (pauseCmd) Help() string {
	return `While paused no failover begins by itself; one that is asked for still does. It ends by itself, because a pause that was forgotten is how clusters stay down.

Examples:

    standfast pause
    standfast pause --for 30m`
}

func (c *pauseCmd) Run(a *app) error {
	d, err := time.ParseDuration(c.For)
	if err != nil || d <= 0 {
		return usage("--for %s: write a time such as 30m or 2h", c.For)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	return a.saying(func(say func(api.Progress)) error { return cl.Pause(a.ctx, d, say) })
}

type resumeCmd struct{}

func (resumeCmd) Help() string {
	return "Ends a pause before its time.\n\nExample:\n\n    standfast resume"
}

func (resumeCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	return a.saying(func(say func(api.Progress)) error { return cl.Resume(a.ctx, say) })
}

// saying runs something short whose last step is its result.
func (a *app) saying(do func(func(api.Progress)) error) error {
	last := "done"
	if err := do(func(p api.Progress) { last = p.Text }); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout, last)
	return err
}
