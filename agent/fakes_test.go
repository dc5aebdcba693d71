package agent

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"standfast/cluster"
	"standfast/postgres"
	"standfast/relay"
	"standfast/store"
	"standfast/store/mem"
)

// fakePostgres is a server that does what it is told at once, unless a verb is held up or made to fail.
type fakePostgres struct {
	tr *trace

	mu      sync.Mutex
	data    cluster.DataState
	id      string
	running bool
	standby bool
	silent  bool // it does not answer
	now     postgres.Observation
	exited  chan struct{}
	held    map[string]chan struct{} // verb: it lasts until this is closed, or ctx ends
	dataErr error                    // of a look at the data directory
	fails   map[string]error         // verb: it fails once
	amid    map[string]func()        // verb: called in its middle
}

func newPostgres(tr *trace) *fakePostgres {
	return &fakePostgres{
		tr: tr, data: cluster.NoData, exited: make(chan struct{}),
		held: map[string]chan struct{}{}, fails: map[string]error{}, amid: map[string]func(){},
	}
}

// runs has a server with this state.
func (p *fakePostgres) runs(s cluster.Postgres) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data, p.id, p.running, p.standby = cluster.DataReady, "7", true, s.Recovery
	p.now = postgres.Observation{Postgres: s}
}

// edit changes what the server will answer.
func (p *fakePostgres) edit(f func(*cluster.Postgres)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.now.Postgres)
}

// dies ends the server as a SIGKILL would.
func (p *fakePostgres) dies() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

// end is the server's end, under the lock.
func (p *fakePostgres) end() {
	if p.running {
		p.running = false
		close(p.exited)
		p.exited = make(chan struct{})
	}
}

// hold makes the verb last until the returned function is called, or its ctx ends.
func (p *fakePostgres) hold(verb string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch := make(chan struct{})
	p.held[verb] = ch
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.held, verb)
		close(ch)
	}
}

func (p *fakePostgres) failOnce(verb string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails[verb] = err
}

func (p *fakePostgres) inTheMidst(verb string, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.amid[verb] = f
}

// do is what all verbs have in common.
func (p *fakePostgres) do(ctx context.Context, verb, args string, f func()) error {
	p.tr.add("pg %s%s", verb, args)
	if err := p.midst(ctx, verb); err != nil {
		return err
	}
	p.finish(verb, f)
	return nil
}

// midst is where a verb lasts, fails, or is looked into.
func (p *fakePostgres) midst(ctx context.Context, verb string) error {
	p.mu.Lock()
	held, err, amid := p.held[verb], p.fails[verb], p.amid[verb]
	delete(p.fails, verb)
	p.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			p.tr.add("cancelled: pg %s", verb)
			return ctx.Err()
		}
	}
	if amid != nil {
		amid()
	}
	return err
}

func (p *fakePostgres) finish(verb string, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f != nil {
		f()
	}
	p.tr.add("done: pg %s", verb)
}

func (p *fakePostgres) Data(context.Context) (cluster.DataState, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data, p.id, p.dataErr
}

func (p *fakePostgres) InPlace() bool { return false }

func (p *fakePostgres) Adopt(context.Context) (bool, error) { return p.Running() }

func (p *fakePostgres) Observe(ctx context.Context) (postgres.Observation, error) {
	p.mu.Lock()
	o, silent, amid := p.now, p.silent, p.amid["observe"]
	p.mu.Unlock()
	if amid != nil {
		amid()
	}
	if silent {
		<-ctx.Done()
		return o, ctx.Err()
	}
	return o, nil
}

func (p *fakePostgres) Running() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running, nil
}

func (p *fakePostgres) StandbyData() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.standby, nil
}

func (p *fakePostgres) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

func (p *fakePostgres) Ping(context.Context) error       { return nil }
func (p *fakePostgres) WriteProbe(context.Context) error { return nil }

func (p *fakePostgres) Init(ctx context.Context) error {
	return p.do(ctx, "init", "", func() {
		p.data, p.id, p.running, p.standby = cluster.DataReady, "7", true, false
		p.now.Postgres = cluster.Postgres{Position: cluster.Position{Timeline: 1, LSN: 0x1500000}, Names: cluster.NewRule(1)}
	})
}

