package cli

type promoteCmd struct {
	Member     string `arg:"" optional:"" help:"The member that wins if it has as much as the others."`
	AcceptLoss bool   `help:"Yes, acknowledged commits may be lost." name:"accept-loss"`
	DryRun     bool   `help:"Say what may be lost, change nothing." name:"dry-run"`
}

func (promoteCmd) Help() string {
	return `For the day when the members that hold every acknowledged commit are gone for good. A primary is elected from the reports of a majority; what it does not have is lost. Look first with --dry-run. If a missing host can be brought back, bring it back: nothing is lost then, and no command is needed.

Examples:

    standfast promote --dry-run
    standfast promote pg3 --accept-loss`
}

func (c *promoteCmd) Run(a *app) error {
	if !c.AcceptLoss && !c.DryRun {
		return &coded{Unsafe, usage("a forced promotion may lose acknowledged commits; see what with --dry-run, then say --accept-loss")}
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	moved, err := cl.Failover(a.ctx, c.Member, true, c.DryRun, s.show)
	s.end()
	if err != nil || c.DryRun {
		return err
	}
	return a.moved(moved)
}
