package api

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
)

// patroniVersion is the version of Patroni whose documents these are: tools choose their parser by it.
const patroniVersion = "4.0.0"

// patroniNode is Patroni's document about one node, the body of its health checks and of /patroni.
type patroniNode struct {
	State          string             `json:"state"`
	Started        string             `json:"postmaster_start_time,omitempty"`
	Role           string             `json:"role"`
	Version        int                `json:"server_version,omitempty"`
	Xlog           *patroniXlog       `json:"xlog,omitempty"`
	Sync           bool               `json:"sync_standby,omitempty"`
	Quorum         bool               `json:"quorum_standby,omitempty"`
	Timeline       cluster.Timeline   `json:"timeline,omitempty"`
	Streaming      string             `json:"replication_state,omitempty"`
	Replication    []Sender           `json:"replication,omitempty"`
	Pause          bool               `json:"pause,omitempty"`
	Unlocked       bool               `json:"cluster_unlocked,omitempty"`
	Failsafe       bool               `json:"failsafe_mode_is_active,omitempty"`
	LastSeen       int64              `json:"dcs_last_seen"`
	Tags           map[string]any     `json:"tags,omitempty"`
	SystemID       string             `json:"database_system_identifier,omitempty"`
	PendingRestart bool               `json:"pending_restart,omitempty"`
	Patroni        patroniDescription `json:"patroni"`
}

type patroniDescription struct {
	Version string `json:"version"`
	Scope   string `json:"scope"`
	Name    string `json:"name"`
}

// patroniXlog is {"location"} on a primary and the other four on a standby.
type patroniXlog struct {
	Location   *uint64 `json:"location,omitempty"`
	Received   *uint64 `json:"received_location,omitempty"`
	Replayed   *uint64 `json:"replayed_location,omitempty"`
	ReplayedAt *string `json:"replayed_timestamp,omitempty"`
	Paused     *bool   `json:"paused,omitempty"`
}

// patroniStates gives Patroni's word and its number in patroni_postgres_state ("PostgreSQL State Values").
var patroniStates = map[State]struct {
	word   string
	number int
}{
	Initialising: {"initializing new cluster", 0},
	Cloning:      {"creating replica", 4},
	Running:      {"running", 5},
	Starting:     {"starting", 6},
	Failed:       {"start failed", 8},
	Restarting:   {"restarting", 9},
	Stopping:     {"stopping", 11},
	Stopped:      {"stopped", 12},
	Rewinding:    {"stopped", 12},
}

func patroniState(s State) (word string, number int) {
	if p, ok := patroniStates[s]; ok {
		return p.word, p.number
	}
	return "unknown", -1
}

// patroniRole is the role in a node's document. Patroni knows no witness: it is a replica that never runs.
func patroniRole(m *Member) string {
	if m.Role == Primary {
		return "primary"
	}
	return "replica"
}

// pythonTime is how Patroni's documents write a time.
func pythonTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000+00:00") }

func patroniDocument(st *Status) patroniNode {
	systemID, _, _ := strings.Cut(st.SystemID, "/") // Patroni's readers expect a number
	n := patroniNode{
		State:    "unknown",
		Role:     "replica",
		Timeline: st.Timeline,
		Pause:    st.Paused,
		Unlocked: st.Primary == "",
		SystemID: systemID,
		Patroni:  patroniDescription{patroniVersion, st.Cluster, st.Self},
	}
	if !st.Store.LastSeen.IsZero() {
		n.LastSeen = st.Store.LastSeen.Unix()
	}
	me := st.Me()
	if me == nil {
		return n
	}
	n.State, _ = patroniState(me.State)
	n.Role = patroniRole(me)
	n.Failsafe = !st.Store.OK && me.Writable
	n.Tags = tags(me)
	n.PendingRestart = me.PendingRestart
	if me.State != Running {
		return n
	}
	n.Version, n.Replication = st.Postgres.Version, st.Postgres.Senders
	if !st.Postgres.Started.IsZero() {
		n.Started = pythonTime(st.Postgres.Started)
	}
	if me.Timeline != 0 {
		n.Timeline = me.Timeline
	}
	n.Streaming, n.Xlog = replicationState(me), xlog(st, me)
	n.Sync, n.Quorum = patroniSync(st, me)
	return n
}

func xlog(st *Status, me *Member) *patroniXlog {
	lsn, replayed := uint64(me.LSN), uint64(me.Replayed)
	if me.Role == Primary {
		return &patroniXlog{Location: &lsn}
	}
	x := &patroniXlog{Received: &lsn, Replayed: &replayed, Paused: &st.Postgres.ReplayPaused}
	if at := st.Postgres.ReplayedAt; !at.IsZero() {
		x.ReplayedAt = new(pythonTime(at))
	}
	return x
}

