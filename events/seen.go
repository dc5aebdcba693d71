package events

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
)

// Seen is what one member sees at one moment, as far as events come of it.
type Seen struct {
	Self    string
	Speaker bool // it tells of what all members see alike

	State   *cluster.State
	Members []string
	Silent  map[string]time.Duration // members that are not heard, and for how long; below 0: never heard
	Accused map[string][]string      // members that others tell they don't hear: by whom

	Witness   bool
	Running   bool // a process of PostgreSQL's lives
	Up        bool // it answers
	Standby   bool
	Stalled   string
	Doing     string // the slow action under way; "" if none
	Failed    string // the slow action that failed last, and why
	Addresses []string
	Cut       uint64 // sessions that the router has cut since it started
	CutWhy    string
}

// Between tells what happened from one look to the next, without dates and names of who tells. before is nil at the first.
func Between(before *Seen, after Seen) []api.Event {
	if before == nil {
		return nil
	}
	var out []api.Event
	for _, f := range []func(Seen, Seen) []api.Event{terms, rules, voices, servers, works, addresses, sessions} {
		out = append(out, f(*before, after)...)
	}
	for i := range out {
		if after.State != nil && out[i].Term == 0 {
			out[i].Term = after.State.Term
		}
		if out[i].Severity == "" {
			out[i].Severity = api.Info
		}
	}
	return out
}

// terms: whoever began the term tells of it, with what it saw then.
func terms(before, after Seen) []api.Event {
	s := after.State
	if s == nil || s.By != after.Self || s.Phase == cluster.Reigning || before.State != nil && before.State.Term >= s.Term {
		return nil
	}
	facts := map[string]string{"rule": s.Rule.String()}
	old := s.Last
	if before.State != nil && before.State.Primary != "" {
		old = before.State.Primary
	}
	if old != "" {
		facts["primary before"] = old
	}
	for name, d := range after.Silent {
		facts[name+" last heard"] = ago(d)
	}
	for name, by := range after.Accused {
		facts[name+" not heard by"] = strings.Join(by, ", ")
	}
	return []api.Event{{Kind: Election, Severity: api.Warning, About: old, Text: fmt.Sprintf("term %d begins: %s", s.Term, s.Reason), Facts: facts}}
}

func ago(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.Round(time.Millisecond).String() + " ago"
}

// rules: the primary tells of the changes that it makes while it reigns. Those that a change of primary brings are in its own event.
func rules(before, after Seen) []api.Event {
	b, s := before.State, after.State
	if b == nil || s == nil || b.Term != s.Term || s.Phase != cluster.Reigning || b.Phase != cluster.Reigning || s.Primary != after.Self || b.Rule.Equal(s.Rule) {
		return nil
	}
	e := api.Event{Kind: Rule, Text: fmt.Sprintf("an acknowledged commit is on %s now; before, on %s", InWords(s.Rule), InWords(b.Rule)), Facts: map[string]string{"rule": s.Rule.String(), "rule before": b.Rule.String()}}
	if s.Rule.K < b.Rule.K {
		e.Severity = api.Warning
	}
	return []api.Event{e}
}

// InWords says on whom, besides the primary, a commit is when it is acknowledged.
func InWords(r cluster.Rule) string {
	switch {
	case r.K == 0:
		return "the primary alone"
	case len(r.Of) == 0:
		return "the primary and a standby, of which there is none yet"
	case r.K == len(r.Of):
		return "the primary and " + strings.Join(r.Of, " and ")
	}
	return fmt.Sprintf("the primary and %d of %s", r.K, strings.Join(r.Of, ", "))
}

