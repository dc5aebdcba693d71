package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"standfast/cluster"
)

// Severity says how much an event matters to whoever is woken by it.
type Severity string

// The severities.
const (
	Info     Severity = "info"     // as it should be, or asked for
	Warning  Severity = "warning"  // something failed and was dealt with, or is to be looked at
	Critical Severity = "critical" // nobody takes writes, or acknowledged commits may be lost
)

// Event is one thing that happened in the cluster. Its JSON is a line of GET /events and what a webhook is sent, a stable format: keys
// are only ever added.
type Event struct {
	ID       string            `json:"id"` // the same whoever tells it, and however often
	At       time.Time         `json:"at"` // by the clock of Member
	Cluster  string            `json:"cluster"`
	Member   string            `json:"member"` // that recorded it
	Kind     string            `json:"kind"`   // a word; docs/EVENTS.md lists them
	Severity Severity          `json:"severity"`
	Text     string            `json:"text"` // a sentence
	Term     cluster.Term      `json:"term,omitempty"`
	About    string            `json:"about,omitempty"`     // the member that it is about
	By       string            `json:"by,omitempty"`        // the operator who asked for it
	Remote   string            `json:"remote,omitempty"`    // from where, host:port
	Facts    map[string]string `json:"facts,omitempty"`     // what was seen and led to it, in words
	Steps    []cluster.Step    `json:"steps,omitempty"`     // of a change of primary, with their times
	OutageMS int64             `json:"outage_ms,omitempty"` // likewise, how long nobody took writes
}

// Events keeps what happened, for GET /events.
type Events interface {
	// After returns what came after the one of that number, 0 for all that is kept, oldest first; the number of the newest; and a
	// channel that is closed when there is more.
	After(n uint64) (events []Event, newest uint64, more <-chan struct{})
}

// EventLine is one line of GET /events: an event, or, with none, a sign of life.
type EventLine struct {
	Event *Event    `json:"event,omitempty"`
	Now   time.Time `json:"now,omitzero"` // of the member that answers
}

// Bounds on those who follow.
const (
	mostFollowers = 32
	lifeSign      = 3 * time.Second // a client that hears nothing for twice as long knows that the member is gone
)

// getEvents answers GET /events as lines of JSON (application/x-ndjson): those that are kept, oldest first, from ?since= on (a time as in
// RFC 3339, or a duration before now), and with ?follow=true each new one as it comes.
func (c *changes) getEvents(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	since, err := parseSince(q.Get("since"), time.Now())
	switch {
	case err != nil:
		c.fail(w, r, Errorf(Invalid, "since: %w", err))
		return
	case c.events == nil:
		c.fail(w, r, Errorf(NotFound, "this member keeps no events"))
		return
	case q.Get("follow") != "true":
		c.health.tally.count(http.StatusOK)
		events, _, _ := c.events.After(0)
		lines := newLines(w)
		for _, e := range events {
			if !e.At.Before(since) {
				lines.send(EventLine{Event: &e})
			}
		}
		lines.send(EventLine{Now: time.Now()})
		return
	}
	if c.followers.Add(1) > mostFollowers {
		c.followers.Add(-1)
		c.fail(w, r, Errorf(Unavailable, "%d clients follow this member already: end one of them, or ask another member", mostFollowers))
		return
	}
	defer c.followers.Add(-1)
	c.health.tally.count(http.StatusOK)
	c.follow(r.Context(), newLines(w), since)
}

// follow sends events as they come, until the client has gone or the server stops.
func (c *changes) follow(ctx context.Context, lines *lines, since time.Time) {
	alive := time.NewTicker(lifeSign)
	defer alive.Stop()
	for n := uint64(0); ; {
		events, newest, more := c.events.After(n)
		n = newest
		for _, e := range events {
			if e.At.Before(since) {
				continue
			}
			if lines.send(EventLine{Event: &e}) != nil {
				return
			}
		}
		if lines.send(EventLine{Now: time.Now()}) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-more:
		case <-alive.C:
		}
	}
}

// parseSince reads a time, or a duration before now. "" is the beginning.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a duration, such as 1h, nor a time, such as 2026-01-02T15:04:05Z", text)
	}
	return t, nil
}

// lines writes lines of JSON at once. A client that doesn't read them is given up: each write has its bound.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return &lines{w, http.NewResponseController(w)}
}

func (l *lines) send(v any) error {
	_ = l.control.SetWriteDeadline(time.Now().Add(streamWrite)) // not offered by a recorder in a test
	if _, err := l.w.Write(encode(v)); err != nil {
		return err
	}
	return l.control.Flush()
}
