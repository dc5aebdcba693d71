package logs

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"

	"standfast/api"
)

// bound is how many bytes of lines a Ring holds.
const bound = 2 << 20

// Ring holds the newest lines. The zero value is empty.
type Ring struct {
	mu     sync.Mutex
	lines  []api.LogLine
	bytes  int
	newest uint64 // number of the last one; the first of lines has newest-len(lines)+1
}

func (r *Ring) add(l api.LogLine) {
	r.lines = append(r.lines, l)
	r.bytes += size(l)
	r.newest++
	drop := 0
	for ; r.bytes > bound; drop++ {
		r.bytes -= size(r.lines[drop])
		r.lines[drop] = api.LogLine{}
	}
	r.lines = r.lines[drop:]
}

// size is about what a line takes in memory.
func size(l api.LogLine) int { return len(l.Text) + 100 }

// After returns what came after the line of that number, 0 for all that is kept, and the number of the newest.
func (r *Ring) After(n uint64) ([]api.LogLine, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.newest - uint64(len(r.lines)) + 1
	from := max(n+1, first) - first
	if n > r.newest { // of an earlier life
		from = 0
	}
	return append([]api.LogLine(nil), r.lines[from:]...), r.newest
}

// Tee returns a handler that passes everything on to next and has the ring keep it.
func (r *Ring) Tee(next slog.Handler) slog.Handler {
	b := &bytes.Buffer{}
	text := slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: rest})
	return &tee{ring: r, next: next, text: text, buffer: b, source: api.LogAgent}
}

// rest leaves out what a line has fields of its own for.
func rest(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	if len(groups) == 0 && a.Key == partKey && (a.Value.String() == "agent" || a.Value.String() == string(api.LogRouter)) {
		return slog.Attr{} // the source says so
	}
	return a
}

// partKey is the attribute by which the daemon's parts name themselves.
const partKey = "part"

// tee writes the attributes of a record through a TextHandler, whose buffer the ring's mutex guards.
type tee struct {
	ring   *Ring
	next   slog.Handler
	text   slog.Handler
	buffer *bytes.Buffer
	source api.LogSource
}

func (t *tee) Enabled(ctx context.Context, level slog.Level) bool { return t.next.Enabled(ctx, level) }

func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	t.ring.mu.Lock()
	t.buffer.Reset()
	err := t.text.Handle(ctx, r)
	if err == nil {
		line := strings.TrimSpace(r.Message + " " + t.buffer.String())
		t.ring.add(api.LogLine{At: r.Time, Source: t.source, Level: strings.ToLower(r.Level.String()), Text: line})
	}
	t.ring.mu.Unlock()
	return t.next.Handle(ctx, r) // not under the mutex: whatever it writes to may block
}

func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *t
	c.next, c.text = t.next.WithAttrs(attrs), t.text.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == partKey && a.Value.String() == string(api.LogRouter) {
			c.source = api.LogRouter
		}
	}
	return &c
}

func (t *tee) WithGroup(name string) slog.Handler {
	c := *t
	c.next, c.text = t.next.WithGroup(name), t.text.WithGroup(name)
	return &c
}
