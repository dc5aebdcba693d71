package cli

import "fmt"

type recloneCmd struct {
	Member string `arg:"" help:"The member whose data is replaced."`
	Force  bool   `help:"Also while another attempt is under way, which is ended."`
}

func (recloneCmd) Help() string {
	return `The member leaves the commit rule, is filled with a base backup of the primary and follows again. Standfast does this by itself where it is needed; this command is for data that you don't trust.

Example:

    standfast reclone pg3`
}

func (c *recloneCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	err = cl.Reclone(a.ctx, c.Member, c.Force, s.show)
	s.end()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s has a new copy and follows\n", c.Member)
	return err
}
