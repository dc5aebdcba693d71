package probe

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"standfast/playground/load"
)

// Load writes rows as an application does, until another server than the first has taken enough of them, and then reads all of them
// back. The schema is to be there and to belong to the user; the rows stay.
type Load struct {
	Addresses []string      `json:"addresses"` // host:port, tried in this order at each new session
	User      string        `json:"user"`
	Password  string        `json:"password"`
	Database  string        `json:"database"`
	Schema    string        `json:"schema"`
	Within    time.Duration `json:"within"` // for another server to write
}

// Work is how it went.
type Work struct {
	From         string        `json:"from"` // who acknowledged the first commit
	To           string        `json:"to"`   // and the last
	Acknowledged int           `json:"acknowledged"`
	Lost         int           `json:"lost"`   // acknowledged, and not there when they were read back
	Two          int           `json:"two"`    // proofs that two servers acknowledged at the same time
	Outage       time.Duration `json:"outage"` // the longest time without an acknowledgement
	Code         string        `json:"code,omitempty"`
	Error        string        `json:"error,omitempty"`
}

// The load is small: it measures the cluster and is not to fill it.
const (
	loadClients = 4
	loadThink   = 5 * time.Millisecond // of each, after a commit
	loadTimeout = 5 * time.Second      // of one attempt
	takenOver   = 100                  // commits that the other server acknowledges before it ends
	loadEvery   = 20 * time.Millisecond
)

func (l Load) dsn() string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(l.User, l.Password), Host: strings.Join(l.Addresses, ","), Path: "/" + l.Database,
		RawQuery: url.Values{"sslmode": {"prefer"}, "options": {"-csearch_path=" + l.Schema}}.Encode(),
	}
	return u.String()
}

func (l Load) work(ctx context.Context) Work {
	r, err := load.Start(ctx, load.Config{DSN: l.dsn(), Clients: loadClients, Think: loadThink, Timeout: loadTimeout})
	if err != nil {
		return Work{Error: err.Error(), Code: code(err)}
	}
	moved := awaitOther(ctx, r, l.Within)
	end := r.Elapsed()
	w := judge(r.Stop(), end)
	if !moved {
		w.Error = "no other server takes writes within " + l.Within.String()
		return w
	}
	lost, err := r.Lost(ctx, "")
	if err != nil {
		w.Error = err.Error()
	}
	w.Lost = len(lost)
	return w
}

// awaitOther waits until a server on a newer timeline than the first one's has acknowledged enough.
func awaitOther(ctx context.Context, r *load.Run, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	var first load.Executor
	seen, others := 0, 0
	for {
		fresh := r.Since(seen)
		seen += len(fresh)
		for _, op := range fresh {
			switch {
			case op.Outcome != load.Acknowledged:
			case first.Timeline == 0:
				first = op.Executor
			case op.Timeline > first.Timeline && op.Server != first.Server:
				others++
			}
		}
		if others >= takenOver {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// judge counts from the first acknowledgement to the end: a silence that has not ended is part of the outage.
func judge(ops []load.Op, end time.Duration) Work {
	w := Work{Two: len(load.Overlaps(ops))}
	var began time.Duration
	for _, op := range ops {
		if op.Outcome != load.Acknowledged {
			continue
		}
		if w.Acknowledged == 0 {
			w.From, began = op.Server, op.End
		}
		w.To = op.Server
		w.Acknowledged++
	}
	if w.Acknowledged > 0 {
		w.Outage = load.LongestGap(ops, began, max(end, began)).Length()
	}
	return w
}

// code is PostgreSQL's, where it has refused.
func code(err error) string {
	var refused interface{ SQLState() string }
	if errors.As(err, &refused) {
		return refused.SQLState()
	}
	return ""
}
