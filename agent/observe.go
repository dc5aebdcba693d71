package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"standfast/cluster"
	"standfast/decide"
	"standfast/internal/grid"
	"standfast/postgres"
	"standfast/store"
)

// Paces of looking at one's own PostgreSQL. It has no way to tell of a flush or of a replayed record, so while one of
// them is awaited it is asked at the hot pace; otherwise nothing hangs on the answer.
const (
	hotPace   = 2 * time.Millisecond
	startPace = 15 * time.Millisecond
	waitPace  = 100 * time.Millisecond
	hotTime   = 3 * time.Second
	calmPace  = 500 * time.Millisecond
	diskPace  = 500 * time.Millisecond
	dataPace  = 5 * time.Second
)

// hurry sets the observer's pace: hot while an action waits for what PostgreSQL will show.
func (a *Agent) hurry(v cluster.View, acts []cluster.Action) {
	hot := len(acts) > 0
	if v.State != nil && v.Postgres.Data == cluster.DataReady {
		hot = hot || awaits(v)
	}
	switch v.Doing.(type) {
	case cluster.Promote, cluster.Handover, cluster.Stop:
		// They look themselves and tell of their end. Looks beside them take time from a promotion, and each one at a server that
		// is stopping is a process that it has to wait for.
		hot = false
	}
	what := fmt.Sprint(acts, v.Relay.Term, v.Relay.Held, v.Promised)
	if v.State != nil {
		what = fmt.Sprint(what, v.State.Revision)
	}
	switch {
	case !hot:
		a.hot.Store(0)
	case a.hot.Load() == 0 || what != a.hurried:
		a.hot.Store(int64(a.now()))
		a.kickObserver()
	}
	a.hurried = what
}

// awaits reports whether the next step is this member's and hangs on its server: a report, an admission, an attachment.
// After its report a standby waits for others.
func awaits(v cluster.View) bool {
	s := v.State
	_, reported := v.Reports[v.Self]
	switch {
	case s.Phase == cluster.Electing:
		return !reported
	case s.Primary == v.Self:
		return s.Phase == cluster.Elected || v.Admitted != s.Term && v.Postgres.Running
	}
	return s.Phase == cluster.Reigning && v.Relay.Term != s.Term && v.Postgres.Running && !decide.NeedsOut(v)
}

func (a *Agent) kickObserver() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// observe asks PostgreSQL again and again until ctx ends, and notices its death at once.
func (a *Agent) observe(ctx context.Context) {
	if a.cfg.Postgres == nil {
		return
	}
	lastData := time.Now()
	for ctx.Err() == nil {
		if time.Since(lastData) > dataPace {
			a.lookAtData(ctx)
			lastData = time.Now()
		}
		if a.lookAtServer(ctx) {
			a.Wake()
		}
		pace := a.pace()
		if pace == calmPace {
			pace = grid.Until(time.Now(), calmPace)
		}
		t := time.NewTimer(pace)
		exited := a.exited()
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-a.kick:
		case <-exited:
			a.noteDeath(exited)
		}
		t.Stop()
	}
}

// pace is how long to wait before the next look. A server that does not let sessions in yet is not made slower by asking.
func (a *Agent) pace() time.Duration {
	a.mu.Lock()
	up := a.pg.Up
	a.mu.Unlock()
	since := cluster.Instant(a.hot.Load())
	switch {
	case since == 0:
		return calmPace
	case up && a.now()-since < hotTime:
		return hotPace
	case a.now()-since < hotTime:
		return startPace
	}
	return waitPace // what is awaited does not come soon: a standby that is away, for instance
}

// exited is closed when the server known to run dies; nil, which never fires, when none is or its death was noted (while
// orphaned backends live, there is still something running).
func (a *Agent) exited() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch := a.cfg.Postgres.Exited(); a.running && ch != a.died {
		return ch
	}
	return nil
}