// voices: members that fall silent and come back.
func voices(before, after Seen) []api.Event {
	if !after.Speaker {
		return nil
	}
	var out []api.Event
	for _, name := range after.Members {
		was, wasSilent := before.Silent[name]
		d, silent := after.Silent[name]
		switch {
		case silent == wasSilent || name == after.Self || !slices.Contains(before.Members, name):
		case silent:
			e := api.Event{Kind: Silent, Severity: api.Warning, About: name, Text: name + " is not heard any more: see whether its host is up and standfast runs there", Facts: map[string]string{"last heard": ago(d)}}
			if by := after.Accused[name]; len(by) > 0 {
				e.Facts["not heard by"] = strings.Join(by, ", ")
			}
			out = append(out, e)
		case was < 0:
			out = append(out, api.Event{Kind: Heard, About: name, Text: name + " is heard"})
		default:
			out = append(out, api.Event{Kind: Heard, About: name, Text: fmt.Sprintf("%s is heard again, after %s", name, was.Round(100*time.Millisecond))})
		}
	}
	return out
}

func servers(before, after Seen) []api.Event {
	if after.Witness {
		return nil
	}
	e := api.Event{Kind: Postgres, About: after.Self}
	switch {
	case before.Running && !after.Running:
		e.Text = "PostgreSQL on " + after.Self + " has ended"
		if before.Doing == "" && after.Doing == "" { // nobody here told it to
			e.Severity = api.Warning
		} else {
			e.Facts = map[string]string{"during": orElse(after.Doing, before.Doing)}
		}
	case after.Stalled != before.Stalled && after.Stalled != "":
		e.Severity, e.Text = api.Warning, "PostgreSQL on "+after.Self+" runs and is of no use: "+after.Stalled
	case !before.Up && after.Up && after.Standby:
		e.Text = "PostgreSQL on " + after.Self + " answers, as a standby"
	case !before.Up && after.Up:
		e.Text = "PostgreSQL on " + after.Self + " answers, not as a standby"
	default:
		return nil
	}
	return []api.Event{e}
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// quiet are slow actions that other events tell of.
var quiet = []string{"start as standby", "stop:"}

func isQuiet(doing string) bool {
	return slices.ContainsFunc(quiet, func(q string) bool { return strings.HasPrefix(doing, q) })
}

// works: slow actions begin, end and fail.
func works(before, after Seen) []api.Event {
	if before.Doing == after.Doing {
		return failures(before, after)
	}
	var out []api.Event
	if before.Doing != "" {
		if failed := failures(before, after); len(failed) > 0 {
			out = append(out, failed...)
		} else if !isQuiet(before.Doing) {
			out = append(out, api.Event{Kind: Work, About: after.Self, Text: after.Self + " is done: " + before.Doing})
		}
	}
	if after.Doing != "" && !isQuiet(after.Doing) {
		out = append(out, api.Event{Kind: Work, About: after.Self, Text: after.Self + " begins: " + after.Doing})
	}
	return out
}

func failures(before, after Seen) []api.Event {
	if after.Failed == before.Failed || after.Failed == "" {
		return nil
	}
	return []api.Event{{Kind: Work, Severity: api.Warning, About: after.Self, Text: after.Self + " could not " + after.Failed}}
}

func addresses(before, after Seen) []api.Event {
	var out []api.Event
	for _, a := range after.Addresses {
		if !slices.Contains(before.Addresses, a) {
			out = append(out, api.Event{Kind: Address, About: after.Self, Text: a + " is on " + after.Self + " now", Facts: map[string]string{"address": a, "held": "yes"}})
		}
	}
	for _, a := range before.Addresses {
		if !slices.Contains(after.Addresses, a) {
			out = append(out, api.Event{Kind: Address, About: after.Self, Text: a + " was taken off " + after.Self, Facts: map[string]string{"address": a, "held": "no"}})
		}
	}
	return out
}

func sessions(before, after Seen) []api.Event {
	n := after.Cut - before.Cut
	if after.Cut <= before.Cut {
		return nil
	}
	what := "sessions"
	if n == 1 {
		what = "session"
	}
	return []api.Event{{Kind: Sessions, About: after.Self, Text: fmt.Sprintf("the router of %s cut %d %s: their server had lost its role", after.Self, n, what), Facts: map[string]string{"sessions": fmt.Sprint(n)}}}
}