func (p *fakePostgres) StartStandby(ctx context.Context) error {
	return p.do(ctx, "start", "", func() { p.running, p.standby, p.now.Postgres.Recovery = true, true, true })
}

func (p *fakePostgres) Stop(ctx context.Context, _ postgres.StopMode) error {
	return p.do(ctx, "stop", "", p.end)
}

func (p *fakePostgres) Kill(ctx context.Context) error { return p.do(ctx, "kill", "", p.end) }

func (p *fakePostgres) KillAll(ctx context.Context) error { return p.do(ctx, "kill", "", p.end) }

func (p *fakePostgres) Checkpoint(ctx context.Context) error {
	return p.do(ctx, "checkpoint", "", nil)
}

func (p *fakePostgres) SetNames(ctx context.Context, r cluster.Rule, endSenders bool) error {
	return p.do(ctx, "names", " "+r.String(), func() { p.now.Postgres.Names = r })
}

func (p *fakePostgres) Promote(ctx context.Context, tl cluster.Timeline, r cluster.Rule) error {
	return p.do(ctx, "promote", "", func() {
		at := p.now.Postgres.Position
		p.standby = false
		p.now.Postgres = cluster.Postgres{
			Position: cluster.Position{Timeline: tl, LSN: at.LSN + 100}, Fork: at.LSN, Names: r, Standbys: streaming(r.Of...),
			History: cluster.History{{Timeline: at.Timeline, End: at.LSN}},
		}
	})
}

func (p *fakePostgres) WriteTermRow(ctx context.Context, _ cluster.Term) (cluster.LSN, error) {
	var at cluster.LSN
	err := p.do(ctx, "term row", "", func() {
		p.now.Postgres.Position.LSN += 100
		at = p.now.Postgres.Position.LSN
	})
	return at, err
}

func (p *fakePostgres) OpenClients(ctx context.Context) error { return p.do(ctx, "open", "", nil) }

func (p *fakePostgres) CloseClients(ctx context.Context, _ bool) error {
	return p.do(ctx, "close", "", nil)
}

func (p *fakePostgres) Clone(ctx context.Context, from postgres.Source, progress func(done, total int64)) error {
	progress(1<<20, 4<<20)
	return p.doTo(ctx, "clone", from, func() { p.data, p.standby, p.now.Postgres.Recovery = cluster.DataReady, true, true })
}

func (p *fakePostgres) Rewind(ctx context.Context, from postgres.Source) error {
	return p.doTo(ctx, "rewind", from, nil)
}

// doTo is do for what replaces data: its middle lies before the marker.
func (p *fakePostgres) doTo(ctx context.Context, verb string, from postgres.Source, f func()) error {
	p.tr.add("pg %s from %s", verb, from.Host)
	if err := p.midst(ctx, verb); err != nil {
		return err
	}
	err := from.Touch(func() error {
		p.tr.add("mark: pg %s", verb)
		return nil
	})
	if err == nil {
		p.finish(verb, f)
	}
	return err
}

func (p *fakePostgres) EnsureSlots(ctx context.Context, members []string) error {
	return p.do(ctx, "slots", " "+strings.Join(members, " "), nil)
}

func (p *fakePostgres) AdvanceSlots(context.Context, map[string]cluster.LSN) error { return nil }

// fakeRelay keeps the real one's bookkeeping, without sockets.
type fakeRelay struct {
	tr      *trace
	mu      sync.Mutex
	st      relay.Status
	changed chan struct{}
}

// connect is a new WAL receiver: the one before it is gone.
func (r *fakeRelay) connect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Receiver++
	r.st.Held = r.st.Term == 0
	r.st.Carrying = r.st.Term != 0
	r.tell()
}

func (r *fakeRelay) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// starve has the primary answer that it has the WAL no more, until another target is attached to.
func (r *fakeRelay) starve(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Starved = why
	r.tell()
}

func (r *fakeRelay) Raise(t cluster.Term) {
	r.tr.add("relay raise %d", t)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Floor = max(r.st.Floor, t)
	if r.st.Term != 0 && r.st.Term < t {
		r.st.Term, r.st.Held, r.st.Carrying = 0, false, false
	}
	r.tell()
}

