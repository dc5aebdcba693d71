package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"standfast/cluster"
	"standfast/postgres"
	"standfast/store"
)

// Bounds on single steps. They are far above what the step takes on a healthy host; a step that runs into one failed.
const (
	storeBound = 3 * time.Second
	sqlBound   = 5 * time.Second
	fenceBound = time.Second
	probeBound = 200 * time.Millisecond
)

// do carries out one quick action.
func (a *Agent) do(ctx context.Context, v cluster.View, x cluster.Action) error {
	switch x := x.(type) {
	case cluster.Fence:
		return a.fence(ctx, x)
	case strike:
		return a.strike(ctx, x)
	case cluster.Promise:
		return a.doPromise(v, x)
	case cluster.SendReport:
		return a.sendReport(ctx, x)
	case cluster.Write:
		return a.write(ctx, x)
	case cluster.SetNames:
		return a.setNames(ctx, v, x)
	case cluster.WriteTermRow:
		return a.writeTermRow(ctx, x)
	case cluster.Admit:
		return a.admit(ctx, v, x)
	case cluster.Expel:
		return a.expel(ctx, x)
	case cluster.Attach:
		return a.attach(v, x)
	case cluster.Refuse:
		return a.refuse(ctx, x)
	case settle:
		return a.settle(ctx, x)
	case openReads:
		return a.openReads(ctx)
	case readyNames:
		return a.readyNames(ctx, x)
	}
	return fmt.Errorf("no executor for %T", x)
}

// fence ends the server at once. This member stops calling itself admitted first, for a process in uninterruptible sleep
// does not die: the route must not wait for it.
func (a *Agent) fence(ctx context.Context, x cluster.Fence) error {
	a.stepDown(x)
	ctx, cancel := context.WithTimeout(ctx, fenceBound)
	defer cancel()
	err := a.cfg.Postgres.KillAll(ctx)
	var stuck *postgres.SurvivorsError
	if err != nil && !errors.As(err, &stuck) {
		return err
	}
	if stuck != nil { // they have their signal, and the election needs nothing more of them
		a.log.Error(x.String(), "error", err)
	}
	a.mu.Lock()
	a.running, a.pg.Up, a.stalled, a.pgAt = stuck != nil, false, "", a.looks.Add(1)
	a.mustClose = a.mustClose && stuck != nil // nobody is left to be kept out
	a.mu.Unlock()
	return nil
}

// strike is a fence that an election waits for. What has its SIGKILL acknowledges nothing more, so the term is raised while
// the kernel still takes the server apart, which takes it tens of milliseconds; decide sees what is left and has it fenced
// again, which waits.
type strike struct{ cluster.Fence }

func (a *Agent) strike(ctx context.Context, x strike) error {
	a.stepDown(x.Fence)
	ctx, cancel := context.WithTimeout(ctx, fenceBound)
	defer cancel()
	if err := a.cfg.Postgres.Kill(ctx); err != nil {
		return err
	}
	running, err := a.cfg.Postgres.Running()
	a.mu.Lock()
	a.running, a.pg.Up, a.stalled, a.pgAt = running || err != nil, false, "", a.looks.Add(1)
	a.mu.Unlock()
	return nil
}

// stepDown gives the service up before its server dies.
func (a *Agent) stepDown(x cluster.Fence) {
	a.mu.Lock()
	a.admitted, a.termRow, a.termRowOf, a.openNow = 0, 0, 0, false
	a.mu.Unlock()
	a.release()
	a.cfg.Relay.Detach(x.Reason)
}

func (a *Agent) release() {
	if a.cfg.Release != nil {
		a.cfg.Release()
	}
}

