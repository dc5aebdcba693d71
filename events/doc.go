// Package events keeps what happened in a cluster: elections, changes of the commit rule, members that fell silent and came back,
// what was done to each PostgreSQL, what operators changed, what was unusual and for how long.
//
// Between and Warned find events by comparing what a member saw before with what it sees now; they are pure. What all members see
// alike is told by one of them, the speaker: the primary, or, when it isn't heard, the first by name of those that are. In a
// partition there may be two for a while, and then an event may be told twice, by different members.
//
// A Book holds the newest events of the whole cluster on each member, for whoever reads or follows them. A Keeper writes this
// member's own into the store, which is bounded, and takes the others' from there. While the store does not answer, a
// member's own events wait in its memory (and are told by its Book all the same).
package events

import (
	"fmt"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/store"
)

// The kinds of events.
const (
	Election = "election" // a term was begun: somebody is to be elected
	Primary  = "primary"  // a primary lets clients in; the event of a change of primary
	Rule     = "rule"     // the commit rule changed
	Silent   = "silent"   // a member is not heard any more
	Heard    = "heard"    // it is heard again
	Joined   = "joined"   // a member was added
	Left     = "left"     // a member was removed
	Address  = "address"  // a floating address came or went
	Sessions = "sessions" // a router cut sessions
	Postgres = "postgres" // PostgreSQL began to answer, ended, or hangs
	Work     = "work"     // a clone, rewind, restart or promotion began, ended or failed
	Begun    = "warning"  // something unusual began
	Ended    = "cleared"  // it ended
	Agent    = "agent"    // standfast itself started
	Paused   = "paused"   // automatic failover was paused
	Resumed  = "resumed"  // it goes on
	Changed  = "config"   // the agreed configuration was changed
	Operator = "operator" // something else was asked for by an operator
	Refused  = "refused"  // an operator's wish was not carried out
)

// Kinds lists them.
var Kinds = []string{Election, Primary, Rule, Silent, Heard, Joined, Left, Address, Sessions, Postgres, Work, Begun, Ended, Agent, Paused, Resumed, Changed, Operator, Refused}

// ofNote is the event that a note tells.
func ofNote(name string, n store.Note) api.Event {
	e := api.Event{
		ID: n.ID(), At: time.UnixMilli(n.At), Cluster: name, Member: n.Member, Kind: n.Kind, Severity: api.Severity(n.Severity),
		Text: n.Text, Term: n.Term, About: n.About, By: n.By, Remote: n.Remote, Facts: n.Facts,
	}
	if e.Severity == "" {
		e.Severity = api.Info
		if n.Kind == Refused {
			e.Severity = api.Warning
		}
	}
	return e
}

// ofEntry is the event of a change of primary.
func ofEntry(name string, h store.Entry) api.Event {
	e := api.Event{
		ID: fmt.Sprintf("term-%d", h.Term), At: time.UnixMilli(h.At), Cluster: name, Member: h.Primary, Kind: Primary, Severity: api.Info,
		Term: h.Term, About: h.Primary, Steps: h.Steps, OutageMS: h.OutageMS, Facts: map[string]string{},
		Text: fmt.Sprintf("%s is the primary of term %d: %s", h.Primary, h.Term, h.Reason),
	}
	if h.Kind == "failover" || h.Kind == "forced" {
		e.Severity = api.Warning
	}
	if h.Lost != "" {
		e.Severity = api.Critical
		e.Text += "; " + h.Lost
	}
	for key, value := range map[string]string{
		"kind": h.Kind, "was": h.Old, "begun by": h.By, "set aside": h.Discarded, "lost": h.Lost,
		"timeline": fmt.Sprint(h.Timeline), "fork": fork(h.Fork),
	} {
		if value != "" {
			e.Facts[key] = value
		}
	}
	return e
}

func fork(l cluster.LSN) string {
	if l == 0 {
		return ""
	}
	return l.String()
}

// noteOf is the note that keeps an event.
func noteOf(e api.Event) store.Note {
	return store.Note{
		At: e.At.UnixMilli(), Member: e.Member, Kind: e.Kind, Severity: string(e.Severity), Text: e.Text, Term: e.Term,
		About: e.About, By: e.By, Remote: e.Remote, Facts: e.Facts,
	}
}
