package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/events"
	"standfast/internal/redact"
)

// watched is what was seen at the last look, for events.
type watched struct {
	seen        *events.Seen
	common, own events.Warned
	shared      []string // warnings of the newest status that every member gives alike
}

func (n *Node) openEvents() error {
	n.openOutward()
	n.keeper = events.NewKeeper(events.Config{
		Cluster: n.cfg.Cluster, Self: n.cfg.Name, Store: n.store, Book: &n.events, Log: n.log.With("part", "events"), Busy: n.electing,
		Told: n.outward.Tell,
	})
	n.keeper.Record(api.Event{Kind: events.Agent, About: n.cfg.Name, Text: fmt.Sprintf("standfast %s starts on %s", n.version, n.cfg.Name)})
	return nil
}

// electing reports whether the store is needed for an election.
func (n *Node) electing() bool {
	v := n.view.Load()
	return v != nil && v.State != nil && v.State.Phase != cluster.Reigning
}

// watch finds what has happened since the last look. It is called from the agent's loop with each new status.
func (n *Node) watch(v cluster.View, s *api.Status) {
	w := &n.watched
	seen := n.seen(v)
	found := events.Between(w.seen, seen)
	w.seen = &seen
	common := w.common.Look(s.Observed, slices.DeleteFunc(slices.Clone(w.shared), toldOtherwise))
	if seen.Speaker {
		found = append(found, common...)
	}
	own := slices.DeleteFunc(slices.Clone(s.Warnings), func(text string) bool { return slices.Contains(w.shared, text) })
	found = append(found, w.own.Look(s.Observed, own)...)
	for _, e := range found {
		if e.Term == 0 {
			e.Term = s.Term
		}
		n.keeper.Record(e)
	}
}

// toldOtherwise: other events tell of it, and better.
func toldOtherwise(warning string) bool { return strings.Contains(warning, " is not heard from") }

// seen is what this member sees, as far as events come of it.
func (n *Node) seen(v cluster.View) events.Seen {
	s := events.Seen{
		Self: v.Self, State: v.State, Silent: map[string]time.Duration{}, Accused: map[string][]string{}, Witness: n.pg == nil,
		Running: v.Postgres.Running, Up: v.Postgres.Up, Standby: v.Postgres.Recovery, Stalled: v.Postgres.Stalled,
		Addresses: n.addresses.held(), Cut: n.router.Stats().Cut,
	}
	for _, m := range v.Members {
		s.Members = append(s.Members, m.Name)
		p := v.Peers[m.Name]
		switch {
		case m.Name == v.Self:
		case p.Heard == 0:
			s.Silent[m.Name] = -1
		case v.Now-p.Heard > v.Settings.Detect:
			s.Silent[m.Name] = v.Now - p.Heard
		default:
			for _, name := range p.Beat.Suspects {
				s.Accused[name] = append(s.Accused[name], m.Name)
			}
		}
	}
	s.Speaker = speaks(v, s.Silent)
	if v.Doing != nil {
		s.Doing = v.Doing.String()
	}
	if v.Postgres.Failed != "" {
		s.Failed = v.Postgres.FailedAction + ": " + v.Postgres.Failed
	}
	return s
}

// speaks reports whether this member tells of what all see: it is the primary, or the first of those that are heard where the primary
// is not.
func speaks(v cluster.View, silent map[string]time.Duration) bool {
	heard := func(name string) bool { _, is := silent[name]; return !is }
	if v.State != nil && v.State.Primary != "" && heard(v.State.Primary) {
		return v.State.Primary == v.Self
	}
	for _, m := range v.Members { // sorted by name
		if heard(m.Name) {
			return m.Name == v.Self
		}
	}
	return true
}

// audit records what an operator asked for. It implements api.Config.Audit.
func (n *Node) audit(a api.Audited) {
	kind := map[string]string{"pause": events.Paused, "resume": events.Resumed, "change config": events.Changed, "replace config": events.Changed}[a.What]
	if kind == "" {
		kind = events.Operator
	}
	e := api.Event{Kind: kind, By: a.Operator, Remote: a.Remote, Facts: map[string]string{"asked": a.What, "took": a.Took.Round(time.Millisecond).String()}}
	if a.Body != "" {
		e.Facts["request"] = redact.Text(a.Body)
	}
	said := redact.Text(strings.Join(a.Steps, "; "))
	switch {
	case a.Err != nil:
		e.Kind, e.Severity, e.Text = events.Operator, api.Warning, fmt.Sprintf("%s by %s was not carried out, or not to its end: %s", a.What, a.Operator, redact.Text(a.Err.Error()))
	case said != "":
		e.Text = fmt.Sprintf("%s by %s: %s", a.What, a.Operator, said)
	default:
		e.Text = fmt.Sprintf("%s by %s", a.What, a.Operator)
	}
	if s := n.status.Load(); s != nil {
		e.Term = s.Term
	}
	n.keeper.Record(e)
}
