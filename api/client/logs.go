package client

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"standfast/api"
)

// LogQuery says which lines are wanted.
type LogQuery struct {
	Since   time.Time       // zero: all that is kept
	Sources []api.LogSource // nil: all
	Members []string        // nil: all
}

func (q LogQuery) path(since time.Time, follow bool) string {
	v := url.Values{}
	if !since.IsZero() {
		v.Set("since", since.UTC().Format(time.RFC3339Nano))
	}
	if follow {
		v.Set("follow", "true")
	}
	var sources []string
	for _, s := range q.Sources {
		sources = append(sources, string(s))
	}
	if sources != nil {
		v.Set("source", strings.Join(sources, ","))
	}
	return "/logs?" + v.Encode()
}

func (q LogQuery) wants(l api.LogLine) bool {
	return q.Members == nil || slices.Contains(q.Members, l.Member)
}

// longRead bounds the wait for a whole log.
const longRead = 20 * time.Second

// Logs returns the lines of the members that answer, by time, and why the others did not answer. It needs a token that may change
// something. When none answers, the error names each.
func (c *Client) Logs(ctx context.Context, q LogQuery) ([]api.LogLine, []error, error) {
	found, errs := make([][]api.LogLine, len(c.endpoints)), make([]error, len(c.endpoints))
	var wg sync.WaitGroup
	for i, e := range c.endpoints {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, longRead)
			defer cancel()
			errs[i] = lines(ctx, c, e, q.path(q.Since, false), func(a api.LogAnswer) {
				if a.Line != nil && q.wants(*a.Line) {
					found[i] = append(found[i], *a.Line)
				}
			})
		})
	}
	wg.Wait()
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(failed) == len(c.endpoints) {
		return nil, nil, nobody(failed)
	}
	out := slices.Concat(found...)
	byTime(out)
	return out, failed, nil
}

func byTime(lines []api.LogLine) {
	slices.SortStableFunc(lines, func(a, b api.LogLine) int { return a.At.Compare(b.At) })
}

// logGroup is how long lines that are followed are collected, so that those of several members come by time: each member looks for
// new ones every 300 ms.
const logGroup = 600 * time.Millisecond

// FollowLogs calls each for every line since then and every one that comes, by time as far as they come within half a second, until ctx
// ends. Members that don't answer, or stop to, are asked again; trouble is called when one is lost and when it is there again
// (err nil). Both are called by one goroutine at a time. It returns an error only when no member can be asked at all.
func (c *Client) FollowLogs(ctx context.Context, q LogQuery, each func(api.LogLine), trouble func(endpoint string, err error)) error {
	if _, _, err := c.Logs(ctx, LogQuery{Since: time.Now().Add(-time.Second)}); err != nil {
		return err // it says of each why; what the others are is told below
	}
	var mu sync.Mutex
	var waiting []api.LogLine
	var wg sync.WaitGroup
	for _, e := range c.endpoints {
		wg.Go(func() {
			c.followLog(ctx, e, q, func(l api.LogLine) {
				mu.Lock()
				defer mu.Unlock()
				waiting = append(waiting, l)
			}, locked(&mu, trouble))
		})
	}
	pace := time.NewTicker(logGroup)
	defer pace.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-pace.C:
		}
		mu.Lock()
		byTime(waiting)
		for _, l := range waiting {
			each(l)
		}
		waiting = nil
		mu.Unlock()
	}
	wg.Wait()
	return ctx.Err()
}

// followLog follows one member. What it has told before it was lost is not told again.
func (c *Client) followLog(ctx context.Context, e endpoint, q LogQuery, take func(api.LogLine), trouble func(string, error)) {
	told := mark{since: q.Since, at: map[api.LogLine]bool{}}
	follow(ctx, c, e, func() string { return q.path(told.since, true) }, func(a api.LogAnswer) {
		if a.Line != nil && q.wants(*a.Line) && told.take(*a.Line) {
			take(*a.Line)
		}
	}, trouble)
}

// mark is how far one member's lines have been told: all before since, and those at it.
type mark struct {
	since time.Time
	at    map[api.LogLine]bool
}

// take reports whether the line is new. PostgreSQL's processes write side by side, so a line may come that is a little older than one
// before it: it is told unless the member is being asked again from a later time on.
func (m *mark) take(l api.LogLine) bool {
	key := l
	key.At = time.Time{}
	switch {
	case l.At.Equal(m.since) && m.at[key]:
		return false
	case l.At.After(m.since):
		m.since = l.At
		clear(m.at)
		m.at[key] = true
	case l.At.Equal(m.since):
		m.at[key] = true
	}
	return true
}
