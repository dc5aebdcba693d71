package api

import (
	"time"

	"standfast/cluster"
	"standfast/measure"
)

// Schema is the version of Status as JSON. Keys are only ever added under the same number.
const Schema = 1

// Role is what a member is in the newest term.
type Role string

const (
	Primary Role = "primary" // the one that this term named
	Standby Role = "standby" // holds data and follows, or would if it could
	Witness Role = "witness" // holds no data
)

// State is what a member's PostgreSQL, or the member itself, is doing.
type State string

const (
	Running      State = "running"      // PostgreSQL answers
	Starting     State = "starting"     // it was started and does not answer yet
	Stopping     State = "stopping"     // it was told to stop
	Stopped      State = "stopped"      // it is not running
	Restarting   State = "restarting"   // for parameters that need it, or on request
	Initialising State = "initialising" // the first data of a new cluster is being made
	Cloning      State = "cloning"      // its data is being copied from the primary
	Rewinding    State = "rewinding"    // its data is being brought back onto the primary's history
	Failed       State = "failed"       // the last attempt failed; Note says why
	Stalled      State = "stalled"      // PostgreSQL runs but does not answer, or its writes hang
	Unreachable  State = "unreachable"  // nothing was heard from the member for the detection time
	Watching     State = "watching"     // a witness at work
)

// Status is the whole truth about a cluster as one member sees it at one moment. It is immutable once published: the
// agent builds a new one and swaps the pointer. Its JSON is the answer to /status and a stable format (Schema).
type Status struct {
	Schema   int       `json:"schema"`
	Version  string    `json:"version"`             // of standfast on this member
	Cluster  string    `json:"cluster"`             // its name
	SystemID string    `json:"system_id,omitempty"` // PostgreSQL's system identifier
	Self     string    `json:"self"`                // the member that answers
	Observed time.Time `json:"observed"`            // when it saw all this; keep the monotonic reading, staleness is measured by it

	Epoch    cluster.Epoch    `json:"epoch,omitempty"` // above 0: founded anew after the loss of a majority
	Term     cluster.Term     `json:"term"`
	Phase    cluster.Phase    `json:"phase"`
	Primary  string           `json:"primary,omitempty"` // named by this term; "" while electing
	Since    time.Time        `json:"since,omitzero"`    // when this term began
	Reason   string           `json:"reason,omitempty"`  // why it began, a sentence
	By       string           `json:"by,omitempty"`      // the member that began it
	Timeline cluster.Timeline `json:"timeline"`          // of this term
	Commit   Commit           `json:"commit"`            // what an acknowledged commit is worth

	Paused      bool             `json:"paused"`                // no failover unless an operator asks
	PausedUntil time.Time        `json:"paused_until,omitzero"` // when the pause ends by itself; zero: not by itself
	Request     *cluster.Request `json:"request,omitempty"`     // an operator's, not carried out yet

	Store    Store     `json:"store"`
	Members  []Member  `json:"members"`            // sorted by name
	Postgres Postgres  `json:"postgres"`           // this member's own PostgreSQL in detail
	Router   Router    `json:"router"`             // this member's own router
	Watchdog string    `json:"watchdog,omitempty"` // device that resets this member's host when even its guard hangs; "": none
	Address  []Address `json:"address,omitempty"`

	ReplicationClients []ReplicationClient `json:"replication_clients,omitempty"` // as they stand on the primary, some seconds ago at most

	Told []Told `json:"told,omitempty"` // whom this member tells of events outside the cluster

	Measured measure.All       `json:"-"` // what the member has measured, for /metrics; each part says when
	Agent    Agent             `json:"-"` // likewise
	Changes  map[string]uint64 `json:"-"` // changes of primary seen since this member's agent started, by Entry.Kind

	Warnings []string `json:"warnings"` // plain sentences: what is wrong and what to do

	History []Entry `json:"-"` // oldest first; answered by /history alone, for it may be long
}

// Member returns the member of that name, or nil.
func (s *Status) Member(name string) *Member {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	return nil
}

// Me returns the member that made this Status, or nil when it has been removed from the configuration.
func (s *Status) Me() *Member { return s.Member(s.Self) }