func (a *Agent) noteDeath(ch <-chan struct{}) {
	a.mu.Lock()
	if a.cfg.Postgres.Exited() != ch {
		a.mu.Unlock()
		return // another server has been started since
	}
	a.died = ch
	a.running, a.pg.Up, a.held, a.gone, a.answered = false, false, false, false, time.Time{}
	a.admitted, a.pgAt = 0, a.looks.Add(1)
	a.mu.Unlock()
	a.Wake()
}

// lookAtData sees what the data directory holds.
func (a *Agent) lookAtData(ctx context.Context) {
	d, id, err := a.cfg.Postgres.Data(ctx)
	if err != nil {
		a.log.Warn("look at the data directory", "error", err)
		a.setDataFault(err.Error())
		return
	}
	a.mu.Lock()
	a.pg.Data, a.dataFault = d, ""
	if id != "" || d == cluster.NoData { // what was moved away is of no other cluster any more
		a.pg.SystemID = id
	}
	a.mu.Unlock()
}

// lookAtServer asks the server once and reports whether anything changed that matters to a decision. The relay is read
// before and after: a position counts as final only if one and the same WAL receiver was held throughout.
func (a *Agent) lookAtServer(ctx context.Context) bool {
	begun := a.looks.Add(1)
	running, err := a.cfg.Postgres.Running()
	if err != nil {
		a.log.Warn("look for PostgreSQL", "error", err)
		return false
	}
	standby, err := a.cfg.Postgres.StandbyData()
	if err != nil {
		a.log.Warn("look for PostgreSQL", "error", err)
	}
	if !running {
		a.mu.Lock()
		if begun < a.pgAt {
			a.mu.Unlock()
			return false
		}
		a.pgAt = begun
		changed := a.running || a.pg.Up || a.pg.Recovery != standby
		a.running, a.pg.Up, a.held, a.gone, a.answered = false, false, false, false, time.Time{}
		a.pg.Recovery = standby
		a.mu.Unlock()
		return changed
	}
	before := a.cfg.Relay.Status()
	octx, cancel := context.WithTimeout(ctx, time.Second)
	if exited := a.exited(); exited != nil { // an orphaned backend's connection would keep us from noticing the death
		go func() {
			select {
			case <-exited:
				cancel()
			case <-octx.Done():
			}
		}()
	}
	o, err := a.cfg.Postgres.Observe(octx)
	cancel()
	if err != nil {
		return a.noAnswer(standby, begun, err)
	}
	after := a.cfg.Relay.Status()
	a.setRejoined(0)
	a.mu.Lock()
	defer a.mu.Unlock()
	if begun < a.pgAt {
		return false // overtaken by a newer look, or by what was done to the server meanwhile
	}
	changed := a.accept(o, begun)
	held := before.Held && after.Held && before.Receiver == after.Receiver && after.Term == 0
	gone := before.Term == 0 && after.Term == 0 && before.Receiver == after.Receiver && o.ReceiverGone && o.Streamed
	changed = changed || held != a.held || gone != a.gone || a.receiver != after.Receiver
	a.held, a.gone, a.receiver = held, gone, after.Receiver
	return changed
}

// accept takes over an observation, keeping what it does not know; unless something newer is known. a.mu is held.
func (a *Agent) accept(o postgres.Observation, at uint64) bool {
	if at < a.pgAt {
		return false
	}
	p := o.Postgres
	p.Data, p.Up, p.Running = a.pg.Data, true, true
	if p.SystemID == "" {
		p.SystemID = a.pg.SystemID
	}
	old := a.pg
	a.pg, a.pgAt, a.running, a.answered = p, at, true, time.Now()
	a.observation = o
	if !a.diskStalled {
		a.stalled = ""
	}
	return fmt.Sprint(old) != fmt.Sprint(p)
}

