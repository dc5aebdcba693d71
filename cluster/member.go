package cluster

import "time"

// Kind says what a member holds.
type Kind string

const (
	Data    Kind = "data"    // runs PostgreSQL, may become primary unless its priority is 0
	Witness Kind = "witness" // votes on suspicion and in etcd, holds no data
)

// Member is one host of the cluster as the agreed configuration names it.
type Member struct {
	Name     string `json:"name"`               // also the slot's, the certificate's and the application_name
	Kind     Kind   `json:"kind"`               //
	Priority int    `json:"priority"`           // breaks ties between equal positions, higher first; 0: never primary
	Location string `json:"location,omitempty"` // free text, shown

	Postgres string `json:"postgres,omitempty"` // host:port of its PostgreSQL
	Write    string `json:"write,omitempty"`    // host:port of its router's writing side
	Read     string `json:"read,omitempty"`     // host:port of its router's reading side
	API      string `json:"api,omitempty"`      // host:port of health and metrics
	Admin    string `json:"admin,omitempty"`    // host:port of the page and of changes, with TLS
	Beat     string `json:"beat"`               // host:port its heartbeats are sent to and from
	EtcdPeer string `json:"etcd_peer,omitempty"`
	Etcd     string `json:"etcd,omitempty"` // host:port of its etcd's client side

	// Leaving: it is being removed. It is no candidate any more, so that the commit rule comes to do without it; until then it
	// reports and votes as ever, for what it holds may be needed.
	Leaving bool `json:"leaving,omitempty"`
}

// Electable reports whether the member may ever be chosen as primary, and so may count in the rule.
func (m Member) Electable() bool { return m.Kind == Data && m.Priority > 0 && !m.Leaving }

// Durability is the promise made for an acknowledged commit.
type Durability string

const (
	Quorum Durability = "quorum" // it survives the loss of any k hosts
	Async  Durability = "async"  // it may be lost with its primary; the loss is bounded by the lag and told
)

// Settings are the agreed numbers that decisions depend on. The zero value is not usable: config fills it.
type Settings struct {
	Durability      Durability    `json:"durability"`
	Copies          int           `json:"copies"`            // k: copies beside the primary's that a commit waits for
	AllowSingleCopy bool          `json:"allow_single_copy"` // let the rule fall to k = 0 rather than wait
	Detect          time.Duration `json:"detect"`            // silence after which a member is suspected
	Lease           time.Duration `json:"lease"`             // without a majority's beats for this long: cut sessions
	AgentGrace      time.Duration `json:"agent_grace"`       // PostgreSQL heard, its agent not: time to restart it
	GuardDelay      time.Duration `json:"guard_delay"`       // the guard acts at most this long after the lease
	AntiFlap        time.Duration `json:"anti_flap"`         // least time between two replacements of a living primary
	Paused          bool          `json:"paused"`            // no failover unless an operator asks
}
