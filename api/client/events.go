package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"standfast/api"
)

// deaf is how long a member that is followed may say nothing: it gives a sign of life every 3 s.
const deaf = 8 * time.Second

// Events returns what the members that answer know of what happened since then, each event once, oldest first, and why the others
// did not answer. It needs the token. When none answers, the error names each.
func (c *Client) Events(ctx context.Context, since time.Time) ([]api.Event, []error, error) {
	type answer struct {
		events []api.Event
		err    error
	}
	answers := make([]answer, len(c.endpoints))
	var wg sync.WaitGroup
	for i, e := range c.endpoints {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, readTimeout)
			defer cancel()
			a := &answers[i]
			a.err = lines(ctx, c, e, eventsPath(since, false), func(l api.EventLine) {
				if l.Event != nil {
					a.events = append(a.events, *l.Event)
				}
			})
		})
	}
	wg.Wait()
	var out []api.Event
	var failed []error
	for _, a := range answers {
		if a.err != nil {
			failed = append(failed, a.err)
		}
		out = append(out, a.events...)
	}
	if len(failed) == len(c.endpoints) {
		return nil, nil, nobody(failed)
	}
	return merge(out), failed, nil
}

// patient bounds the wait for an answer that a member has to work for.
const patient = 130 * time.Second

// Salvage asks every member what it keeps of what it discarded: newest first, member by member, and why others did not answer. It needs
// the token. When none answers, the error names each.
func (c *Client) Salvage(ctx context.Context) ([]api.Salvaged, []error, error) {
	found, errs := make([][]api.Salvaged, len(c.endpoints)), make([]error, len(c.endpoints))
	var wg sync.WaitGroup
	for i, e := range c.endpoints {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patient)
			defer cancel()
			errs[i] = c.read(ctx, e, "/salvage", &found[i])
			var refused *api.Error
			if errors.As(errs[i], &refused) && refused.Kind == api.NotFound {
				errs[i] = nil // a witness
			}
		})
	}
	wg.Wait()
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(failed) == len(c.endpoints) {
		return nil, nil, nobody(failed)
	}
	return slices.Concat(found...), failed, nil
}

// Slots asks every member for its replication slots, member by member, and why others did not answer. It needs the token. When none answers,
// the error names each.
func (c *Client) Slots(ctx context.Context) ([]api.Slot, []error, error) {
	found, errs := make([][]api.Slot, len(c.endpoints)), make([]error, len(c.endpoints))
	var wg sync.WaitGroup
	for i, e := range c.endpoints {
		wg.Go(func() {
			errs[i] = c.get(ctx, e, "/slots", &found[i])
			var refused *api.Error
			if errors.As(errs[i], &refused) && refused.Kind == api.NotFound {
				errs[i] = nil // a witness
			}
		})
	}
	wg.Wait()
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(failed) == len(c.endpoints) {
		return nil, nil, nobody(failed)
	}
	return slices.SortedFunc(slices.Values(slices.Concat(found...)), func(a, b api.Slot) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.Name, b.Name))
	}), failed, nil
}

// nobody is the error of a question that no member answered: a refusal as it is, for all refuse alike.
func nobody(failed []error) error {
	for _, err := range failed {
		var refused *api.Error
		if errors.As(err, &refused) {
			return err
		}
	}
	return api.Errorf(api.Unavailable, "no member answers:\n%w", errors.Join(failed...))
}

// merge sorts events by time and keeps the last version of each.
func merge(events []api.Event) []api.Event {
	at := map[string]int{}
	var out []api.Event
	for _, e := range events {
		if i, there := at[e.ID]; there {
			out[i] = e
			continue
		}
		at[e.ID] = len(out)
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b api.Event) int { return a.At.Compare(b.At) })
	return out
}

// FollowEvents calls each for every event since then and every one that comes, once each, from all members, until ctx ends. Members
// that don't answer, or stop to, are asked again; trouble is called when one is lost and when it is there again (err nil).
// Both are called by one goroutine at a time. It returns an error only when no member can be asked at all.
func (c *Client) FollowEvents(ctx context.Context, since time.Time, each func(api.Event), trouble func(endpoint string, err error)) error {
	first, failed, err := c.Events(ctx, since)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var mu sync.Mutex
	take := func(e api.Event) {
		mu.Lock()
		defer mu.Unlock()
		if !seen[e.ID] {
			seen[e.ID] = true
			each(e)
		}
	}
	for _, e := range first {
		take(e)
	}
	for _, err := range failed {
		trouble("", err)
	}
	var wg sync.WaitGroup
	for _, e := range c.endpoints {
		wg.Go(func() { c.followOne(ctx, e, since, take, locked(&mu, trouble)) })
	}
	wg.Wait()
	return ctx.Err()
}

func locked(mu *sync.Mutex, f func(string, error)) func(string, error) {
	return func(at string, err error) {
		mu.Lock()
		defer mu.Unlock()
		f(at, err)
	}
}

// again is the rest before a member that was lost is asked again.
const again = time.Second

func (c *Client) followOne(ctx context.Context, e endpoint, since time.Time, take func(api.Event), trouble func(string, error)) {
	follow(ctx, c, e, func() string { return eventsPath(since, true) }, func(l api.EventLine) {
		if l.Event != nil {
			take(*l.Event)
		}
	}, trouble)
}

// follow takes the lines that an endpoint gives at the path, which is asked for anew each time that it was lost, until ctx ends. trouble is told
// why it was lost, once, and nil when it is back.
func follow[T any](ctx context.Context, c *Client, e endpoint, path func() string, take func(T), trouble func(string, error)) {
	lost := false
	for ctx.Err() == nil {
		one, cancel := context.WithCancelCause(ctx)
		silence := time.AfterFunc(deaf, func() { cancel(errDeaf) })
		err := lines(one, c, e, path(), func(l T) {
			silence.Reset(deaf)
			if lost {
				lost = false
				trouble(e.String(), nil)
			}
			take(l)
		})
		if errors.Is(context.Cause(one), errDeaf) {
			err = errDeaf
		}
		silence.Stop()
		cancel(nil)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it closed the connection")
		}
		if !lost {
			lost = true
			trouble(e.String(), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

var errDeaf = errors.New("it does not answer any more")

func eventsPath(since time.Time, follow bool) string {
	q := url.Values{}
	if !since.IsZero() {
		q.Set("since", since.UTC().Format(time.RFC3339Nano))
	}
	if follow {
		q.Set("follow", "true")
	}
	return "/events?" + q.Encode()
}

// lines reads an answer of lines of JSON to its end.
func lines[T any](ctx context.Context, c *Client, e endpoint, path string, each func(T)) error {
	resp, err := c.do(ctx, e, http.MethodGet, path, "", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(e, resp)
	}
	for d := json.NewDecoder(resp.Body); ; {
		var line T
		if err := d.Decode(&line); err != nil {
			return ended(err)
		}
		each(line)
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
