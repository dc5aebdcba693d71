package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"standfast/cluster"
	"standfast/decide"
	"standfast/store"
)

// batch is one list of quick actions being carried out.
type batch struct {
	cancel  context.CancelCauseFunc
	done    chan struct{}
	actions []cluster.Action
	begun   time.Time
	err     error
}

// job is one slow action being carried out.
type job struct {
	action cluster.Action
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error
}

func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

var errUnwanted = errors.New("no longer wanted")

// retryAfter is how long a failed list rests before the same thing is tried again; an answer of the store that somebody
// else was first is followed by the news itself, so it rests hardly at all.
const (
	retryAfter    = 100 * time.Millisecond
	retryConflict = 5 * time.Millisecond
)

// overtaken is how long a quick action is left alone though nobody wants it any more.
const overtaken = 200 * time.Millisecond

func isSlow(x cluster.Action) bool {
	switch x.(type) {
	case cluster.Start, cluster.Restart, cluster.Stop, cluster.Init, cluster.Promote, cluster.Handover, cluster.Rewind, cluster.Clone:
		return true
	}
	return false
}

// yields reports whether a slow action may be cancelled when it is no longer wanted: one that leaves the member no worse
// than half-way, which the marker on the data or the request in the store remembers.
func yields(x cluster.Action) bool {
	switch x.(type) {
	case cluster.Handover, cluster.Rewind, cluster.Clone:
		return true
	}
	return false
}

// promotes: a promotion is finished, but not begun any more once something urgent says that its term is over. Each of its
// statements looks at its context first; pg_promote is the last that changes anything.
func promotes(x cluster.Action) bool {
	_, ok := x.(cluster.Promote)
	return ok
}

// same compares actions by what they do, not by dates, reasons or wording.
func same(x, y cluster.Action) bool {
	wx, okx := x.(cluster.Write)
	wy, oky := y.(cluster.Write)
	if okx && oky {
		return wx.Next.Revision == wy.Next.Revision && wx.Next.Term == wy.Next.Term && wx.Next.Phase == wy.Next.Phase &&
			wx.Next.Primary == wy.Next.Primary && wx.Next.Rule.Equal(wy.Next.Rule)
	}
	if _, ok := x.(cluster.Fence); ok {
		_, ok = y.(cluster.Fence)
		return ok
	}
	rx, okx := x.(cluster.SendReport)
	ry, oky := y.(cluster.SendReport)
	if okx && oky {
		return rx.Report.Term == ry.Report.Term && rx.Report.Position == ry.Report.Position
	}
	return x.String() == y.String()
}

func wanted(acts []cluster.Action, x cluster.Action) bool {
	return slices.ContainsFunc(acts, func(y cluster.Action) bool { return same(x, y) })
}

// isUrgent reports whether anything in the list ends or withholds service, and so waits for no other action's rest.
func isUrgent(acts []cluster.Action) bool {
	return slices.ContainsFunc(acts, func(x cluster.Action) bool {
		switch x.(type) {
		case cluster.Fence, cluster.Promise, cluster.Expel:
			return true
		}
		return false
	})
}

// carryOut starts what is wanted and cancels what no longer is.
func (a *Agent) carryOut(ctx context.Context, v cluster.View, acts []cluster.Action) {
	urgent := isUrgent(acts)
	if a.slow != nil && (yields(a.slow.action) && (urgent || !wanted(acts, a.slow.action)) || urgent && promotes(a.slow.action)) {
		a.slow.cancel(errUnwanted)
	}
	if a.quick != nil {
		if !urgent && time.Since(a.quick.begun) < overtaken {
			return // most likely its effect was seen before its answer came
		}
		if !slices.ContainsFunc(a.quick.actions, func(x cluster.Action) bool {
			_, settling := x.(settle)
			_, opening := x.(openReads)
			_, readying := x.(readyNames)
			return wanted(acts, x) || settling && !urgent || opening && decide.Readable(v) || readying && len(acts) == 0
		}) {
			a.quick.cancel(errUnwanted)
		}
		return // its end wakes the loop
	}
	if time.Now().Before(a.notBefore) && (!urgent || a.urgentFailed) {
		return
	}
	acts = a.settledFirst(acts)
	if len(acts) == 0 && a.closing && a.slow == nil && v.Postgres.Running { // a start keeps them out, and its server dies of an early SIGHUP
		acts = []cluster.Action{cluster.Expel{Reason: "clients were to be kept out"}}
	}
	if len(acts) == 0 && a.slow == nil && !a.open && !a.closing && decide.Readable(v) {
		acts = []cluster.Action{openReads{}}
	}
	if heir := decide.Heir(v); len(acts) == 0 && a.slow == nil && heir.K > 0 && !v.Postgres.Names.Equal(heir) {
		acts = []cluster.Action{readyNames{heir}}
	}
	a.start(ctx, v, acts)
}

