package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/postgres"
)

// settleBound is how long a restart waits for this member to have settled in the newest term with the newest configuration:
// before that it can't say what waits for a restart.
const settleBound = 30 * time.Second

// Restart restarts this member's PostgreSQL: a standby in place, a primary by an election that it wins again.
func (n *Node) Restart(ctx context.Context, r api.RestartRequest, progress func(api.Progress)) error {
	if _, err := n.current(); err != nil {
		return err
	}
	if err := n.concernsMe(r.Member); err != nil {
		return err
	}
	if r.DryRun {
		return n.foretellRestart(r, progress)
	}
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	w, err := n.upToDate(ctx)
	if err != nil && r.OnlyPending {
		return api.Errorf(api.Conflict, "whether %s waits for a restart is not known: %w", n.cfg.Name, err)
	}
	if err != nil { // it may be restarted because of that
		progress(api.Progress{Member: n.cfg.Name, Step: "warning", Text: fmt.Sprintf("the parameters of %s are not known to be as agreed: %v", n.cfg.Name, err)})
	}
	v, err := n.current()
	if err != nil {
		return err
	}
	primary := v.State.Primary == n.cfg.Name
	if r.Role != "" && (r.Role == api.Primary) != primary {
		return api.Errorf(api.Precondition, "%s is not a %s", n.cfg.Name, r.Role)
	}
	if r.OnlyPending && len(w.Restart) == 0 {
		progress(api.Progress{Member: n.cfg.Name, Step: api.StepNothing, Text: n.cfg.Name + " does not wait for a restart"})
		return nil
	}
	if primary {
		return n.restartPrimary(ctx, r, w, progress)
	}
	progress(api.Progress{Member: n.cfg.Name, Step: "restart", Text: "restarting the standby " + n.cfg.Name})
	if err := n.agent.Restart(ctx, r.Operator+" asked for it"); err != nil {
		return api.Errorf(api.Conflict, "restart %s: %w", n.cfg.Name, err)
	}
	if err := n.await(ctx, "", progress, func(v cluster.View) (bool, error) { return settled(v), nil }); err != nil {
		return err
	}
	if n.pg != nil {
		if err := n.refreshParameters(ctx); err != nil { // the next one asks whether this one still waits
			return api.Errorf(api.Conflict, "%s was restarted: %w", n.cfg.Name, err)
		}
	}
	progress(api.Progress{Member: n.cfg.Name, Step: "done", Text: "the standby follows again"})
	return nil
}

// foretellRestart says what a restart would interrupt.
func (n *Node) foretellRestart(r api.RestartRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	primary := v.State.Primary == n.cfg.Name
	if r.Role != "" && (r.Role == api.Primary) != primary {
		return api.Errorf(api.Precondition, "%s is not a %s", n.cfg.Name, r.Role)
	}
	if r.OnlyPending && len(n.waiting().Restart) == 0 {
		progress(api.Progress{Member: n.cfg.Name, Step: api.StepNothing, Text: n.cfg.Name + " does not wait for a restart"})
		return nil
	}
	spare := api.Describe(v.Settings.Durability, v.State.Rule, attachedIn(v), votes(v)).Spare
	progress(api.Progress{Member: n.cfg.Name, Step: "dry run", Text: restartForetold(n.cfg.Name, primary, v.State.Rule.Has(n.cfg.Name), spare)})
	return nil
}

// restartForetold: spare is how many hosts may fail before writing waits.
func restartForetold(name string, primary, counts bool, spare int) string {
	switch {
	case primary:
		return name + " is the primary: its sessions would end and new connections wait while its PostgreSQL restarts; it stays primary, and nothing is lost"
	case counts && spare <= 0:
		return "sessions that read from " + name + " would end, and writing would wait while its PostgreSQL restarts, for commits need it: no other standby can take its place now"
	}
	return "sessions that read from " + name + " would end while its PostgreSQL restarts; writing goes on without it"
}

// restartPrimary restarts the primary by an election that it wins. What a standby must have at least is raised there
// first, and lowered here first.
func (n *Node) restartPrimary(ctx context.Context, r api.RestartRequest, w postgres.Waiting, progress func(api.Progress)) error {
	if len(w.Raised) > 0 {
		if due := n.standbysDue(ctx); len(due) > 0 {
			return api.Errorf(api.Conflict, "%s is raised, and a standby must not have less of it than its primary: restart %s first (standfast restart --pending takes all in order)",
				strings.Join(w.Raised, ", "), strings.Join(due, ", "))
		}
	}
	if n.pg != nil && len(w.Lowered) > 0 {
		n.pg.Lower(true)
		defer n.pg.Lower(false)
	}
	progress(api.Progress{Member: n.cfg.Name, Step: "restart", Text: n.cfg.Name + " is the primary: new connections wait while it restarts"})
	return n.request(ctx, cluster.Request{Kind: cluster.Switchover, To: n.cfg.Name}, r.By, progress)
}

// hearsay is how long what a member has done may take to show in its beats here: they come ten times a second.
const hearsay = time.Second

// standbysDue are the members, heard from now, that say that they wait for a restart, and go on saying so. One that is not
// running takes what its primary has when it starts.
func (n *Node) standbysDue(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, hearsay)
	defer cancel()
	for {
		changed := n.viewChanged.wait()
		due := sayTheyWait(*n.view.Load())
		if len(due) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return due
		}
	}
}

func sayTheyWait(v cluster.View) []string {
	var out []string
	for name, p := range v.Peers {
		if name != v.Self && p.Beat.PendingRestart && p.Heard > 0 && v.Now-p.Heard < v.Settings.Detect {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// upToDate waits until this member has settled in the newest term and has put the newest configuration in force, both as
// the store has them now, and says what waits.
func (n *Node) upToDate(ctx context.Context) (postgres.Waiting, error) {
	if n.pg == nil {
		return n.waiting(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	s, err := n.store.State(ctx)
	if err != nil {
		return postgres.Waiting{}, fmt.Errorf("read the cluster's state: %w (is a majority of the members running?)", err)
	}
	kv, err := n.readConfig(ctx)
	if err != nil {
		return postgres.Waiting{}, err
	}
	var past cluster.LSN // what the primary writes first in a term tells how much of each parameter it has
	for {
		changed := n.viewChanged.wait()
		v, a := n.view.Load(), n.applied.Load()
		primary := v.Peers[v.State.Primary].Beat
		if past == 0 && v.State.Term >= s.Term && primary.Admitted == v.State.Term {
			past = primary.Position.LSN
		}
		lacking := ""
		switch {
		case v.State.Term < s.Term:
			lacking = fmt.Sprintf("it does not know of term %d", s.Term)
		case !settled(*v):
			lacking = "it does not follow the primary, or is none itself: bring it back first, or name the members to restart"
		case v.State.Primary != v.Self && (past == 0 || v.Postgres.Replayed < past):
			lacking = "it has not replayed what the primary has written"
		case a == nil || a.revision < kv.Revision:
			lacking = "it has not put the agreed configuration in force"
		case a.err != nil:
			return postgres.Waiting{}, fmt.Errorf("put the agreed configuration in force: %w", a.err)
		}
		if lacking == "" {
			err := n.refreshParameters(ctx)
			return n.waiting(), err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return postgres.Waiting{}, fmt.Errorf("%s: %w", lacking, ctx.Err())
		}
	}
}