func (r *fakeRelay) Attach(t cluster.Term, _ cluster.Timeline, addr string) error {
	r.tr.add("relay attach %d to %s", t, addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	if t < r.st.Floor {
		return relay.ErrBelowFloor
	}
	r.st.Term, r.st.Addr, r.st.Floor, r.st.Held, r.st.Carrying = t, addr, t, false, true
	r.st.Starved = ""
	r.tell()
	return nil
}

func (r *fakeRelay) Detach(reason string) {
	r.tr.add("relay detach: %s", reason)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Term, r.st.Held, r.st.Carrying = 0, false, false
	r.tell()
}

func (r *fakeRelay) Status() relay.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

func (r *fakeRelay) Changed() <-chan struct{} { return r.changed }

// fakeStore is store/mem with its writes recorded. Writes can be held up, lost on the way, and delivered late.
type fakeStore struct {
	*mem.Store
	tr  *trace
	dir string // of the promise, whose state on disk is recorded with each report

	mu    sync.Mutex
	hung  map[string]chan struct{} // part of the key: such a write lasts until this is closed, or ctx ends
	lose  bool                     // the next write of the record is held back, its outcome unknown
	late  func() error             // delivers it
	read  func(cluster.State) cluster.State
	delay time.Duration // of each read
}

// hang holds up writes of such keys.
func (s *fakeStore) hang(part string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{})
	s.hung[part] = ch
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hung, part)
		close(ch)
	}
}

func (s *fakeStore) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// wait lasts as long as the key is held up.
func (s *fakeStore) wait(ctx context.Context, key string) error {
	s.mu.Lock()
	var hung chan struct{}
	for part, ch := range s.hung {
		if strings.Contains(key, part) {
			hung = ch
		}
	}
	s.mu.Unlock()
	if hung == nil {
		return nil
	}
	select {
	case <-hung:
		return nil
	case <-ctx.Done():
		s.tr.add("cancelled: store %s", key)
		return ctx.Err()
	}
}

func (s *fakeStore) Put(ctx context.Context, key string, value []byte) (int64, error) {
	key2 := strings.TrimPrefix(key, "/standfast/main/")
	if strings.HasPrefix(key2, "reports/") {
		s.tr.add("store report, promise on disk %d", promiseOnDisk(s.dir))
	} else {
		s.tr.add("store put %s %s", key2, value)
	}
	if err := s.wait(ctx, key2); err != nil {
		return 0, err
	}
	return s.Store.Put(ctx, key, value)
}

func (s *fakeStore) CompareAndPut(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if key == "/standfast/main/request" {
		s.tr.add("store put request %s", value)
		return s.Store.CompareAndPut(ctx, key, value, rev)
	}
	var st cluster.State
	_ = json.Unmarshal(value, &st) // a record of the agent's own
	what := string(st.Phase) + " " + st.Rule.String()
	s.mu.Lock()
	lose := s.lose
	s.lose = false
	if lose {
		s.late = func() error {
			_, err := s.Store.CompareAndPut(context.Background(), key, value, rev)
			return err
		}
	}
	s.mu.Unlock()
	if lose {
		s.tr.add("lost: cas %d %s", st.Term, what)
		return 0, mem.ErrAnswerLost
	}
	s.tr.add("cas %d %s", st.Term, what)
	if err := s.wait(ctx, "state"); err != nil {
		return 0, err
	}
	r, err := s.Store.CompareAndPut(ctx, key, value, rev)
	if err != nil {
		s.tr.add("refused: cas %d %s", st.Term, what)
	}
	return r, err
}

func (s *fakeStore) Get(ctx context.Context, key string) (store.KV, error) {
	s.mu.Lock()
	read, delay := s.read, s.delay
	s.mu.Unlock()
	s.tr.add("store get %s", strings.TrimPrefix(key, "/standfast/main/"))
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return store.KV{}, ctx.Err()
		}
	}
	kv, err := s.Store.Get(ctx, key)
	if err != nil || read == nil || !strings.HasSuffix(key, "/state") {
		return kv, err
	}
	var st cluster.State
	if err := json.Unmarshal(kv.Value, &st); err != nil {
		return kv, err
	}
	kv.Value, err = json.Marshal(read(st))
	return kv, err
}
