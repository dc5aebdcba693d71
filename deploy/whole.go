package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/distro"
	"standfast/deploy/probe"
	"standfast/packaging"
)

// How long a cluster may take until it is whole, and how often it is asked.
const (
	wholeTime = 3 * time.Minute
	askEvery  = 200 * time.Millisecond
)

// condition says what is missing in what the members tell of themselves; "": nothing.
type condition func(all map[string]*api.Status) string

// await asks every member about itself until the condition holds, and returns the newest term's status.
func (s *Site) await(ctx context.Context, c condition) (*api.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(s.Patience, wholeTime), errNotWhole)
	defer cancel()
	for {
		all := s.statuses(ctx)
		missing := c(all)
		if missing == "" {
			return newest(all), nil
		}
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errNotWhole) {
				return nil, context.Cause(ctx) // somebody has ended it
			}
			return nil, fmt.Errorf("%w: %s; look at journalctl -u standfast on the hosts%s", context.Cause(ctx), missing, s.lastWords(ctx, missing))
		case <-time.After(askEvery):
		}
	}
}

// logTime bounds the look at the logs of hosts that may be in a bad way.
const logTime = 10 * time.Second

// lastWords are the ends of the logs of those members that the text begins with, or of all.
func (s *Site) lastWords(ctx context.Context, missing string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logTime)
	defer cancel()
	who := s.Deployment.Members
	for _, h := range who {
		if strings.HasPrefix(missing, h.Name+" ") {
			who = []config.Host{h}
		}
	}
	var b strings.Builder
	for _, h := range who {
		text, err := s.Machines[h.Name].Log(ctx, packaging.Unit)
		if err != nil {
			text = fmt.Sprintf("can't be read: %v", err)
		}
		for line := range strings.Lines(strings.TrimSpace(text)) {
			fmt.Fprintf(&b, "\n  %s: %s", h.Name, strings.TrimSpace(line))
		}
	}
	return b.String()
}

var errNotWhole = errors.New("the cluster does not become whole")

func (s *Site) awaitWhole(ctx context.Context) (*api.Status, error) { return s.await(ctx, s.whole) }

// statuses asks each member on its own host: from here its port may not be reachable.
func (s *Site) statuses(ctx context.Context) map[string]*api.Status {
	out := map[string]*api.Status{}
	for _, h := range s.Deployment.Members {
		if s.Machines[h.Name] == nil {
			continue // it can't be reached
		}
		a, err := s.Machines[h.Name].Ask(ctx, probe.Request{Get: []string{s.url(h.Name, "/status")}})
		if err != nil || len(a.Get) != 1 || a.Get[0].Error != "" {
			continue // the condition says who is missing
		}
		var st api.Status
		if err := json.Unmarshal([]byte(a.Get[0].Body), &st); err == nil {
			out[h.Name] = &st
		}
	}
	return out
}

func (s *Site) url(member, path string) string {
	m := s.Deployment.Node(member).Self()
	return "http://" + net.JoinHostPort(m.Address, strconv.Itoa(m.Ports.Health)) + path
}

// running takes PostgreSQL's major version from the first member whose server answers, and what each host runs from the host.
func (s *Site) running(ctx context.Context) error {
	s.Systems = map[string]distro.System{}
	for _, h := range s.data() {
		a, err := s.Machines[h.Name].Ask(ctx, probe.Request{Look: &probe.Look{}})
		if err != nil {
			return fmt.Errorf("ask %s what it runs: %w", h.Name, err)
		}
		s.Systems[h.Name], _ = distro.Find(a.Facts.OS.ID, a.Facts.OS.Version) // one that is not known may have been set up by hand
	}
	var errs []error
	for _, h := range s.data() {
		out, err := s.Machines[h.Name].SQL(ctx, "postgres", "SELECT current_setting('server_version_num')::int / 10000;")
		if err == nil {
			s.Postgres = strings.TrimSpace(out)
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", h.Name, err))
	}
	return fmt.Errorf("ask PostgreSQL for its version: %w", errors.Join(errs...))
}

func newest(all map[string]*api.Status) *api.Status {
	var st *api.Status
	for _, other := range all {
		if st == nil || other.Term > st.Term {
			st = other
		}
	}
	return st
}

// writable: the newest term has a primary that takes writes.
func writable(all map[string]*api.Status) string {
	st := newest(all)
	if st == nil {
		return "no member answers"
	}
	if p := all[st.Primary]; p == nil || p.Me() == nil || !p.Me().Writable {
		return "no primary takes writes"
	}
	return ""
}

// whole: all members are in one term, and every standby counts for commits and serves reads.
func (s *Site) whole(all map[string]*api.Status) string {
	for _, h := range s.Deployment.Members {
		if all[h.Name] == nil {
			return h.Name + " does not answer"
		}
	}
	if missing := writable(all); missing != "" {
		return missing
	}
	st := newest(all)
	for _, h := range s.Deployment.Members {
		mine, me, seen := all[h.Name], all[h.Name].Me(), all[st.Primary].Member(h.Name)
		switch {
		case mine.Term != st.Term || !mine.Store.OK:
			return h.Name + " is not in the newest term"
		case h.Name == st.Primary || h.Kind == cluster.Witness:
		case me == nil || seen == nil:
			return h.Name + " is not a member yet"
		case !seen.InRule || !seen.Readable || !seen.Attached || me.State != api.Running:
			return fmt.Sprintf("%s is %s %s", h.Name, me.State, me.Note)
		}
	}
	// A cluster that was made of a server that ran begins without: commits must not depend on one host when this is said to be done.
	if c := all[st.Primary].Commit; c.Durability != cluster.Async && c.Rule.K == 0 {
		return "commits do not wait for a standby yet"
	}
	return ""
}