// noAnswer counts how long a running primary has not answered. A server that is starting up answers with an error and
// is not stalled; one that says nothing is.
func (a *Agent) noAnswer(standby bool, begun uint64, err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if begun < a.pgAt {
		return false
	}
	changed := a.pg.Up || !a.running
	a.running = true
	if !a.pg.Up {
		a.pg.Recovery = standby
	}
	var said *pgconn.PgError
	if errors.As(err, &said) || a.doing {
		a.answered = time.Now() // it says that it is starting up or shutting down, or we are doing that to it
	}
	bound := max(a.cfg.Settings().Detect, time.Second)
	if !a.answered.IsZero() && !a.pg.Recovery && time.Since(a.answered) > bound {
		why := fmt.Sprintf("its PostgreSQL has not answered for %s", time.Since(a.answered).Round(100*time.Millisecond))
		changed = changed || a.stalled == ""
		a.stalled = why
		return changed
	}
	if a.answered.IsZero() || a.pg.Recovery && time.Since(a.answered) > bound {
		a.pg.Up = false
	}
	return changed
}

// watchDisk writes and syncs a few bytes beside the WAL of a primary: a disk that is full, broken or stuck stops commits
// although every process is well.
func (a *Agent) watchDisk(ctx context.Context) {
	if a.cfg.Postgres == nil {
		return
	}
	t := time.NewTicker(diskPace)
	defer t.Stop()
	bad := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		a.mu.Lock()
		primary := a.running && a.pg.Up && !a.pg.Recovery
		a.mu.Unlock()
		if !primary {
			bad = 0
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, max(a.cfg.Settings().Detect, time.Second))
		err := a.cfg.Postgres.WriteProbe(pctx)
		cancel()
		if err == nil {
			bad = 0
		} else if bad++; ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		was := a.diskStalled
		a.diskStalled = bad >= 2
		if a.diskStalled && !was {
			a.stalled = "writing beside its WAL fails: " + err.Error()
		}
		a.mu.Unlock()
		if bad >= 2 && !was {
			a.Wake()
		}
	}
}

// Paces of asking the store. Each question is answered by a majority of it.
const (
	storePace = time.Second     // at least this often while the lease matters, however long it is
	quietPace = 2 * time.Second // where nothing but the status depends on it
	storeOKIn = 4 * time.Second // since its last answer the store counts as well
)

// renewLease reads the agreed record linearizably, at once and then a third of a lease apart. It renews the lease from the
// moment of sending, and only if the record still names this term. Under a rule that asks for a copy no lease is needed.
func (a *Agent) renewLease(ctx context.Context) {
	for ctx.Err() == nil {
		sent := time.Now()
		rctx, cancel := context.WithTimeout(ctx, time.Second)
		s, err := a.cfg.Store.State(rctx)
		cancel()
		if err == nil || errors.Is(err, store.ErrNotFound) {
			a.renewed(s.Term, sent)
		}
		t := time.NewTimer(a.leasePace(err == nil && s.Phase == cluster.Reigning && s.Rule.K > 0))
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-a.lone: // the lease matters from now on
		}
		t.Stop()
	}
}

// leasePace is storePace, or a third of a shorter lease; quiet: nobody needs one.
func (a *Agent) leasePace(quiet bool) time.Duration {
	third := a.cfg.Settings().Lease / 3
	switch {
	case quiet && third >= storePace: // what is known is then never older than a lease when it comes to matter
		return grid.Until(time.Now(), quietPace)
	case third < storePace:
		return third
	}
	return grid.Until(time.Now(), storePace)
}

// renewed notes that the store held this term at some time after the sending.
func (a *Agent) renewed(t cluster.Term, sent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.storeOKAt = time.Now()
	if t < a.leaseTerm {
		return // asked before this member's own write, and answered after it
	}
	a.leaseFrom, a.leaseTerm = sent, t
}

// Observation is the newest answer of this member's server.
func (a *Agent) Observation() postgres.Observation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.observation
}
