package cluster

import "time"

// Instant is a reading of one host's monotonic clock: time since an origin that only that host knows.
type Instant = time.Duration

// View is everything that one member sees at one moment. decide.Decide is a pure function of it.
type View struct {
	Now  Instant
	Wall int64 // milliseconds since 1970; only ever copied into records, never compared

	Self     string
	Members  []Member // of the agreed configuration, sorted by name
	Settings Settings

	Epoch Epoch // that this member takes part in; 0 too where it has never taken part in any

	// Superseded is a higher epoch than this member's own, seen in a beat or in the store; 0: none was. Then nothing of what this
	// member knows counts any more.
	Superseded Epoch

	// State is the newest agreed record seen, nil before the first. It may be old: only a compare-and-swap tells.
	State         *State
	StoreOK       bool              // a linearizable read or write succeeded within the last second
	Resumes       bool              // this agent was started while State.Halt was set: it is for it to take that back
	Reports       map[string]Report // of State.Term, by member
	ElectingSince Instant           // when this member first saw State.Term in phase electing; 0: not electing
	Request       *Request          // an operator's, for State.Term
	RequestSince  Instant           // when this member first saw it
	Asked         string            // the newest request that this member itself stands by; see Beat.Asked
	Promised      Term              // on this member's disk
	Postgres      Postgres
	Relay         Relay
	Admitted      Term            // the term for which this member, as primary, lets clients in; 0: closed
	Peers         map[string]Peer // by name, without Self
	Since         Instant         // when this agent started
	LastFlap      Instant         // when a living primary was last replaced; 0: never seen
	// LeaseFrom is when the last store check that succeeded and saw this term was SENT. It matters only where the rule is
	// k = 0: a primary that is alone responsible for its commits stops when it is older than Settings.Lease.
	LeaseFrom Instant
	// UnmetSince is since when, on a primary, fewer than Rule.K members of the rule stream; 0: they do.
	UnmetSince Instant
	// ShunnedSince is since when, besides, members enough are well, so that it is the odd one out; 0: it is not. One that has
	// been cloned for an hour needs a moment to attach.
	ShunnedSince Instant
	// DeafSince is since when the primary, another member, tells that it hears no majority; 0: it does, or is not heard itself.
	DeafSince Instant
	// Doing is the slow action under way (see Action's executors in package agent), nil if none.
	Doing Action
}

// DataState is what a member's data directory holds.
type DataState string

const (
	NoData      DataState = "none"    // absent or empty: may be initialised or cloned into
	DataReady   DataState = "ready"   // a complete cluster of ours
	DataPartial DataState = "partial" // a clone or rewind was begun and not finished: unreportable
	DataForeign DataState = "foreign" // another cluster's: never touched
)

// Postgres is what a member knows of its own server.
type Postgres struct {
	Data     DataState
	SystemID string
	Running  bool     // a postmaster or any process of it lives
	Up       bool     // it answers queries
	Recovery bool     // it is a standby
	InPlace  bool     // it runs as something else started it: a primary of before this cluster, taken over without a restart
	Stalled  string   // why it must be given up though it runs: it does not answer, its writes hang or fail; "" if well
	Position Position // standby: timeline of the last flushed WAL and max(received, replayed); primary: flushed
	Replayed LSN      // standby: end of the last record replayed
	Fork     LSN      // primary: where its timeline begins (from the history file); 0 on timeline 1
	History  History  // primary: ancestors of its timeline
	Names    Rule     // synchronous_standby_names in force, seen in a new session
	// NamesLSN is a position flushed here at or after the moment Names came into force for every backend and WAL sender:
	// whatever was acknowledged by an earlier rule lies before it. 0: not known, so nothing is proven by flushes yet.
	NamesLSN     LSN
	Standbys     []Standby
	TermRow      LSN    // primary: end of the term row of State.Term; 0: not written yet
	Failed       string // the newest slow action that failed in FailedTerm: why; "" if none
	FailedAction string // which: "start", "promote", "rewind", "clone" or "follow" (the primary no longer has the WAL that is needed)
	FailedTerm   Term   // the term in which it failed
	Rejoined     Term   // rewound or cloned onto this term's history, and not answered since: it attaches without a comparison
	Ready        bool   // standby: consistent, accepts read-only queries
}

// Standby is one row of pg_stat_replication on the primary, of a member of ours.
type Standby struct {
	Name      string
	Streaming bool
	Flushed   LSN
	Replayed  LSN
}

// Relay is the state of the local end that this member's WAL receiver connects to.
type Relay struct {
	Term Term // the term whose primary it carries to; 0: closed, it accepts and holds

	// Held: since it was closed (or the server started) a new WAL receiver has connected and waits. The receiver that was
	// there before is then gone, and the server has read all WAL it has: Postgres.Position is final.
	Held bool

	// Gone: the relay is closed, no WAL receiver process lives, and this server has streamed since it started, so that the
	// received position is exact though not all of it is replayed yet (a long query may hold up replay).
	Gone bool

	Heard Instant // last byte from the primary's PostgreSQL, or last answer to a probe of it

	// Silent is since when the open WAL stream has said nothing, though it does every 200 ms; 0: it does, or none is open.
	Silent Instant
}

// Peer is the newest beat of another member.
type Peer struct {
	Beat  Beat
	Heard Instant // when it arrived; 0: never
}

// Beat is what a member tells every other, ten times a second and at once on a change.
type Beat struct {
	From           string
	Incarnation    uint64   // of the sender's agent: its start time
	Epoch          Epoch    // that the sender takes part in
	Seq            uint64   // rises within an incarnation
	Term           Term     // the newest term it knows of
	Promised       Term     // on its disk
	Admitted       Term     // it lets clients in as primary of this term; 0: it does not
	Attached       Term     // its relay carries from the primary of this term; 0: closed
	Position       Position // as in Postgres
	Replayed       LSN
	Data           DataState
	Up             bool // its PostgreSQL answers
	Recovery       bool
	Readable       bool     // standby that may serve reads: attached, consistent, past the term row
	Suspects       []string // members it has not heard from for Settings.Detect, by beat or relay
	Hears          []string // members it has heard from within Settings.Detect
	NeedsOut       bool     // its data must be rewound or cloned: take it out of the rule
	Draining       bool     // an operator keeps it out of routing
	PendingRestart bool
	Holding        bool     // its router lets new writing connections wait because of a switchover
	Addresses      []string // floating addresses that are on its interfaces
	Sessions       int32    // client sessions in its router
	StallMS        uint32   // how late the sender itself was at worst in the last second
	// Asked is the ID of the newest request that the store has acknowledged to the sender. One whose outcome stayed unknown
	// never appears here, so that it is not carried out however late it is recorded.
	Asked string
	Wall  int64  // the sender's clock, milliseconds since 1970; to be shown and warned of, never decided upon
	Note  string // what it is busy with, a phrase; shown by status
}