// settledFirst lets nothing but Fence and Promise be done while the outcome of a write of the record is unknown: that
// write may still take effect at any time, and what is done by the record as it looks now could contradict it.
func (a *Agent) settledFirst(acts []cluster.Action) []cluster.Action {
	if a.unsettled == 0 || a.state == nil || a.state.Revision > a.unsettled {
		a.unsettled = 0
		return acts
	}
	var out []cluster.Action
	for _, x := range acts {
		switch x.(type) {
		case cluster.Fence, cluster.Promise, cluster.Expel, cluster.Probe:
			out = append(out, x)
		}
	}
	return append(out, settle{*a.state})
}

// start runs the leading quick actions as one batch; a slow action is started when it leads the list.
func (a *Agent) start(ctx context.Context, v cluster.View, acts []cluster.Action) {
	var quick []cluster.Action
	for _, x := range acts {
		if p, ok := x.(cluster.Probe); ok {
			a.probe(ctx, v, p.Member)
			continue
		}
		if !isSlow(x) {
			quick = append(quick, x)
			continue
		}
		if len(quick) == 0 && a.slow == nil {
			a.startSlow(ctx, v, x)
		}
		if len(quick) > 0 {
			break
		}
	}
	if len(quick) > 0 {
		a.startQuick(ctx, v, quick)
	}
}

// hastened turns a fence with something behind it, which would begin an election, into one that does not wait for the dead.
func hastened(x cluster.Action, behind []cluster.Action) cluster.Action {
	if f, ok := x.(cluster.Fence); ok && len(behind) > 0 {
		return strike{f}
	}
	return x
}

func (a *Agent) startQuick(ctx context.Context, v cluster.View, acts []cluster.Action) {
	ctx, cancel := context.WithCancelCause(ctx)
	b := &batch{cancel: cancel, done: make(chan struct{}), actions: acts, begun: time.Now()}
	a.quick = b
	go func() {
		defer a.Wake()
		defer close(b.done)
		defer cancel(nil)
		for i, x := range acts {
			begun := time.Now()
			if err := a.do(ctx, v, hastened(x, acts[i+1:])); err != nil {
				b.err = err
				switch {
				case errors.Is(context.Cause(ctx), errUnwanted):
					b.err = errUnwanted
					a.log.Debug("given up: " + x.String())
				case errors.Is(err, store.ErrConflict):
					a.log.Info("somebody was first: " + x.String())
				default:
					a.log.Warn(x.String(), "error", err)
				}
				return
			}
			a.log.Info(x.String(), "took", time.Since(begun).Round(100*time.Microsecond))
		}
	}()
}

func (a *Agent) startSlow(ctx context.Context, v cluster.View, x cluster.Action) {
	a.mu.Lock()
	again := a.failedKind == kindOf(x) && a.failedAt.Add(slowRetry).After(time.Now()) || time.Now().Before(a.restUntil)
	a.mu.Unlock()
	if again {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	j := &job{action: x, cancel: cancel, done: make(chan struct{})}
	a.slow = j
	a.mu.Lock()
	a.doing = true
	a.mu.Unlock()
	a.log.Info("begin: " + x.String())
	go func() {
		defer a.Wake()
		defer close(j.done)
		defer cancel(nil)
		begun := time.Now()
		j.err = a.doSlow(ctx, v, x)
		switch {
		case j.err == nil:
			a.log.Info(x.String(), "took", time.Since(begun).Round(100*time.Microsecond))
		case errors.Is(context.Cause(ctx), errUnwanted):
			a.log.Info("given up: " + x.String())
		default:
			a.log.Error(x.String(), "error", j.err)
		}
		a.afterSlow(ctx, v, j)
	}()
}

// slowRetry is the rest between two attempts of the same slow action.
const slowRetry = 2 * time.Second

// reap takes note of lanes that have ended.
func (a *Agent) reap() {
	if a.quick != nil {
		select {
		case <-a.quick.done:
			a.urgentFailed = a.quick.err != nil && isUrgent(a.quick.actions)
			switch err := a.quick.err; {
			case err == nil, errors.Is(err, errUnwanted):
			case errors.Is(err, store.ErrConflict):
				a.notBefore = time.Now().Add(retryConflict)
			default:
				a.notBefore = time.Now().Add(retryAfter)
			}
			a.quick = nil
		default:
		}
	}
	if a.slow != nil && a.slow.ended() {
		a.slow = nil
	}
}

// endLanes cancels both lanes and waits for them.
func (a *Agent) endLanes() {
	if a.quick != nil {
		a.quick.cancel(errors.New("agent stopped"))
		<-a.quick.done
	}
	if a.slow != nil {
		a.slow.cancel(errors.New("agent stopped"))
		<-a.slow.done
	}
}
