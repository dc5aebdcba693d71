package events

import (
	"reflect"
	"slices"
	"sync"

	"standfast/api"
	"standfast/store"
)

// kept is how many events a Book holds: all that the store does, and some that it does not have yet.
const kept = store.KeptNotes + store.KeptHistory + waiting

// Book holds the newest events, in the order in which they came here. It implements api.Events. The zero value is empty.
type Book struct {
	mu     sync.Mutex
	events []api.Event
	newest uint64        // number of the last one; the first of events has newest-len(events)+1
	more   chan struct{} // closed when something is added; nil: nobody waits
}

// Add takes events that are not there yet, each under its ID. One that was changed since comes again, as a new one.
func (b *Book) Add(events ...api.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	added := false
	for _, e := range events {
		if slices.ContainsFunc(b.events, func(o api.Event) bool { return o.ID == e.ID && reflect.DeepEqual(plain(o), plain(e)) }) {
			continue
		}
		b.events = append(b.events, e)
		b.newest++
		added = true
	}
	if n := len(b.events) - kept; n > 0 {
		b.events = slices.Delete(b.events, 0, n)
	}
	if added && b.more != nil {
		close(b.more)
		b.more = nil
	}
}

// plain makes events comparable that mean the same.
func plain(e api.Event) api.Event {
	e.At = e.At.UTC().Round(0)
	if len(e.Facts) == 0 {
		e.Facts = nil
	}
	return e
}

// After implements api.Events.
func (b *Book) After(n uint64) ([]api.Event, uint64, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more == nil {
		b.more = make(chan struct{})
	}
	first := b.newest - uint64(len(b.events)) + 1
	from := max(n+1, first) - first
	if n > b.newest {
		from = 0
	}
	return slices.Clone(b.events[from:]), b.newest, b.more
}
