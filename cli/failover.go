package cli

type failoverCmd struct {
	To     string `help:"The member that wins if it has as much as the others." placeholder:"MEMBER"`
	DryRun bool   `help:"Say what would happen, change nothing." name:"dry-run"`
}

func (failoverCmd) Help() string {
	return `Begins an election now, without waiting for anything of the old primary: for one that answers but does not work. No acknowledged commit is lost under durability quorum. If the old primary works, prefer standfast switchover. If too few members are left to elect without loss, see standfast promote.

Examples:

    standfast failover
    standfast failover --to pg3`
}

func (c *failoverCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	moved, err := cl.Failover(a.ctx, c.To, false, c.DryRun, s.show)
	s.end()
	if err != nil || c.DryRun {
		return err
	}
	return a.moved(moved)
}
