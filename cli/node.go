package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"standfast/api"
	"standfast/ops"
	"standfast/packaging"
)

type nodeCmd struct {
	Stop  nodeStopCmd  `cmd:"" help:"Hand this host's role over, then stop its member and PostgreSQL."`
	Start nodeStartCmd `cmd:"" help:"Start this host's member."`

	Add         nodeAddCmd         `cmd:"" help:"Take hosts into the running cluster, over ssh."`
	Maintenance nodeMaintenanceCmd `cmd:"" help:"Keep this host stopped, also over reboots, until released."`
	Drain       nodeDrainCmd       `cmd:"" help:"Keep new sessions for reading away from a standby."`

	Rejoin  nodeRejoinCmd  `cmd:"" help:"Take this host into the cluster that was founded anew without it."`
	Remove  nodeRemoveCmd  `cmd:"" help:"Take a member out of the cluster."`
	Replace nodeReplaceCmd `cmd:"" help:"Put a new machine in the place of one that died for good, over ssh."`
	Change  nodeChangeCmd  `cmd:"" hidden:""`
}

type nodeStopCmd struct {
	Now bool `help:"Do not hand the role over: the others elect."`
}

func (nodeStopCmd) Help() string {
	return `For maintenance of this host. If it has the primary, another member takes over first; if none can, nothing is stopped. At the next boot it starts again.

"systemctl stop standfast" alone stops the agent only: PostgreSQL runs on, for the next agent to take over. A primary that is left alone is ended by its guard a few seconds later, and the others elect.

Example:

    sudo standfast node stop`
}

// lookTime is how long the cluster may take to say who is primary.
const lookTime = 5 * time.Second

func (c *nodeStopCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	if err := isService(a.ctx); err != nil {
		return err
	}
	if !c.Now {
		if err := a.handOver(n.Name); err != nil {
			return fmt.Errorf("%w; nothing was stopped (to stop all the same: standfast node stop --now)", err)
		}
	}
	// The agent first: it would start PostgreSQL again.
	for _, unit := range []string{packaging.Unit, packaging.ServerUnit} {
		if err := systemctl(a.ctx, "stop", unit); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(a.stdout, "%s is stopped\n", n.Name)
	return err
}

// handOver makes another member the primary if this one is.
func (a *app) handOver(name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	st, err := newest(a.ctx, cl)
	if err != nil {
		return err
	}
	if st.Primary != name {
		return nil
	}
	s := a.steps()
	moved, err := cl.Switchover(a.ctx, "", false, s.show)
	s.end()
	if err != nil {
		return err
	}
	return a.moved(moved)
}

// newest is the status of the highest term that any member tells.
func newest(ctx context.Context, cl *ops.Cluster) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var st *api.Status
	var errs []error
	for _, r := range cl.Statuses(ctx) {
		switch {
		case r.Err != nil:
			errs = append(errs, r.Err)
		case st == nil || r.Status.Term > st.Term:
			st = r.Status
		}
	}
	if st == nil {
		return nil, errors.Join(errs...)
	}
	return st, nil
}

type nodeStartCmd struct{}

func (nodeStartCmd) Help() string {
	return "What it does at every boot.\n\nExample:\n\n    sudo standfast node start"
}

func (*nodeStartCmd) Run(a *app) error {
	if err := isService(a.ctx); err != nil {
		return err
	}
	noted, err := inMaintenance()
	if err != nil {
		return err
	}
	if noted != "" {
		return &coded{Unsafe, fmt.Errorf("this host is in maintenance (%s): standfast node maintenance off ends that and starts it", noted)}
	}
	return systemctl(a.ctx, "start", packaging.Unit)
}

// isService refuses where this host's member is not run by systemd.
func isService(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState", "--value", packaging.Unit).Output()
	if err != nil || strings.TrimSpace(string(out)) != "loaded" {
		return usage("%s is not installed here, so the member is not run by systemd: stop it where it was started (Ctrl-C)", packaging.Unit)
	}
	return nil
}

func systemctl(ctx context.Context, verb, unit string) error {
	out, err := exec.CommandContext(ctx, "systemctl", verb, unit).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s %s: %w: %s", verb, unit, err, strings.TrimSpace(string(out)))
	}
	return nil
}