// Store is the health of the agreed store (etcd) as this member sees it. A store that is away stops no primary that a
// majority's beats confirm; it stops elections and changes.
type Store struct {
	OK       bool      `json:"ok"`                 // a linearizable read or write succeeded within the last second
	Kind     string    `json:"kind,omitempty"`     // "embedded" or "external"
	Leader   string    `json:"leader,omitempty"`   // the member whose etcd leads
	LastSeen time.Time `json:"last_seen,omitzero"` // the last success
	Error    string    `json:"error,omitempty"`    // the last failure, while not OK
	Size     int64     `json:"size,omitempty"`     // bytes of its database on disk
	Learners []string  `json:"learners,omitempty"` // members not voting yet
}

// Member is one member as seen from Self: what the configuration says, and what it last told of itself.
type Member struct {
	cluster.Member

	Role     Role             `json:"role"`
	State    State            `json:"state"`
	Timeline cluster.Timeline `json:"timeline,omitempty"`
	LSN      cluster.LSN      `json:"lsn,omitempty"`          // primary: flushed; standby: received or replayed, the greater
	Replayed cluster.LSN      `json:"replayed_lsn,omitempty"` // standby: end of the last record replayed

	// Lag is behind the primary's flushed position, in bytes: until replayed, and until received. LagSeconds is how long
	// ago the last transaction replayed was committed, 0 when everything received is replayed. nil: not known.
	Lag        *int64   `json:"lag_bytes,omitempty"`
	ReceiveLag *int64   `json:"receive_lag_bytes,omitempty"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"`

	Writable       bool   `json:"writable"`        // open to clients as primary of Status.Term
	Attached       bool   `json:"attached"`        // its relay carries the stream of Status.Term's primary
	Readable       bool   `json:"readable"`        // standby: attached, consistent and past the term's row
	InRule         bool   `json:"in_rule"`         // it counts in the commit rule
	Draining       bool   `json:"draining"`        // an operator keeps it out of routing
	PendingRestart bool   `json:"pending_restart"` // parameters changed that need a restart
	Sessions       int    `json:"sessions"`        // clients in its router
	Note           string `json:"note,omitempty"`  // what it is busy with, a phrase

	// How well its beats come here; nil, as for Self: not known. ClockMS is how far its clock is ahead of this member's, by more than
	// the way from there took.
	RoundTripMS *float64 `json:"round_trip_ms,omitempty"`
	ClockMS     *int64   `json:"clock_ms,omitempty"`
	BeatsHeard  uint64   `json:"beats_heard,omitempty"`
	BeatsLost   uint64   `json:"beats_lost,omitempty"` // sent and never heard

	HeardMS *int64 `json:"last_heard_ms,omitempty"` // milliseconds before Observed; nil: never heard, or Self
	StallMS int64  `json:"stall_ms,omitempty"`      // how late it was itself, at worst, in the last second
}

// Agent is what the member's agent has done since it started.
type Agent struct {
	Turns, Acted uint64        // turns of its loop; those that decided something
	Busy         time.Duration // spent in them
}

// Postgres is what a member knows of its own PostgreSQL beyond Member. Zero values: not known.
type Postgres struct {
	Version        int       `json:"version,omitempty"` // server_version_num, 150004
	Started        time.Time `json:"started,omitzero"`  // the postmaster
	ReplayedAt     time.Time `json:"replayed_at,omitzero"`
	ReplayPaused   bool      `json:"replay_paused,omitempty"`
	Senders        []Sender  `json:"senders,omitempty"`
	Connections    int       `json:"connections,omitempty"`
	MaxConnections int       `json:"max_connections,omitempty"`
	DiskSize       int64     `json:"disk_size_bytes,omitempty"`    // of the data directory's file system
	DiskFree       int64     `json:"disk_free_bytes,omitempty"`    // what PostgreSQL may still write there
	WALRetained    int64     `json:"wal_retained_bytes,omitempty"` // kept for slots
}

// Sender is one row of pg_stat_replication ("Monitoring Database Activity").
type Sender struct {
	User         string `json:"usename"`
	Application  string `json:"application_name"`
	Client       string `json:"client_addr"`
	State        string `json:"state"`
	SyncState    string `json:"sync_state"`
	SyncPriority int    `json:"sync_priority"`
}

// ReplicationClient is somebody who receives WAL and is no member, by its slot on the primary.
type ReplicationClient struct {
	Name      string      `json:"name"`
	Receiving bool        `json:"receiving"`          // it is connected now
	From      cluster.LSN `json:"from_lsn,omitempty"` // WAL is kept for it from here on
	Held      int64       `json:"held_bytes"`         // so much of it
	WALStatus string      `json:"wal_status"`         // PostgreSQL's: reserved, extended, unreserved, lost
}

