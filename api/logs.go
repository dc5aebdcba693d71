package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// LogSource says whose a line of a log is.
type LogSource string

// The sources.
const (
	LogAgent    LogSource = "standfast"
	LogRouter   LogSource = "router"
	LogPostgres LogSource = "postgresql"
)

// LogSources lists them.
var LogSources = []LogSource{LogAgent, LogRouter, LogPostgres}

// LogLine is one line of a member's log, and what follows it and belongs to it.
type LogLine struct {
	At     time.Time `json:"at"` // by the member's clock
	Member string    `json:"member"`
	Source LogSource `json:"source"`
	Level  string    `json:"level"` // debug, info, warn or error
	Text   string    `json:"text"`
}

// LogMark is how far logs have been read. The zero value is as far back as is kept.
type LogMark struct {
	Own      uint64 // the number of the last line of the member's own
	Postgres int64  // offset in PostgreSQL's file
}

// Logs are a member's, for GET /logs.
type Logs interface {
	// Lines returns what came after the mark, by time, and the mark to go on from: the newest, within bounds. What it could be read of it is
	// returned with an error too.
	Lines(from LogMark) ([]LogLine, LogMark, error)
}

// LogAnswer is one line of GET /logs: a line of a log, or, with none, a sign of life, the first of which follows what was there already.
type LogAnswer struct {
	Line *LogLine  `json:"line,omitempty"`
	Now  time.Time `json:"now,omitzero"` // of the member that answers
}

const (
	logPace = 300 * time.Millisecond // between looks while somebody follows
	logMost = 4 << 20                // bytes of text in the first answer, the newest
)

// getLogs answers GET /logs as lines of JSON: from ?since= on (as with /events), of ?source=router,postgresql, and with ?follow=true each new
// one as it comes.
func (c *changes) getLogs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	since, err := parseSince(q.Get("since"), time.Now())
	switch {
	case err != nil:
		c.fail(w, r, Errorf(Invalid, "since: %w", err))
		return
	case c.logs == nil:
		c.fail(w, r, Errorf(NotFound, "this member keeps no logs"))
		return
	}
	if c.followers.Add(1) > mostFollowers {
		c.followers.Add(-1)
		c.fail(w, r, Errorf(Unavailable, "%d clients follow this member already: end one of them, or ask another member", mostFollowers))
		return
	}
	defer c.followers.Add(-1)
	c.health.tally.count(http.StatusOK)
	wanted := func(l LogLine) bool {
		return !l.At.Before(since) && (q.Get("source") == "" || slices.Contains(strings.Split(q.Get("source"), ","), string(l.Source)))
	}
	c.sendLogs(r.Context(), newLines(w), wanted, q.Get("follow") == "true")
}

func (c *changes) sendLogs(ctx context.Context, out *lines, wanted func(LogLine) bool, follow bool) {
	look := time.NewTicker(logPace)
	defer look.Stop()
	var said time.Time
	for mark := (LogMark{}); ; {
		found, next, err := c.logs.Lines(mark)
		if err != nil {
			c.log.Debug("read logs", "error", err)
		}
		mark = next
		found = newestOf(slices.DeleteFunc(found, func(l LogLine) bool { return !wanted(l) }))
		for _, l := range found {
			if out.send(LogAnswer{Line: &l}) != nil {
				return
			}
		}
		if now := time.Now(); now.Sub(said) >= lifeSign {
			said = now
			if out.send(LogAnswer{Now: now}) != nil {
				return
			}
		}
		if !follow {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// newestOf are the last of the lines that have logMost together.
func newestOf(found []LogLine) []LogLine {
	size := 0
	for i := len(found) - 1; i >= 0; i-- {
		if size += len(found[i].Text); size > logMost {
			return found[i+1:]
		}
	}
	return found
}