// doPromise raises the relay's floor first and writes the promise second: from the first on nothing of an earlier term is
// received, from the second on that outlives a crash.
func (a *Agent) doPromise(v cluster.View, x cluster.Promise) error {
	if a.cfg.Relay != nil {
		a.cfg.Relay.Raise(x.Term)
	}
	a.promising.Lock()
	defer a.promising.Unlock()
	if err := a.promise.save(a.cfg.Cluster, a.cfg.Self, x.Term, v.Epoch); err != nil {
		return err
	}
	a.mu.Lock()
	a.wantPromise = max(a.wantPromise, x.Term)
	a.mu.Unlock()
	return nil
}

func (a *Agent) sendReport(ctx context.Context, x cluster.SendReport) error {
	ctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	if err := a.cfg.Store.PutReport(ctx, x.Report); err != nil {
		return err
	}
	a.mu.Lock()
	a.reported = x.Report // it counts at once, and is not written again until the watch shows it
	a.mu.Unlock()
	return nil
}

// write replaces the agreed record. What was surely written counts at once, without waiting for the watch; what was
// surely not, or perhaps, is seen when it comes.
func (a *Agent) write(ctx context.Context, x cluster.Write) error {
	ctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	next := x.Next
	if next.Cluster == "" {
		next.Cluster = a.cfg.Cluster
	}
	sent := time.Now()
	written, err := a.cfg.Store.WriteState(ctx, next)
	if err != nil {
		if !errors.Is(err, store.ErrConflict) {
			a.mu.Lock()
			a.unknown = next.Revision
			a.mu.Unlock()
		}
		return err
	}
	a.renewed(written.Term, sent)
	a.mu.Lock()
	a.written = &written
	a.mu.Unlock()
	return nil
}

// settle finds out what became of a write of unknown outcome, by writing the record as it is known over its revision:
// either that succeeds, and then the late write fails its own comparison, or the newer record is learnt. Reading would
// not do, for the write may take effect after the reading.
type settle struct{ known cluster.State }

func (settle) String() string { return "settle the agreed record" }

func (a *Agent) settle(ctx context.Context, x settle) error {
	ctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	s, err := a.cfg.Store.WriteState(ctx, x.known)
	if errors.Is(err, store.ErrConflict) {
		s, err = a.cfg.Store.State(ctx)
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.written = &s
	a.mu.Unlock()
	return nil
}

// setNames changes what PostgreSQL works by, then notes a position that lies after everything acknowledged by the
// earlier rule.
func (a *Agent) setNames(ctx context.Context, v cluster.View, x cluster.SetNames) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBound)
	defer cancel()
	a.mu.Lock()
	a.namesLSN = 0
	a.mu.Unlock()
	if err := a.cfg.Postgres.SetNames(ctx, x.Rule, !v.Postgres.Recovery); err != nil {
		return err
	}
	begun := a.looks.Add(1)
	o, err := a.cfg.Postgres.Observe(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names, a.namesLSN = o.Postgres.Names, o.Postgres.Position.LSN
	a.accept(o, begun)
	return nil
}

func (a *Agent) writeTermRow(ctx context.Context, x cluster.WriteTermRow) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBound)
	defer cancel()
	lsn, err := a.cfg.Postgres.WriteTermRow(ctx, x.Term)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.termRow, a.termRowOf = lsn, x.Term
	if a.promotedIn == x.Term && a.namesLSN == 0 { // the names were in force before the promotion, and no WAL sender is older
		a.names, a.namesLSN = a.pg.Names, lsn
	}
	a.mu.Unlock()
	return nil
}

// errOverruled says that a newer term came while clients were being let in.
var errOverruled = errors.New("a newer term has begun")

// admit lets clients in, and checks the term again after pg_hba has been opened and before anyone is told.
func (a *Agent) admit(ctx context.Context, v cluster.View, x cluster.Admit) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBound)
	defer cancel()
	if err := a.cfg.Postgres.OpenClients(ctx); err != nil {
		return err
	}
	for _, p := range a.cfg.Beats.Peers() {
		if p.Beat.Term > x.Term {
			return errOverruled
		}
	}
	a.mu.Lock()
	overruled := max(a.known, a.wantPromise) > x.Term
	if !overruled && ctx.Err() == nil {
		a.admitted, a.openNow, a.mustClose = x.Term, true, false
	}
	a.mu.Unlock()
	switch {
	case overruled:
		return errOverruled
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	a.recordReign(v)
	a.aside.Go(func() { a.checkpoint(a.life) })
	return nil
}