// Router is what this member's router does now and has done since it started.
type Router struct {
	Write    Side      `json:"write"`
	Read     Side      `json:"read"`
	Backends []Backend `json:"backends,omitempty"`

	Cancels         uint64 `json:"cancels"`          // CancelRequests of clients
	CancelsWithheld uint64 `json:"cancels_withheld"` // kept from this member's PostgreSQL: they would have given up a commit's wait; other routers' too
	CancelsLost     uint64 `json:"cancels_lost"`     // not delivered: nobody on the server's host could be asked
}

// Side is one listening side of the router.
type Side struct {
	Listen   string `json:"listen,omitempty"` // host:port
	Target   string `json:"target,omitempty"` // the member it sends to now; reading: the next one
	Hold     bool   `json:"hold"`             // new connections wait: a primary is being chosen
	Why      string `json:"why,omitempty"`    // with no target and not holding: what clients are told
	Sessions int    `json:"sessions"`
	Waiting  int    `json:"waiting"`

	Accepted uint64 `json:"accepted"`       // connections taken
	Refused  uint64 `json:"refused"`        // answered with an error instead of a server
	Cut      uint64 `json:"cut"`            // sessions ended because their server lost its role
	Received uint64 `json:"received_bytes"` // from clients
	Sent     uint64 `json:"sent_bytes"`     // to clients
}

// Backend is one server as the router uses it on one side ("write" or "read").
type Backend struct {
	Member   string `json:"member"`
	Side     string `json:"side"`
	Sessions int    `json:"sessions"`
	Limit    int    `json:"limit,omitempty"` // most sessions at once; 0: no limit
	Draining bool   `json:"draining"`
}

// Address is one floating address and who holds it.
type Address struct {
	Address   string    `json:"address"`
	Interface string    `json:"interface,omitempty"`   // of this member, where it is or was last
	Follows   string    `json:"follows,omitempty"`     // "primary" or "standby"
	Holder    string    `json:"holder,omitempty"`      // "": nobody
	Since     time.Time `json:"since,omitzero"`        // this member holds it since
	Announced time.Time `json:"announced_at,omitzero"` // this member told its neighbours last
	Error     string    `json:"error,omitempty"`       // why this member does not hold it as it should
}

// Told is one whom a member tells of events outside the cluster, since the member's agent started or the address changed.
type Told struct {
	To      string    `json:"to"`    // webhook, chat, command or syslog
	Where   string    `json:"where"` // without what may be secret in an address
	Sent    uint64    `json:"sent"`
	Waiting int       `json:"waiting"`          // events that are to be told
	GivenUp uint64    `json:"given_up"`         // not told: refused, or after an hour or 200 newer ones
	Failing time.Time `json:"failing,omitzero"` // every attempt since then has failed
	Error   string    `json:"error,omitempty"`  // the last one's
}

// Entry is one term in the history, field by field what the store keeps, so that one converts into the other.
type Entry struct {
	Term      cluster.Term     `json:"term"`
	Timeline  cluster.Timeline `json:"timeline"`
	Primary   string           `json:"primary"`             // of this term
	Old       string           `json:"old,omitempty"`       // of the term before; "" if there was none
	Reason    string           `json:"reason"`              // a sentence
	By        string           `json:"by"`                  // the member that began the term
	Kind      string           `json:"kind,omitempty"`      // bootstrap, failover, switchover, restart, forced
	Fork      cluster.LSN      `json:"fork,omitempty"`      // where Timeline begins
	Steps     []cluster.Step   `json:"steps,omitempty"`     // in their order
	OutageMS  int64            `json:"outage_ms,omitempty"` // from the first step to clients being admitted, milliseconds
	Discarded string           `json:"discarded,omitempty"` // WAL of the old primary that was set aside, a sentence
	Lost      string           `json:"lost,omitempty"`      // acknowledged commits that may be lost, a sentence; "": none can be
	At        int64            `json:"at"`                  // wall clock, milliseconds since 1970
}

// Source is where the truth comes from: the agent.
type Source interface {
	// Snapshot returns the newest Status, nil before the first. It must not block, and must replace the Status at least
	// three times within Config.Stale even when nothing changed: that is how a stuck agent is told from a quiet cluster.
	Snapshot() *Status
}
