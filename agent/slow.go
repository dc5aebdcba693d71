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

// Bounds on slow steps. A clone's has to let the largest database through.
const (
	startBound    = 60 * time.Second
	promoteBound  = 30 * time.Second
	handoverBound = 60 * time.Second
	rewindBound   = 30 * time.Minute
	cloneBound    = 24 * time.Hour
)

func kindOf(x cluster.Action) string {
	switch x.(type) {
	case cluster.Start:
		return "start"
	case cluster.Restart:
		return "restart"
	case cluster.Promote:
		return "promote"
	case cluster.Rewind:
		return "rewind"
	case cluster.Clone:
		return "clone"
	case cluster.Init:
		return "init"
	case cluster.Handover:
		return "handover"
	}
	return "stop"
}

// doSlow carries out one slow action.
func (a *Agent) doSlow(ctx context.Context, v cluster.View, x cluster.Action) error {
	bounded := func(d time.Duration, f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return f(ctx)
	}
	pg := a.cfg.Postgres
	switch x := x.(type) {
	case cluster.Start:
		return bounded(startBound, func(ctx context.Context) error {
			err := pg.StartStandby(ctx) // it ends what an earlier server may have left behind
			if errors.Is(err, postgres.ErrRunning) {
				return nil // decided before the last look at it
			}
			return err
		})
	case cluster.Restart:
		return bounded(startBound, func(ctx context.Context) error {
			if err := pg.Stop(ctx, postgres.Fast); err != nil {
				return err
			}
			return pg.StartStandby(ctx)
		})
	case cluster.Stop:
		return bounded(startBound, func(ctx context.Context) error { return pg.Stop(ctx, postgres.Fast) })
	case cluster.Init:
		return bounded(startBound*5, pg.Init)
	case cluster.Promote:
		return bounded(promoteBound, func(ctx context.Context) error { return pg.Promote(ctx, x.Timeline, x.Rule) })
	case cluster.Handover:
		return bounded(handoverBound, func(ctx context.Context) error { return a.handover(ctx, v, x) })
	case cluster.Rewind:
		return bounded(rewindBound, func(ctx context.Context) error { return a.rewind(ctx, v, x) })
	case cluster.Clone:
		return bounded(cloneBound, func(ctx context.Context) error { return a.clone(ctx, v, x) })
	}
	return fmt.Errorf("no executor for %T", x)
}

// handover prepares the switchover. PostgreSQL's fast stop ends only after every attached WAL receiver has confirmed the
// shutdown checkpoint, so the target holds all of it when the stop returns.
func (a *Agent) handover(ctx context.Context, v cluster.View, x cluster.Handover) error {
	pg := a.cfg.Postgres
	if err := pg.Checkpoint(ctx); err != nil {
		return err
	}
	if x.To != a.cfg.Self {
		if err := a.awaitCaughtUp(ctx, x.To); err != nil {
			return err
		}
	}
	if err := a.hold(ctx, v, x); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return pg.Stop(ctx, postgres.Fast)
}

