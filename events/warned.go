package events

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"standfast/api"
)

// Lasting is how long something unusual lasts before it is told of: a switchover leaves some behind for a moment.
const Lasting = 3 * time.Second

// Warned follows what is unusual, from its beginning to its end. The zero value has seen nothing.
type Warned struct {
	open map[string]*warning // by text without its numbers
}

type warning struct {
	text     string
	from, at time.Time // first and last seen
	told     bool
}

// changing are the parts of a warning that change while it is the same one: durations, dates, times of day, sizes, shares.
var changing = regexp.MustCompile(`\b(\d+(\.\d+)?(ns|µs|ms|s|m|h|d)\b|\d+(\.\d+)?(ns|µs|ms|s|m|h)(\d+(\.\d+)?(ms|s|m|h))+|\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2})?)?|\d+(\.\d+)? ?(B|kB|MB|GB|TB|bytes|seconds|s|ms)\b|\d+(\.\d+)? ?%)`)

func same(text string) string { return changing.ReplaceAllString(text, "#") }

// Look compares what is unusual now with what was, and returns what begun and what ended, undated. A warning that comes back
// within Lasting has not ended.
func (w *Warned) Look(now time.Time, texts []string) []api.Event {
	if w.open == nil {
		w.open = map[string]*warning{}
	}
	var out []api.Event
	for _, text := range texts {
		key := same(text)
		o := w.open[key]
		if o == nil {
			o = &warning{from: now}
			w.open[key] = o
		}
		o.text, o.at = text, now
		if !o.told && now.Sub(o.from) >= Lasting {
			o.told = true
			out = append(out, api.Event{Kind: Begun, Severity: severity(text), Text: text})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.open)) {
		o := w.open[key]
		if now.Sub(o.at) < Lasting && (o.told || now.Equal(o.at)) {
			continue
		}
		if o.told {
			out = append(out, api.Event{Kind: Ended, Severity: api.Info, Text: "no longer: " + o.text, Facts: map[string]string{"lasted": o.at.Sub(o.from).Round(time.Second).String()}})
		}
		delete(w.open, key)
	}
	return out
}

// severity: without writes or a majority the application stands still, or a single fault from it.
func severity(text string) api.Severity {
	if strings.HasPrefix(text, "no writes") || strings.HasPrefix(text, "no majority") {
		return api.Critical
	}
	return api.Warning
}
