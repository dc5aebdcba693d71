package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"standfast/api"
	"standfast/ops"
)

type shutdownCmd struct {
	All    bool `help:"Yes, all hosts."`
	DryRun bool `help:"Say what would happen, change nothing." name:"dry-run"`
}

func (shutdownCmd) Help() string {
	return `For a site that is switched off. New connections are held, the primary stops in order, its last checkpoint on the standbys, then the standbys stop, then standfast on each host: no failover. Clients that come are told so. The hosts themselves stay up: switch them off afterwards, in any order.

At the next boot, or by standfast node start, it begins again once more than half of the hosts are there, with the same primary if that one comes within some seconds. To stop one host, see standfast node stop.

Examples:

    standfast shutdown --all --dry-run
    standfast shutdown --all`
}

// stopTime is how long all members may take to stop after the primary has.
const stopTime = 2 * time.Minute

func (c *shutdownCmd) Run(a *app) error {
	if !c.All && !c.DryRun {
		return usage("this stops the whole cluster: say --all; for this host alone: standfast node stop")
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	err = cl.Shutdown(a.ctx, api.ShutdownRequest{DryRun: c.DryRun}, s.show)
	if err == nil && !c.DryRun {
		err = awaitSilence(a.ctx, cl)
	}
	s.end()
	if err != nil || c.DryRun {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, "the cluster is shut down; it begins again at the next boot, or by standfast node start on each host")
	return err
}

// awaitSilence returns when no member answers.
func awaitSilence(ctx context.Context, cl *ops.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	for {
		left := ""
		for _, r := range cl.Statuses(ctx) {
			if r.Err == nil {
				left = r.Status.Self
			}
		}
		if left == "" && ctx.Err() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the primary has stopped, and %s still answers; see standfast status", left), ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