// hold makes new connections wait on every host that is heard, and returns when their beats say that they do: one that
// came a moment later would meet a server that is shutting down.
func (a *Agent) hold(ctx context.Context, v cluster.View, x cluster.Handover) error {
	req := *v.Request
	req.Begun, req.To = true, x.To
	sctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	now, err := a.cfg.Store.Request(sctx)
	if err != nil || now.ID != req.ID {
		return errors.Join(errors.New("the request was withdrawn"), err)
	}
	if _, err := a.cfg.Store.PutRequest(sctx, req, now.Revision); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, a.cfg.Settings().Detect)
	defer cancel()
	for !a.allHold(v) {
		select {
		case <-ctx.Done():
			return nil // one that does not hear us serves nobody for long either
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func (a *Agent) allHold(v cluster.View) bool {
	detect := a.cfg.Settings().Detect
	for _, m := range v.Members {
		p, ok := a.cfg.Beats.Peers()[m.Name]
		if ok && time.Since(p.HeardAt) < detect && !p.Beat.Holding {
			return false
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.holding
}

// nearEnough is how far behind, in bytes, a switchover's target may be when the primary is stopped: the rest is sent
// during the stop, while clients wait.
const nearEnough = 1 << 20

func (a *Agent) awaitCaughtUp(ctx context.Context, name string) error {
	for {
		o, err := a.cfg.Postgres.Observe(ctx)
		if err != nil {
			return err
		}
		for _, s := range o.Postgres.Standbys {
			if s.Name == name && s.Streaming && s.Replayed+nearEnough >= o.Postgres.Position.LSN {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not caught up: %w", name, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// errStillCounted says that the record, read again, still counts on this member's data.
var errStillCounted = errors.New("the commit rule still counts on this member, or the term has changed")

// mayTouch reads the agreed record again, linearizably: data may be rewound or erased only while the recorded rule
// excludes this member, and only in the term that the decision was made in.
func (a *Agent) mayTouch(ctx context.Context, t cluster.Term) error {
	s, err := a.cfg.Store.State(ctx)
	if err != nil {
		return err
	}
	if s.Term != t || s.Rule.Has(a.cfg.Self) || s.Phase != cluster.Reigning {
		return errStillCounted
	}
	return nil
}

// leave is asked by a rewind or clone where it gives up the old data, for what was decided in term t. The record is read
// once more, and the data is marked under the lock that promises are made under: once a newer term is promised it stays
// as it is, for its report may be what that term rests on.
func (a *Agent) leave(ctx context.Context, t cluster.Term) func(mark func() error) error {
	return func(mark func() error) error {
		if err := a.mayTouch(ctx, t); err != nil {
			return err
		}
		a.promising.Lock()
		defer a.promising.Unlock()
		a.mu.Lock()
		promised := a.wantPromise
		a.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case promised > t:
			return fmt.Errorf("term %d is promised: %w", promised, errStillCounted)
		}
		return mark()
	}
}

func (a *Agent) rewind(ctx context.Context, v cluster.View, x cluster.Rewind) error {
	if err := a.mayTouch(ctx, x.Term); err != nil {
		return err
	}
	src, err := source(v, x.From)
	if err != nil {
		return err
	}
	src.Touch = a.leave(ctx, x.Term)
	a.setNote("rewinding")
	a.letGo("rewinding")
	if err := a.cfg.Postgres.Rewind(ctx, src); err != nil {
		return err
	}
	a.setRejoined(x.Term)
	return nil
}

func (a *Agent) clone(ctx context.Context, v cluster.View, x cluster.Clone) error {
	if err := a.mayTouch(ctx, x.Term); err != nil {
		return err
	}
	src, err := source(v, x.From)
	if err != nil {
		return err
	}
	src.KeepOld, src.Touch = x.Keep, a.leave(ctx, x.Term)
	a.setNote("cloning")
	a.letGo("cloning")
	if err := a.cfg.Postgres.KillAll(ctx); err != nil {
		return err
	}
	err = a.cfg.Postgres.Clone(ctx, src, a.tellCopied())
	if err == nil {
		a.setRejoined(x.Term)
	}
	return err
}

// copyPace is how often the log says how far a clone has come.
const copyPace = 5 * time.Second

// tellCopied tells of a clone's progress: by the note to everybody, by Copied to whoever waits here, and now and then in the
// log.
func (a *Agent) tellCopied() func(done, total int64) {
	begun := time.Now()
	logged := begun
	return func(done, total int64) {
		now := time.Now()
		text := progress("cloning", done, total, now.Sub(begun))
		a.mu.Lock()
		a.note, a.copied, a.toCopy = text, done, total
		a.mu.Unlock()
		if now.Sub(logged) >= copyPace {
			logged = now
			a.log.Info(text)
		}
		a.Wake()
	}
}

// Copied is how many bytes of a clone that is under way have been copied, and how many there are as estimated; zero when
// none is.
func (a *Agent) Copied() (done, total int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.copied, a.toCopy
}

// letGo closes the relay before data is touched: what comes of it has to be compared with the primary's history again
// before its first byte.
func (a *Agent) letGo(reason string) {
	a.cfg.Relay.Detach(reason)
	a.mu.Lock()
	a.pg.Up, a.held, a.gone, a.pgAt = false, false, false, a.looks.Add(1)
	a.mu.Unlock()
}

func progress(what string, done, total int64, took time.Duration) string {
	const mb = 1 << 20
	rate := float64(done) / mb / max(took.Seconds(), 0.001)
	if total > 0 {
		return fmt.Sprintf("%s %d of %d MB (%d %%), %.0f MB/s", what, done/mb, total/mb, min(done*100/total, 100), rate)
	}
	return fmt.Sprintf("%s %d MB, %.0f MB/s", what, done/mb, rate)
}

func source(v cluster.View, name string) (postgres.Source, error) {
	return postgres.ParseSource(addresses(v.Members)[name])
}

// afterSlow looks at what the action has left, before decide sees its end.
func (a *Agent) afterSlow(ctx context.Context, v cluster.View, j *job) {
	cause := context.Cause(ctx)
	cancelled := j.err != nil && cause != nil // unwanted, or the agent is stopping: no failure of the action's
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	a.setNote("")
	a.lookAtServer(ctx)
	a.lookAtData(ctx)
	a.mu.Lock()
	a.copied, a.toCopy = 0, 0
	a.doing, a.openNow = false, false // every start and every promotion begins with clients kept out
	if j.err == nil {
		a.failed, a.failedKind, a.failedTerm = "", "", 0
		if _, started := j.action.(cluster.Start); started {
			a.mustClose = false
		}
		if p, ok := j.action.(cluster.Promote); ok {
			a.termRow, a.termRowOf, a.namesLSN, a.promotedIn = 0, 0, 0, p.Term
		}
	} else if !cancelled && !errors.Is(j.err, errStillCounted) {
		a.failed, a.failedKind, a.failedTerm, a.failedAt = j.err.Error(), kindOf(j.action), v.State.Term, time.Now()
	}
	if errors.Is(j.err, errStillCounted) {
		a.restUntil = time.Now().Add(retryAfter)
	}
	a.mu.Unlock()
	if h, ok := j.action.(cluster.Handover); ok && j.err != nil && !cancelled {
		a.withdraw(ctx, v, h, j.err)
	}
}

// withdraw ends a switchover that failed midway: the same primary goes on.
func (a *Agent) withdraw(ctx context.Context, v cluster.View, h cluster.Handover, why error) {
	ctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	if v.Request == nil {
		return
	}
	if err := a.refuse(ctx, cluster.Refuse{Request: *v.Request, Why: fmt.Sprintf("handing over to %s: %v", h.To, why)}); err != nil && !errors.Is(err, store.ErrNotFound) {
		a.log.Warn("withdraw the switchover", "error", err)
	}
}

func (a *Agent) setNote(s string) {
	a.mu.Lock()
	a.note = s
	a.mu.Unlock()
}

// Note is what the member is busy with, or what has failed, a phrase; "" if there is nothing to tell.
func (a *Agent) Note() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.note == "" && a.slow != nil {
		return a.slow.action.String()
	}
	if a.note == "" && a.failed != "" && time.Since(a.failedAt) < time.Minute {
		return a.failedKind + " failed: " + a.failed
	}
	if a.note == "" && a.dataFault != "" {
		return "using the data directory failed: " + a.dataFault
	}
	return a.note
}

// setDataFault notes why the data directory is of no use; "": it is, or is empty.
func (a *Agent) setDataFault(why string) {
	a.mu.Lock()
	a.dataFault = why
	a.mu.Unlock()
}
