package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"standfast/api"
)

const (
	waiting        = 200              // most events that wait for one who is told
	defaultTimeout = 10 * time.Second // of one attempt
	firstRest      = time.Second      // after a first failure; doubled after each further one
	longestRest    = time.Minute
	patience       = time.Hour // after which an event is given up
)

// lane tells one who is told, in order.
type lane struct {
	to     string
	most   int           // events in one message
	gather time.Duration // how long a message waits for more events
	tell   func(ctx context.Context, target string, events []api.Event) error
	log    *slog.Logger
	first  time.Duration
	wake   chan struct{} // something waits, or the settings have changed

	mu      sync.Mutex
	target  string // "": nobody is told
	timeout time.Duration
	changed bool // the settings, since the last attempt
	queue   []item
	stats   api.Told
	fails   int // attempts in a row
}

type item struct {
	event api.Event
	since time.Time
}

// errUnfit is of an event that will never be accepted, so that it is not told again.
var errUnfit = errors.New("")

func (l *lane) set(target string, timeout time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timeout = timeout
	if target != l.target {
		l.target, l.changed, l.fails = target, true, 0
		l.stats = api.Told{To: l.to, Where: shown(l.to, target)}
	}
	if target == "" {
		l.queue = nil
	}
	l.wakeUp()
}

func (l *lane) add(e api.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target == "" {
		return
	}
	if l.queue = append(l.queue, item{e, time.Now()}); len(l.queue) > waiting {
		l.stats.GivenUp += uint64(len(l.queue) - waiting)
		l.queue = slices.Delete(l.queue, 0, len(l.queue)-waiting)
	}
	l.wakeUp()
}

func (l *lane) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) status() (api.Told, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Waiting = len(l.queue)
	return l.stats, l.target != ""
}

func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil {
		if !l.some() {
			select {
			case <-ctx.Done():
			case <-l.wake:
			}
			continue
		}
		l.rest(ctx, l.gather, false)
		target, timeout, batch := l.next()
		if len(batch) == 0 {
			continue
		}
		attempt, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done within %v", timeout))
		err := l.tell(attempt, target, events(batch))
		cancel()
		if ctx.Err() != nil {
			return
		}
		l.rest(ctx, l.settle(target, batch, err), true)
	}
}

func (l *lane) some() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) > 0
}

func (l *lane) next() (string, time.Duration, []item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = false
	return l.target, l.timeout, slices.Clone(l.queue[:min(l.most, len(l.queue))])
}

func events(batch []item) []api.Event {
	out := make([]api.Event, len(batch))
	for i, it := range batch {
		out[i] = it.event
	}
	return out
}

// settle takes in what became of an attempt, and returns how long to rest before the next.
func (l *lane) settle(target string, batch []item, err error) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if target != l.target {
		return 0 // it says nothing about the new one; the events are told there
	}
	if err == nil {
		l.drop(batch)
		l.stats.Sent += uint64(len(batch))
		if l.fails > 0 {
			l.log.Info("events are told again", "where", l.stats.Where, "failed_for", time.Since(l.stats.Failing).Round(time.Second), "given_up", l.stats.GivenUp)
		}
		l.fails, l.stats.Failing, l.stats.Error = 0, time.Time{}, ""
		return 0
	}
	if l.fails++; l.fails == 1 {
		l.stats.Failing = time.Now()
		l.log.Warn("events can't be told; each is tried for an hour", "where", l.stats.Where, "error", err)
	}
	l.stats.Error = err.Error()
	lost := slices.Clone(batch)
	if !errors.Is(err, errUnfit) {
		lost = slices.DeleteFunc(lost, func(it item) bool { return time.Since(it.since) < patience })
	}
	l.drop(lost)
	l.stats.GivenUp += uint64(len(lost))
	return l.pause()
}

// drop takes items off the queue, of which some may have gone for want of room.
func (l *lane) drop(items []item) {
	l.queue = slices.DeleteFunc(l.queue, func(it item) bool {
		return slices.ContainsFunc(items, func(o item) bool { return o.event.ID == it.event.ID && o.since.Equal(it.since) })
	})
}

func (l *lane) pause() time.Duration {
	d := l.first
	if d == 0 {
		d = firstRest
	}
	for i := 1; i < l.fails && d < longestRest; i++ {
		d *= 2
	}
	return min(d, longestRest)
}

// rest waits, and no longer than until the settings change if that is asked for.
func (l *lane) rest(ctx context.Context, d time.Duration, orChange bool) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case <-l.wake:
			l.mu.Lock()
			changed := l.changed
			l.mu.Unlock()
			if changed && orChange {
				return
			}
		}
	}
}