// checkpoint makes the new timeline known to pg_rewind: it reads the control file of its source, which names the timeline
// of the newest checkpoint, and the one that PostgreSQL begins at a promotion is spread over minutes.
func (a *Agent) checkpoint(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := a.cfg.Postgres.Checkpoint(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("checkpoint after the promotion", "error", err)
	}
}

// openReads lets clients into a standby that may serve reads. They stay when it is detached for an election: the routers
// bound how stale a read can be; a promotion closes clients out again before it begins.
type openReads struct{}

func (openReads) String() string { return "let readers in" }

func (a *Agent) openReads(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBound)
	defer cancel()
	if err := a.cfg.Postgres.OpenClients(ctx); err != nil {
		return err
	}
	a.setOpen(true)
	return nil
}

// readyNames lets a standby work by the rule that it would be promoted with, so that the promotion finds its names in force
// instead of writing and syncing them while clients wait. A standby acknowledges nothing, so they mean nothing before;
// Promote sees for itself whether they are right.
type readyNames struct{ rule cluster.Rule }

func (x readyNames) String() string { return "get names ready: " + x.rule.String() }

func (a *Agent) readyNames(ctx context.Context, x readyNames) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBound)
	defer cancel()
	if err := a.cfg.Postgres.SetNames(ctx, x.rule, false); err != nil {
		return err
	}
	a.lookAtServer(ctx) // it is not asked for again
	return nil
}

func (a *Agent) setOpen(open bool) {
	a.mu.Lock()
	a.openNow = open
	a.mu.Unlock()
}

func (a *Agent) expel(ctx context.Context, x cluster.Expel) error {
	a.mu.Lock()
	a.admitted, a.mustClose = 0, true
	a.mu.Unlock()
	a.release()
	ctx, cancel := context.WithTimeout(ctx, sqlBound)
	defer cancel()
	if err := a.cfg.Postgres.CloseClients(ctx, true); err != nil {
		return err
	}
	a.mu.Lock()
	a.openNow, a.mustClose = false, false
	a.mu.Unlock()
	return nil
}

func (a *Agent) attach(v cluster.View, x cluster.Attach) error {
	for _, m := range v.Members {
		if m.Name == v.State.Primary {
			return a.cfg.Relay.Attach(x.Term, v.State.Timeline, m.Postgres)
		}
	}
	return fmt.Errorf("attach: the primary %s is not a member", v.State.Primary)
}

func (a *Agent) refuse(ctx context.Context, x cluster.Refuse) error {
	ctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	// The reason first: whoever asked looks for it when the request is gone.
	if err := a.cfg.Store.PutNote(ctx, a.noteOf("refused", fmt.Sprintf("%s to %q by %s: %s", x.Request.Kind, x.Request.To, x.Request.By, x.Why))); err != nil {
		return err
	}
	if err := a.cfg.Store.WithdrawRequest(ctx, x.Request.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// probe asks the primary's server for an answer beside both lanes: it may take its whole time without holding up
// anything.
func (a *Agent) probe(ctx context.Context, v cluster.View, name string) {
	addr := addresses(v.Members)[name]
	if addr == "" {
		return
	}
	a.mu.Lock()
	busy := a.probing
	a.probing = true
	a.mu.Unlock()
	if busy {
		return
	}
	a.aside.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, probeBound)
		defer cancel()
		err := a.cfg.Probe(ctx, addr)
		a.mu.Lock()
		a.probing = false
		if err == nil {
			a.probeHeard = time.Now()
		}
		a.mu.Unlock()
		a.Wake()
	})
}
