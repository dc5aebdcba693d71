package events

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"standfast/api"
	"standfast/store"
)

const (
	waiting  = 200                    // most events of this member's own that wait for the store
	batching = 300 * time.Millisecond // events come in groups; they are written in groups
	patience = 10 * time.Second       // most that an election is left alone with the store
	again    = 2 * time.Second        // between attempts while the store does not answer
	bound    = 5 * time.Second        // of one attempt
)

// Config says for whom a Keeper works.
type Config struct {
	Cluster, Self string
	Store         *store.Cluster
	Book          *Book
	Log           *slog.Logger

	// Busy reports whether the store is better left alone for a moment, for an election is under way.
	Busy func() bool

	// Told is called once for every event that this member is the one to tell others outside the cluster of: its own, and the
	// changes of primary that made it the primary. It must not block. It may be nil.
	Told func(api.Event)
}

// Keeper writes this member's events into the store and brings everybody's into the Book.
type Keeper struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex
	pending []api.Event
	last    time.Time // the time of this member's newest event: no two have the same
	told    []string  // IDs of the newest events that were told of
}

// NewKeeper prepares one; Run runs it.
func NewKeeper(cfg Config) *Keeper { return &Keeper{cfg: cfg, wake: make(chan struct{}, 1)} }

// Record dates an event, names who tells it, and takes it in. It never blocks.
func (k *Keeper) Record(e api.Event) {
	k.mu.Lock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.Truncate(time.Millisecond)
	if !e.At.After(k.last) {
		e.At = k.last.Add(time.Millisecond)
	}
	k.last = e.At
	e.Member, e.Cluster = k.cfg.Self, k.cfg.Cluster
	if e.Severity == "" {
		e.Severity = api.Info
	}
	e.ID = noteOf(e).ID()
	if k.pending = append(k.pending, e); len(k.pending) > waiting {
		k.pending = slices.Delete(k.pending, 0, len(k.pending)-waiting)
	}
	k.told = append(k.told, e.ID)
	k.told = k.told[max(0, len(k.told)-2*waiting):]
	k.mu.Unlock()
	k.cfg.Book.Add(e)
	k.cfg.Log.Info("event", "kind", e.Kind, "severity", e.Severity, "term", e.Term, "about", e.About, "text", e.Text, "id", e.ID)
	if k.cfg.Told != nil {
		k.cfg.Told(e)
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { k.read(ctx) })
	wg.Go(func() { k.write(ctx) })
	wg.Wait()
	return nil
}

// recent is how old an event of this member's may be that it reads from the store and still tells of: an earlier agent of its own
// has told of older ones.
const recent = time.Minute

func (k *Keeper) read(ctx context.Context) {
	for d := range k.cfg.Store.WatchDiary(ctx) {
		var out []api.Event
		for _, n := range d.Notes {
			e := ofNote(k.cfg.Cluster, n)
			out = append(out, e)
			k.tell(e)
		}
		for _, h := range d.Entries {
			e := ofEntry(k.cfg.Cluster, h)
			out = append(out, e)
			k.tell(e)
		}
		slices.SortStableFunc(out, func(a, b api.Event) int { return a.At.Compare(b.At) })
		k.cfg.Book.Add(out...)
	}
}

// tell tells of an event that went into the store past Record, once.
func (k *Keeper) tell(e api.Event) {
	if k.cfg.Told == nil || e.Member != k.cfg.Self || time.Since(e.At) > recent {
		return
	}
	k.mu.Lock()
	known := slices.Contains(k.told, e.ID)
	if !known {
		k.told = append(k.told, e.ID)
	}
	k.mu.Unlock()
	if !known {
		k.cfg.Told(e)
	}
}

func (k *Keeper) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		wait(ctx, batching)
		for end := time.Now().Add(patience); ctx.Err() == nil && k.cfg.Busy() && time.Now().Before(end); {
			wait(ctx, batching)
		}
		for ctx.Err() == nil && !k.flush(ctx) {
			wait(ctx, again)
		}
	}
}

// flush writes what waits, and reports whether nothing is left.
func (k *Keeper) flush(ctx context.Context) bool {
	k.mu.Lock()
	events := slices.Clone(k.pending)
	k.mu.Unlock()
	if len(events) == 0 {
		return true
	}
	notes := make([]store.Note, len(events))
	for i, e := range events {
		notes[i] = noteOf(e)
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := k.cfg.Store.PutNotes(ctx, notes); err != nil {
		k.cfg.Log.Debug("write events", "error", err)
		return false
	}
	newest := events[len(events)-1].At
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pending = slices.DeleteFunc(k.pending, func(e api.Event) bool { return !e.At.After(newest) })
	return len(k.pending) == 0
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