// patroniSync says which of its two kinds of standby Patroni would call the member: one or none.
func patroniSync(st *Status, m *Member) (sync, quorum bool) {
	r := st.Commit.Rule
	in := m.Role == Standby && r.K >= 1 && r.Has(m.Name)
	return in && allSync(r), in && !allSync(r)
}

// patroniCluster is Patroni's document about the cluster.
type patroniCluster struct {
	Members []patroniMember `json:"members"`
	Pause   bool            `json:"pause,omitempty"`
	Scope   string          `json:"scope"`
}

type patroniMember struct {
	Name           string           `json:"name"`
	Role           string           `json:"role"`
	State          string           `json:"state"`
	URL            string           `json:"api_url"`
	Host           string           `json:"host,omitempty"`
	Port           int              `json:"port,omitempty"`
	Timeline       cluster.Timeline `json:"timeline,omitempty"`
	PendingRestart bool             `json:"pending_restart,omitempty"`
	Tags           map[string]any   `json:"tags,omitempty"`
	*patroniLag
}

// patroniLag is there for all but the leader. A value is a number or an LSN, or "unknown".
type patroniLag struct {
	ReceiveLag any `json:"receive_lag"`
	ReceiveLSN any `json:"receive_lsn"`
	ReplayLag  any `json:"replay_lag"`
	ReplayLSN  any `json:"replay_lsn"`
	Lag        any `json:"lag"`
	LSN        any `json:"lsn"`
}

// clusterDocument leaves witnesses out: Patroni has none, and its tools take every member for a server.
func clusterDocument(st *Status) patroniCluster {
	c := patroniCluster{Members: []patroniMember{}, Pause: st.Paused, Scope: st.Cluster}
	for i := range st.Members {
		if m := &st.Members[i]; m.Kind != cluster.Witness {
			c.Members = append(c.Members, clusterMember(st, m))
		}
	}
	return c
}

func clusterMember(st *Status, m *Member) patroniMember {
	p := patroniMember{Name: m.Name, Role: "replica", URL: patroniURL(m), Timeline: m.Timeline, PendingRestart: m.PendingRestart, Tags: tags(m)}
	p.State, _ = patroniState(m.State)
	if host, port, err := net.SplitHostPort(m.Postgres); err == nil {
		p.Host = host
		p.Port, _ = strconv.Atoi(port) // a service's name instead of a number stays 0, hence left out
	}
	if m.Role == Primary {
		p.Role = "leader"
		return p
	}
	if s := replicationState(m); s != "" && m.State == Running {
		p.State = s
	}
	switch sync, quorum := patroniSync(st, m); {
	case sync:
		p.Role = "sync_standby"
	case quorum:
		p.Role = "quorum_standby"
	}
	p.patroniLag = lagOf(m)
	return p
}

func lagOf(m *Member) *patroniLag {
	l := &patroniLag{"unknown", "unknown", "unknown", "unknown", "unknown", "unknown"}
	if m.LSN != 0 && m.ReceiveLag != nil {
		l.ReceiveLag, l.ReceiveLSN = *m.ReceiveLag, m.LSN
		l.Lag, l.LSN = *m.ReceiveLag, m.LSN
	}
	if m.Replayed != 0 && m.Lag != nil {
		l.ReplayLag, l.ReplayLSN = *m.Lag, m.Replayed
	}
	return l
}

func patroniURL(m *Member) string {
	if m.API == "" {
		return ""
	}
	return "http://" + m.API + "/patroni"
}

// historyDocument is Patroni's: a row for each timeline that ended, with where, why, when its successor began and under whom.
func historyDocument(h []Entry) [][]any {
	rows := [][]any{}
	for i, e := range h {
		if i > 0 { // the first entry began the cluster: it ended no timeline
			rows = append(rows, []any{h[i-1].Timeline, uint64(e.Fork), e.Reason, time.UnixMilli(e.At).UTC().Format(time.RFC3339Nano), e.Primary})
		}
	}
	return rows
}

// failsafeDocument names every member whose beats count, by Patroni's address of it.
func failsafeDocument(st *Status) map[string]string {
	members := make(map[string]string, len(st.Members))
	for i := range st.Members {
		members[st.Members[i].Name] = patroniURL(&st.Members[i])
	}
	return members
}

// encode is json.Marshal with a newline. What can't be encoded (a NaN, a year above 9999) is told in the document's place:
// the code of a health check, which balancers go by, must not depend on it.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		b, _ = json.Marshal(map[string]string{"error": "encode the document: " + err.Error()}) // a string always encodes
	}
	return append(b, '\n')
}
