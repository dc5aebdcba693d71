package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"standfast/beat"
	"standfast/cluster"
	"standfast/decide"
	"standfast/internal/grid"
	"standfast/postgres"
	"standfast/relay"
	"standfast/store"
)

// Beats tells the others about this member and hears from them, as package beat implements it.
type Beats interface {
	Set(b cluster.Beat)
	Peers() map[string]beat.Peer
	Changed() <-chan struct{}
}

// Guard ends this member's service when the agent no longer feeds it, as package guard implements it. It may be nil.
type Guard interface {
	Feed(within time.Duration) error
	Disarm() error
}

// Config is what an agent works with. Everything is made, run and closed by its owner (package node).
type Config struct {
	Self     string
	Cluster  string
	StateDir string
	Store    *store.Cluster
	Postgres Postgres // nil on a witness
	Relay    Relay    // nil on a witness
	Beats    Beats
	Router   Router
	Guard    Guard
	Log      *slog.Logger

	// Settings are read before each decision: they change with the agreed configuration and with time (a pause ends).
	Settings func() cluster.Settings

	// Members are those that are known without the store; nil: none.
	Members func() []cluster.Member

	// Probe asks the PostgreSQL at the address for an answer, without logging in.
	Probe func(ctx context.Context, addr string) error

	// Asked is the ID of the newest request that was acknowledged to this member, "" if none; see cluster.Beat. Wake the
	// agent when it has changed. It may be nil.
	Asked func() string

	// Extra completes a beat with what only the owner knows (sessions, draining, pending restarts).
	Extra func(*cluster.Beat)

	// Release is called first when this member stops to serve as primary (Fence, Expel), before anything that may take time:
	// the floating address must not wait for a hung disk. It must be done, or give up, within a moment. It may be nil.
	Release func()

	// OnView is called after each look with what was seen and where clients go. It must not block.
	OnView func(cluster.View, cluster.Route)
}

// Agent is one member at work. Make it with New, run it with Run.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	origin  time.Time
	promise promises

	wake  chan struct{} // something changed; look again
	kick  chan struct{} // ask PostgreSQL now
	lone  chan struct{} // a primary needs no copy any more: the store is asked now
	looks atomic.Uint64 // numbers the looks at PostgreSQL, in the order in which they began
	asked chan asked
	life  context.Context // Run's: ends what runs aside
	aside sync.WaitGroup  // records being written that nobody waits for but Run
	turns counters
	hot   atomic.Int64 // since when the observer hurries, by now(); 0: it does not

	// The fields below belong to the loop's goroutine.
	snap          store.Snapshot
	state         *cluster.State // the newest seen, by watch or by own write
	electingSince cluster.Instant
	requestSince  cluster.Instant
	lastFlap      cluster.Instant
	closing       bool  // mustClose, as of this look
	open          bool  // openNow, as of this look
	unsettled     int64 // a write over this revision of the record has an unknown outcome; 0: none
	unmetSince    cluster.Instant
	shunnedSince  cluster.Instant
	deafSince     cluster.Instant
	promised      cluster.Term
	promisedIn    cluster.Epoch
	knew          bool          // a record has been seen since this agent started
	resumes       bool          // the first one was of a cluster that is shut down; see cluster.View
	superseded    cluster.Epoch // a higher one than this member's; it stays so for as long as the agent lives
	quick         *batch
	slow          *job
	lastBeat      cluster.Beat
	lastRoute     cluster.Route
	notBefore     time.Time
	urgentFailed  bool // what rests until notBefore is urgent itself
	loggedActs    string
	hurried       string // what the observer was made to hurry for

	promising sync.Mutex // held while a promise is made, and while data is marked as half made
	mu        sync.Mutex // guards what executors and observers leave for the loop
	seen
}

// seen is what runs beside the loop has left for it.
type seen struct {
	pg          cluster.Postgres
	pgAt        uint64    // number of the newest look, or of what was done to the server since
	answered    time.Time // when it came; zero: not since the server was started
	observation postgres.Observation
	diskStalled bool
	receiver    uint64 // relay connection for which pg was read while held
	held        bool
	gone        bool
	running     bool
	admitted    cluster.Term
	termRow     cluster.LSN
	termRowOf   cluster.Term
	namesLSN    cluster.LSN
	promotedIn  cluster.Term // the term in which this agent promoted the server; 0: it was adopted, or made by Init
	names       cluster.Rule
	mustClose   bool         // clients were to be closed out and perhaps are not yet
	openNow     bool         // pg_hba lets clients in
	unknown     int64        // revision over which a write of unknown outcome was tried
	rejoined    cluster.Term // the term onto whose history the data was brought, and it has not answered since; also on disk
	failed      string
	failedKind  string
	dataFault   string // why the data directory is of no use; "": it is, or is empty
	failedTerm  cluster.Term
	failedAt    time.Time
	restUntil   time.Time // no slow action is begun before: the record was ahead of what this agent has seen of it
	stalled     string
	written     *cluster.State
	reported    cluster.Report // the newest that this member has written
	known       cluster.Term   // of the newest record
	leaseFrom   time.Time
	leaseTerm   cluster.Term
	storeOKAt   time.Time
	probeHeard  time.Time
	probing     bool
	note        string
	copied      int64           // bytes of the clone under way
	toCopy      int64           // likewise, in all
	holding     bool            // new connections wait here because of a switchover
	died        <-chan struct{} // Exited's, of the death that was noted last
	doing       bool            // a slow action is under way
	wantPromise cluster.Term
	recloneWhy  string // an operator asked for a new copy: why
}

