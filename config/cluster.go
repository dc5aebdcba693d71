package config

import (
	"bytes"
	"fmt"
	"time"

	"standfast/cluster"

	"github.com/goccy/go-yaml"
)

// Cluster is the agreed configuration: the same for all members, kept in the store, changed at run time.
type Cluster struct {
	Durability      cluster.Durability `yaml:"durability"`
	Copies          int                `yaml:"copies"`            // copies beside the primary's that a commit waits for
	AllowSingleCopy bool               `yaml:"allow_single_copy"` // commit on the primary alone rather than wait for a copy

	Detection   Detection  `yaml:"detection"`
	Lease       Duration   `yaml:"lease"`
	AgentGrace  Duration   `yaml:"agent_grace"`
	GuardDelay  Duration   `yaml:"guard_delay"`
	AntiFlap    Duration   `yaml:"anti_flap"`
	PausedUntil *time.Time `yaml:"paused_until,omitempty"` // no failover by itself until then

	Drained []string `yaml:"drained,omitempty"` // standbys that new sessions for reading keep away from

	Contacts []string `yaml:"contacts,omitempty"` // who is to be called, for the runbook: a name and a number each

	Notify     Notify     `yaml:"notify"`
	Router     Router     `yaml:"router"`
	PostgreSQL PostgreSQL `yaml:"postgresql"`
}

// Router bounds what the routers accept.
type Router struct {
	Wait            Duration `yaml:"wait"`               // how long a new connection waits for a primary; 0: not at all
	ReadMaxLagBytes Size     `yaml:"read_max_lag_bytes"` // a standby further behind gets no new reads; 0: no bound
	MaxSessions     int      `yaml:"max_sessions"`       // from one router to one server; 0: PostgreSQL's max_connections decides
	MaxWaiting      int      `yaml:"max_waiting"`        // clients of one port that may wait while MaxSessions are in use; more are refused
	LogSessions     bool     `yaml:"log_sessions"`       // a line for each session that has ended, 50 a second at most
	FastPath        bool     `yaml:"fast_path"`          // the kernel takes connections to a floating address straight to PostgreSQL
}

// PostgreSQL is what the site adds to the servers' own configuration.
type PostgreSQL struct {
	Parameters map[string]Text `yaml:"parameters"` // as in postgresql.conf
	HBA        []string        `yaml:"hba"`        // lines of pg_hba.conf, kept verbatim between ours
	Ident      []string        `yaml:"ident"`      // lines of pg_ident.conf
	Slots      []Slot          `yaml:"slots"`      // logical replication slots that follow a failover

	ReplicationClients []ReplicationClient `yaml:"replication_clients"` // who receives WAL and is no member
}

// Slot is a logical replication slot that is made on the primary and is there on whoever is primary next.
type Slot struct {
	Name     string `yaml:"name"`
	Database string `yaml:"database"`
	Plugin   string `yaml:"plugin"` // the output plugin, such as pgoutput
}

// ReplicationClient is a program or server that receives WAL and is no member: Barman, pg_receivewal, a standby of another site.
// It has a physical replication slot that is kept on every data member, and never counts in the commit rule.
type ReplicationClient struct {
	Name string `yaml:"name"`           // of its slot
	Role string `yaml:"role,omitempty"` // that it logs in as, made if there is none; "": Name
}

// LoginRole is the role that the client logs in as.
func (c ReplicationClient) LoginRole() string {
	if c.Role == "" {
		return c.Name
	}
	return c.Role
}

// DefaultCluster is the configuration of a cluster whose file says nothing.
func DefaultCluster() Cluster {
	return Cluster{
		Durability: cluster.Quorum,
		Copies:     1,
		Detection:  "balanced",
		Lease:      Duration(3 * time.Second),
		AgentGrace: Duration(3 * time.Second),
		GuardDelay: Duration(time.Second),
		AntiFlap:   Duration(time.Minute),
		Notify:     Notify{AtLeast: "warning", Timeout: Duration(10 * time.Second)},
		Router: Router{
			Wait:            Duration(10 * time.Second),
			ReadMaxLagBytes: 64 << 20,
			MaxWaiting:      1000,
		},
	}
}

