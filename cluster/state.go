package cluster

import "slices"

// Phase is where a term stands.
type Phase string

const (
	Electing Phase = "electing" // raised by CAS 1; the rule is frozen; members detach and report
	Elected  Phase = "elected"  // CAS 2 named the winner; it promotes
	Reigning Phase = "reigning" // CAS 3 published the fork; members attach, the rule may change again
)

// Epoch says which founding of the cluster a record, a beat or a promise belongs to: 0 is the first. After the loss of a majority
// for good an operator founds the cluster anew from one survivor (standfast recover), in a higher epoch: the moment of it,
// milliseconds since 1970. Terms are compared within one epoch only, and a lower epoch is over: whoever belongs to it and learns
// of a higher one serves nobody, votes for nobody and starts nothing.
type Epoch uint64

// State is the one record that must be agreed: who reigns, by which rule, on which timeline. It is kept under a
// single key, so that every write of it compares all of it (Revision). Everything else in the store is advice.
type State struct {
	Cluster  string   `json:"cluster"`
	Epoch    Epoch    `json:"epoch,omitempty"`     // see Epoch; the store keeps each epoch's record under a key of its own
	SystemID string   `json:"system_id,omitempty"` // PostgreSQL's system identifier; data with another one is foreign
	Term     Term     `json:"term"`
	Phase    Phase    `json:"phase"`
	Primary  string   `json:"primary,omitempty"` // of this term; "" while electing
	Timeline Timeline `json:"timeline"`          // reserved for this term by CAS 1, never used before
	Fork     LSN      `json:"fork,omitempty"`    // where Timeline begins; 0 until published
	History  History  `json:"history,omitempty"` // ancestors of Timeline; set with Fork

	// Rule accounts for every commit that the newest written primary may have acknowledged. While electing it is the
	// deposed primary's, frozen.
	Rule Rule `json:"rule"`

	// Last is the newest member that was named a winner. Its own durable WAL is a sufficient set by itself.
	Last string `json:"last,omitempty"`

	// Solo lets commits do without a copy until enough members stream for the first time: the cluster was founded anew from one
	// survivor, or made of a primary that ran, and there is nobody yet who could hold a copy.
	Solo bool `json:"solo,omitempty"`

	// Halt: the cluster was shut down by an operator, in order. Nobody is elected and no server runs until a member that was started
	// afterwards takes it back.
	Halt bool `json:"halt,omitempty"`

	Reason string `json:"reason"`            // why this term began, a sentence
	By     string `json:"by"`                // the member that began it
	Prefer string `json:"prefer,omitempty"`  // wins ties in this election (a switchover's target)
	Force  bool   `json:"force,omitempty"`   // an operator accepted that acknowledged commits may be lost
	Avoid  string `json:"avoid,omitempty"`   // loses ties: promotion failed there, or it asked to be relieved
	Lost   string `json:"lost,omitempty"`    // acknowledged commits that the election of LostIn may have lost, a sentence
	LostIn Term   `json:"lost_in,omitempty"` // the newest such term. It is kept: that term's winner may die before it tells
	Steps  []Step `json:"steps,omitempty"`   // what happened when, for the history

	Revision int64 `json:"-"` // the store's revision of this record; 0: it does not exist yet
}

// Step is one dated step of a term.
type Step struct {
	Name string `json:"name"`
	By   string `json:"by"`
	At   int64  `json:"at"` // the member's wall clock, milliseconds since 1970
}

// Next returns a copy with the step added, to be written over the receiver's revision.
func (s State) Next(name, by string, at int64) State {
	s.Steps = append(slices.Clone(s.Steps), Step{name, by, at})
	s.Rule.Of = slices.Clone(s.Rule.Of)
	return s
}

// Report is one member's sworn end of WAL in an election: it no longer receives from any earlier term's primary,
// and never will again, because its promise of Term is on disk.
type Report struct {
	Term     Term     `json:"term"`
	Member   string   `json:"member"`
	Position Position `json:"position"`
	Priority int      `json:"priority"`
	At       int64    `json:"at"` // wall clock, milliseconds since 1970
}

// RequestKind is what an operator asks the cluster for.
type RequestKind string

const (
	Switchover RequestKind = "switchover" // hand over in order, nothing lost
	Failover   RequestKind = "failover"   // begin an election now, though the primary may live
	Forced     RequestKind = "forced"     // elect from a majority's reports, accepting loss
)

// Request is an operator's wish. It counts only while State.Term equals Term: a term it brought about, or any other,
// ends it. And it counts only while From stands by it (Beat.Asked): the store can record a request minutes after its
// operator was told that it could not be recorded.
type Request struct {
	ID   string      `json:"id"`
	Kind RequestKind `json:"kind"`
	Term Term        `json:"term"`
	To   string      `json:"to,omitempty"` // "": the best
	By   string      `json:"by"`
	From string      `json:"from"` // the member that recorded it for the operator
	At   int64       `json:"at"`

	// Begun is set by the primary once a switchover's target has caught up: from now on new connections wait, and the
	// floating address is the target's, so that those that wait do so where they will be served.
	Begun bool `json:"begun,omitempty"`

	// Halt, of a switchover of the primary to itself: the election that follows waits until the cluster is started again.
	Halt bool `json:"halt,omitempty"`

	// Revision is the store's revision at which it was written; 0: not from the store.
	Revision int64 `json:"-"`
}