// New prepares an agent: it reads the promise, so that a damaged state directory is found before anything runs.
func New(cfg Config) (*Agent, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	a := &Agent{
		cfg: cfg, log: cfg.Log, origin: time.Now().Add(-time.Second),
		promise: promises{path: filepath.Join(cfg.StateDir, promiseName)},
		wake:    make(chan struct{}, 1), kick: make(chan struct{}, 1), lone: make(chan struct{}, 1), asked: make(chan asked),
	}
	p, epoch, err := a.promise.load(cfg.Cluster, cfg.Self)
	if err != nil {
		return nil, err
	}
	a.promisedIn = epoch
	a.promised, a.wantPromise = p, p
	if a.rejoined, _, err = a.rejoinedFile().load(cfg.Cluster, cfg.Self); err != nil {
		return nil, err
	}
	if p > 0 && cfg.Relay != nil {
		cfg.Relay.Raise(p)
	}
	return a, nil
}

// Run works until ctx ends. PostgreSQL is left as it is: stopping it is the owner's decision.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errors.New("agent stopped"))
	a.life = ctx
	if err := a.lookOnce(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, f := range []func(context.Context){a.observe, a.watchDisk, a.renewLease} {
		wg.Go(func() { f(ctx) })
	}
	a.loop(ctx)
	cancel(errors.New("agent stopped"))
	a.endLanes()
	wg.Wait()
	a.aside.Wait()
	return nil
}

// lookOnce finds out what is there before the first decision: data, and a server left running by an earlier agent.
func (a *Agent) lookOnce(ctx context.Context) error {
	if a.cfg.Postgres == nil {
		return nil
	}
	if _, err := a.cfg.Postgres.Adopt(ctx); err != nil {
		return fmt.Errorf("adopt PostgreSQL: %w", err)
	}
	a.lookAtData(ctx)
	a.lookAtServer(ctx)
	return nil
}

func (a *Agent) now() cluster.Instant { return time.Since(a.origin) }

// instant converts a wall reading with its monotonic part; the zero time gives 0, "never".
func (a *Agent) instant(t time.Time) cluster.Instant {
	if t.IsZero() {
		return 0
	}
	return max(t.Sub(a.origin), 1)
}

// Wake makes the agent look again, for instance because the configuration has changed.
func (a *Agent) Wake() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *Agent) loop(ctx context.Context) {
	snaps := a.cfg.Store.Watch(ctx)
	tick := time.NewTimer(calmTick)
	defer tick.Stop()
	var relayChanged <-chan struct{}
	if a.cfg.Relay != nil {
		relayChanged = a.cfg.Relay.Changed()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-snaps:
			if !ok {
				return
			}
			a.take(s)
		case <-a.cfg.Beats.Changed():
		case <-relayChanged:
			a.kickObserver()
		case <-a.wake:
		case q := <-a.asked:
			a.carryOutAsked(ctx, a.view(), q)
		case <-tick.C:
		}
		tick.Reset(a.tick(time.Now()))
		a.look(ctx)
	}
}

// Silence makes no event, so it is measured: rarely while everybody is heard, closely once somebody is late.
const (
	calmTick = 100 * time.Millisecond
	lateTick = 20 * time.Millisecond
	late     = 250 * time.Millisecond
)

func (a *Agent) tick(now time.Time) time.Duration {
	for _, p := range a.cfg.Beats.Peers() {
		if since := now.Sub(p.HeardAt); since > late && since < 2*a.cfg.Settings().Detect {
			return lateTick
		}
	}
	return grid.Until(now, calmTick)
}

// counters are what Turns tells, as it is counted.
type counters struct{ looked, acted, busy atomic.Uint64 }

// Turns is how often the agent has looked since it was made, and what it took.
type Turns struct {
	Looked uint64        // turns of its loop
	Acted  uint64        // of them those that decided to do something
	Busy   time.Duration // spent in them
}