// ParseCluster reads the agreed configuration and validates it. The name stands before each error, as a file's would.
func ParseCluster(name string, text []byte) (Cluster, error) {
	c := DefaultCluster()
	if err := decode(name, text, &c); err != nil {
		return Cluster{}, err
	}
	c.fit(text, "")
	if err := c.Validate(); err != nil {
		return Cluster{}, placed(name, text, nil, err)
	}
	return c, nil
}

// fit adapts a default that the document left alone to what it says elsewhere: a lease shorter than the detection would cut
// sessions before anyone suspects anything.
func (c *Cluster) fit(text []byte, under string) {
	detect, err := c.Detection.Time()
	if err == nil && !present(text, under+"lease") {
		c.Lease = max(c.Lease, Duration(detect)+Duration(time.Second))
	}
}

// Render writes the document as YAML, every key in a fixed order, with a line of explanation where one helps. ParseCluster
// gives back the same Cluster.
func (c Cluster) Render() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b, yaml.Indent(2), yaml.IndentSequence(true), yaml.WithComment(clusterComments()))
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("render the cluster's configuration: %w", err)
	}
	return b.Bytes(), nil
}

func clusterComments() yaml.CommentMap {
	m := yaml.CommentMap{}
	for _, c := range []struct{ key, text string }{
		{"durability", "quorum: an acknowledged commit survives the loss of any `copies` hosts; async: it may be lost"},
		{"allow_single_copy", "true: with no copy left, commit on the primary alone instead of waiting"},
		{"detection", "silence before a failover: fast 0.7s, balanced 2s, vm 5s, or a time of your own"},
		{"lease", "a host that hears no majority for this long cuts its sessions"},
		{"anti_flap", "least time between two replacements of a primary that still lives"},
		{"notify", "who is told of events: webhook gets JSON, chat (Mattermost, Slack) a line for people, command both; see docs/EVENTS.md"},
		{"router", "applies to connections that come after a change; wait 0: refuse at once while there is no primary"},
		{"postgresql", "added to what Standfast sets itself; a value that PostgreSQL refuses is rejected when it is set"},
	} {
		m["$."+c.key] = []*yaml.Comment{yaml.HeadComment(" " + c.text)}
	}
	return m
}

// Settings are the numbers that decisions depend on, with Paused as of this moment.
func (c Cluster) Settings() cluster.Settings { return c.SettingsAt(time.Now()) }

// SettingsAt is Settings with the time given. It expects a document that Validate accepted.
func (c Cluster) SettingsAt(now time.Time) cluster.Settings {
	detect, _ := c.Detection.Time() // Validate has refused what has none
	return cluster.Settings{
		Durability:      c.Durability,
		Copies:          c.Copies,
		AllowSingleCopy: c.AllowSingleCopy,
		Detect:          detect,
		Lease:           time.Duration(c.Lease),
		AgentGrace:      time.Duration(c.AgentGrace),
		GuardDelay:      time.Duration(c.GuardDelay),
		AntiFlap:        time.Duration(c.AntiFlap),
		Paused:          c.Paused(now),
	}
}

// Paused reports whether failover is paused at that time.
func (c Cluster) Paused(now time.Time) bool {
	return c.PausedUntil != nil && now.Before(*c.PausedUntil)
}

// UntilResumed is the PausedUntil of a pause without an end.
var UntilResumed = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// Detection is how long a member may be silent before it is suspected: a profile's name or a time of the site's own.
type Detection string

// Profiles are the named detection times, from the quickest.
var Profiles = []struct {
	Name Detection
	Time time.Duration
}{{"fast", 700 * time.Millisecond}, {"balanced", 2 * time.Second}, {"vm", 5 * time.Second}}

// Time returns the detection time. The error says what may be written.
func (d Detection) Time() (time.Duration, error) {
	for _, p := range Profiles {
		if p.Name == d {
			return p.Time, nil
		}
	}
	v, err := ParseDuration(string(d))
	if err != nil {
		return 0, fmt.Errorf("%q is neither fast, balanced nor vm, nor a time such as 1500ms", string(d))
	}
	return time.Duration(v), nil
}