// Turns counts the turns so far.
func (a *Agent) Turns() Turns {
	return Turns{a.turns.looked.Load(), a.turns.acted.Load(), time.Duration(a.turns.busy.Load())}
}

// StoreSeen is when the agreed store last answered this agent; zero: never.
func (a *Agent) StoreSeen() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.storeOKAt
}

// look is one turn: see, tell, route, decide, act.
func (a *Agent) look(ctx context.Context) {
	began := time.Now()
	a.turns.looked.Add(1)
	defer func() { a.turns.busy.Add(uint64(time.Since(began))) }()
	a.reap()
	a.collect()
	a.takeReclone()
	a.takeStarved()
	v := a.view()
	v.UnmetSince = since(&a.unmetSince, decide.Unmet(v), v.Now)
	v.ShunnedSince = since(&a.shunnedSince, decide.Shunned(v), v.Now)
	v.DeafSince = since(&a.deafSince, decide.Deaf(v), v.Now)
	route := decide.Route(v)
	a.cfg.Router.SetRoute(route, addresses(v.Members))
	if v.Relay.Term != 0 && decide.MustDetach(v) {
		a.cfg.Relay.Detach("a newer term has begun, or no majority is heard")
	}
	b := decide.Beat(v)
	b.Note = a.Note()
	a.mu.Lock()
	a.holding = b.Holding
	a.mu.Unlock()
	if a.cfg.Extra != nil {
		a.cfg.Extra(&b)
	}
	a.cfg.Beats.Set(b)
	a.feedGuard(v)
	if a.cfg.OnView != nil {
		a.cfg.OnView(v, route)
	}
	acts := decide.Decide(v)
	if len(acts) > 0 {
		a.turns.acted.Add(1)
	}
	a.logDecision(acts)
	a.hurry(v, acts)
	a.carryOut(ctx, v, acts)
}

// since keeps at from when on a condition has held without a break, 0 if it does not.
func since(at *cluster.Instant, holds bool, now cluster.Instant) cluster.Instant {
	switch {
	case !holds:
		*at = 0
	case *at == 0:
		*at = now
	}
	return *at
}

// logDecision notes each new list of actions once.
func (a *Agent) logDecision(acts []cluster.Action) {
	s := fmt.Sprint(acts)
	if s != a.loggedActs && len(acts) > 0 {
		a.log.Debug("decided", "actions", s)
	}
	a.loggedActs = s
}

// feedGuard lets the guard know how long this agent answers for its server. A primary that alone is responsible for its
// commits is answered for only as far as its lease reaches.
func (a *Agent) feedGuard(v cluster.View) {
	if a.cfg.Guard == nil {
		return
	}
	if !v.Postgres.Running || v.Postgres.Recovery {
		_ = a.cfg.Guard.Disarm()
		return
	}
	if decide.Unclaimed(v) {
		_ = a.cfg.Guard.Disarm() // no cluster answers for it yet
		return
	}
	within := v.Settings.Lease
	switch {
	case a.mayServe(v):
	case v.State == nil && v.Postgres.Names.K > 0:
		within = v.Since + v.Settings.Lease - v.Now
	case v.State == nil || v.State.Rule.K == 0 && len(v.Members) > 1:
		if v.LeaseFrom == 0 {
			return // the deadline that an earlier agent may have left stands until the store has answered this one
		}
		within = v.LeaseFrom + v.Settings.Lease - v.Now
	}
	if within <= 0 {
		return // not fed any more: it ends the server if decide could not
	}
	if err := a.cfg.Guard.Feed(within); err != nil {
		a.log.Warn("feed the guard", "error", err)
	}
}

// mayServe lets a primary whose record this agent has not learned since it started go on, as it would had the agent not been
// restarted: decide says when. Members other than those of this host's own file are not known yet.
func (a *Agent) mayServe(v cluster.View) bool {
	if len(v.Members) == 0 && a.cfg.Members != nil {
		v.Members = a.cfg.Members()
	}
	return decide.MayServe(v)
}

// collect takes over what quick actions have written to the store themselves.
func (a *Agent) collect() {
	a.mu.Lock()
	a.open, a.closing = a.openNow, a.mustClose
	written := a.written
	a.written = nil
	if a.unknown != 0 {
		a.unsettled, a.unknown = a.unknown, 0
	}
	if a.wantPromise > a.promised {
		a.promised = a.wantPromise
		a.promisedIn, _ = a.epoch() // only a member that knows the record promises
	}
	a.mu.Unlock()
	if written != nil {
		a.adoptState(*written)
	}
}

func addresses(members []cluster.Member) map[string]string {
	out := make(map[string]string, len(members))
	for _, m := range members {
		if m.Kind == cluster.Data {
			out[m.Name] = m.Postgres
		}
	}
	return out
}

var _ Relay = (*relay.Relay)(nil)
