package node

import (
	"fmt"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/decide"
	"standfast/measure"
	"standfast/pgconf"
)

// Snapshot returns the newest status, nil before the first look. It implements api.Source.
func (n *Node) Snapshot() *api.Status { return n.status.Load() }

// onView builds the status from what the agent has just seen. It is called from the agent's loop, after every look.
func (n *Node) onView(v cluster.View, r cluster.Route) {
	n.addresses.follow(v, r)
	n.keepDrained(r)
	n.lookForImpostors()
	n.view.Store(&v)
	n.viewChanged.broadcast()
	if up, standby := v.Postgres.Up, v.Postgres.Recovery; up != n.wasUp || standby != n.wasStandby {
		n.wasUp, n.wasStandby = up, standby
		n.stale.Store(true)
		n.kickHouse()
	}
	now := time.Now()
	last, important := n.status.Load(), n.important(v, r)
	if last != nil && now.Sub(last.Observed) < statusPace && !important {
		return
	}
	s := n.buildStatus(v, r, now)
	n.status.Store(s)
	n.watch(v, s)
}

// statusPace is how often the status is built while nothing important changes: the API believes one of up to Stale.
const statusPace = 250 * time.Millisecond

// mark is what must show in the status at once.
type mark struct {
	term     cluster.Term
	phase    cluster.Phase
	write    string
	hold     bool
	why      string
	admitted cluster.Term
	up, rec  bool
	relay    cluster.Term
	readable bool
	request  string
	waits    bool // for a restart
}

// important reports whether anything changed that a health check or a balancer acts on.
func (n *Node) important(v cluster.View, r cluster.Route) bool {
	m := mark{write: r.Write, hold: r.Hold, why: r.Why, admitted: v.Admitted, up: v.Postgres.Up, rec: v.Postgres.Recovery, relay: v.Relay.Term, readable: decide.Readable(v), waits: len(n.waiting().Restart) > 0}
	if v.State != nil {
		m.term, m.phase = v.State.Term, v.State.Phase
	}
	if v.Request != nil {
		m.request = v.Request.ID
	}
	changed := m != n.lastMark
	n.lastMark = m
	return changed
}

func (n *Node) buildStatus(v cluster.View, r cluster.Route, now time.Time) *api.Status {
	c := n.agreed.get()
	s := &api.Status{
		Schema: api.Schema, Version: n.version, Cluster: n.cfg.Cluster, Self: n.cfg.Name, Observed: now,
		Paused: v.Settings.Paused, Request: v.Request, Warnings: []string{},
		Store:   api.Store{OK: v.StoreOK, Kind: n.storeKind(), Leader: n.storeLeader()},
		Router:  n.routerStatus(r),
		History: n.history(), Watchdog: n.guard.watchdog(), Measured: n.gauges.all(), Changes: n.changes.told(),
	}
	if n.agent != nil {
		t := n.agent.Turns()
		s.Agent, s.Store.LastSeen = api.Agent{Turns: t.Looked, Acted: t.Acted, Busy: t.Busy}, n.agent.StoreSeen()
	}
	if m := s.Measured.Store; m != nil {
		s.Store.Size = m.Size
	}
	if c.PausedUntil != nil && !c.PausedUntil.Equal(config.UntilResumed) {
		s.PausedUntil = *c.PausedUntil
	}
	if st := v.State; st != nil {
		s.Epoch, s.SystemID, s.Term, s.Phase, s.Primary, s.Reason, s.By, s.Timeline = st.Epoch, st.SystemID, st.Term, st.Phase, st.Primary, st.Reason, st.By, st.Timeline
		if len(st.Steps) > 0 {
			s.Since = time.UnixMilli(st.Steps[0].At)
		}
		s.Commit = api.Describe(v.Settings.Durability, st.Rule, attachedIn(v), votes(v))
	}
	head, links := headOf(v), n.links()
	for _, m := range v.Members {
		s.Members = append(s.Members, linked(n.memberStatus(v, m, head), links, v))
	}
	s.Postgres = n.postgresStatus(&s.Measured, now)
	s.Address = n.addresses.status(v)
	n.watched.shared = nil
	if out := n.outside(v); v.Superseded > v.Epoch {
		s.Warnings = append(s.Warnings, decide.Over(v))
	} else if out != "" {
		s.Warnings = append(s.Warnings, out)
	} else {
		s.Warnings = append(s.Warnings, warnings(v, r, s)...)
		s.Warnings = append(s.Warnings, n.formerWarning()...)
		n.watched.shared = s.Warnings
	}
	s.Warnings = append(s.Warnings, n.addresses.warnings()...)
	var unusual []string
	s.ReplicationClients, unusual = n.receiverStatus()
	s.Warnings = append(s.Warnings, unusual...)
	if w := n.guard.warning(); w != "" {
		s.Warnings = append(s.Warnings, w)
	}
	var mute []string
	s.Told, mute = n.toldOutside()
	s.Warnings = append(s.Warnings, mute...)
	return s
}

// votes is how many of the members that are heard may fail before they are no majority.
func votes(v cluster.View) int {
	heard := 0
	for _, m := range v.Members {
		if hears(v, m.Name) {
			heard++
		}
	}
	return heard - (len(v.Members)/2 + 1)
}

// attachedIn reports whether a member takes this term's stream now.
func attachedIn(v cluster.View) func(string) bool {
	return func(name string) bool {
		b := v.Peers[name].Beat
		if name == v.Self {
			return v.Relay.Term == v.State.Term
		}
		return b.Attached == v.State.Term && v.Now-v.Peers[name].Heard < v.Settings.Lease
	}
}

// headOf is the furthest flushed position of the primary known here.
func headOf(v cluster.View) cluster.LSN {
	if v.State == nil {
		return 0
	}
	if v.State.Primary == v.Self {
		return v.Postgres.Position.LSN
	}
	return v.Peers[v.State.Primary].Beat.Position.LSN
}

// memberStatus describes one member: this one from the view, another from its newest beat.
func (n *Node) memberStatus(v cluster.View, m cluster.Member, head cluster.LSN) api.Member {
	b, heard := v.Peers[m.Name].Beat, v.Peers[m.Name].Heard
	if m.Name == v.Self {
		b = decide.Beat(v)
		if n.agent != nil {
			b.Note = n.agent.Note()
		}
		n.completeBeat(&b)
		heard = v.Now
	}
	out := api.Member{
		Member: m, Role: api.Standby, Timeline: b.Position.Timeline, LSN: b.Position.LSN, Replayed: b.Replayed,
		Attached: b.Attached != 0 && v.State != nil && b.Attached == v.State.Term, Readable: b.Readable,
		Writable: v.State != nil && b.Admitted != 0 && b.Admitted == v.State.Term,
		Draining: b.Draining, PendingRestart: b.PendingRestart, Sessions: int(b.Sessions), Note: b.Note, StallMS: int64(b.StallMS),
	}
	switch {
	case m.Kind == cluster.Witness:
		out.Role = api.Witness
	case v.State != nil && v.State.Primary == m.Name:
		out.Role = api.Primary
	}
	out.InRule = v.State != nil && v.State.Rule.Has(m.Name)
	if m.Name != v.Self && heard > 0 {
		ms := (v.Now - heard).Milliseconds()
		out.HeardMS = &ms
	}
	silent := m.Name != v.Self && (heard == 0 || v.Now-heard > v.Settings.Detect)
	out.State = stateOf(b, m, silent, v)
	if out.Role == api.Standby && head > 0 && !silent && b.Up {
		lag, rec := int64(0), int64(0)
		if head > b.Replayed {
			lag = int64(head - b.Replayed)
		}
		if head > b.Position.LSN {
			rec = int64(head - b.Position.LSN)
		}
		out.Lag, out.ReceiveLag = &lag, &rec
		if m.Name == v.Self {
			out.LagSeconds = n.lagSeconds(lag)
		}
	}
	return out
}

func stateOf(b cluster.Beat, m cluster.Member, silent bool, v cluster.View) api.State {
	switch {
	case silent:
		return api.Unreachable
	case m.Kind == cluster.Witness:
		return api.Watching
	case strings.HasPrefix(b.Note, "cloning"):
		return api.Cloning
	case strings.HasPrefix(b.Note, "rewinding"):
		return api.Rewinding
	case strings.Contains(b.Note, " failed: "):
		return api.Failed
	case strings.HasPrefix(b.Note, "initialise"):
		return api.Initialising
	case m.Name == v.Self && v.Postgres.Stalled != "":
		return api.Stalled
	case b.Up:
		return api.Running
	case m.Name == v.Self && v.Postgres.Running || strings.HasPrefix(b.Note, "start"):
		return api.Starting
	}
	return api.Stopped
}

// warnings are the plain sentences that stand at the top of the status: what is unusual, and what to do.
func warnings(v cluster.View, r cluster.Route, s *api.Status) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if v.State == nil {
		add("the cluster has not been founded yet: every data member has to run once; waiting for %s", strings.Join(unheard(v), ", "))
		return out
	}
	if r.Write == "" {
		add("no writes: %s", r.Why)
	}
	switch missing := gone(s); {
	case v.StoreOK:
	case 2*len(missing) >= len(s.Members):
		add("no majority of the members' etcd: until %s back, no failover can be decided and no setting changed", isOrOneOf(missing))
	default:
		add("the store (etcd) does not answer here: no failover can be decided by this member; look at the log of %s", v.Self)
	}
	var pending []string
	for _, m := range s.Members {
		switch {
		case m.State == api.Unreachable:
			add("%s is not heard from%s: see whether its host is up and standfast runs there", m.Name, since(m.HeardMS))
		case m.State == api.Failed:
			add("%s: %s", m.Name, m.Note)
		case m.Role == api.Primary && strings.HasPrefix(m.Note, slotsLost):
			add("%s on %s: load their subscribers anew; then take them out of postgresql.slots and declare them again", m.Note, m.Name)
		}
		if m.Leaving {
			add("%s is being removed; if that was interrupted: standfast node remove %s goes on with it", m.Name, m.Name)
		}
		if m.PendingRestart && m.State != api.Unreachable {
			pending = append(pending, m.Name)
		}
	}
	if len(pending) > 0 {
		add("changed parameters wait for a restart of %s: standfast restart --pending", strings.Join(pending, ", "))
	}
	if v.Settings.Paused {
		add("automatic failover is paused%s: a primary that dies is not replaced; to end this: standfast resume", until(s.PausedUntil))
	}
	return append(out, clocks(v)...)
}

// gone lists the members that are not heard.
func gone(s *api.Status) []string {
	var out []string
	for _, m := range s.Members {
		if m.State == api.Unreachable {
			out = append(out, m.Name)
		}
	}
	return out
}

func isOrOneOf(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return "one of " + strings.Join(names, ", ") + " is"
}

func since(ms *int64) string {
	if ms == nil {
		return ""
	}
	return " for " + (time.Duration(*ms) * time.Millisecond).Round(time.Second).String()
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + t.UTC().Format("2006-01-02 15:04 MST")
}

// clockSlack is how far a member's clock may differ before it is worth a warning. Nothing is decided by clocks that show the
// time of day, but certificates are valid and logs are read by them.
const clockSlack = 5 * time.Second

// clocks compares the others' clocks with this member's, by their newest beats.
func clocks(v cluster.View) []string {
	var out []string
	for _, m := range v.Members {
		p := v.Peers[m.Name]
		if m.Name == v.Self || p.Beat.Wall == 0 || p.Heard == 0 {
			continue
		}
		off := offset(v, p)
		if off.Abs() > clockSlack {
			way := "ahead of"
			if off < 0 {
				way = "behind"
			}
			out = append(out, fmt.Sprintf("the clock of %s is %v %s that of %s: set them by NTP, certificates and logs go by them (timedatectl)", m.Name, off.Abs().Round(time.Second), way, v.Self))
		}
	}
	return out
}

// offset is how far a member's clock is ahead of this one's, by more than its newest beat was under way.
func offset(v cluster.View, p cluster.Peer) time.Duration {
	return time.Duration(p.Beat.Wall-v.Wall)*time.Millisecond + (v.Now - p.Heard)
}

func unheard(v cluster.View) []string {
	var out []string
	for _, m := range v.Members {
		if m.Name != v.Self && v.Peers[m.Name].Heard == 0 {
			out = append(out, m.Name)
		}
	}
	if len(out) == 0 {
		out = []string{"the first election"}
	}
	return out
}

// postgresStatus tells what is known of this member's own server beyond the beat.
func (n *Node) postgresStatus(m *measure.All, now time.Time) api.Postgres {
	if n.pg == nil {
		return api.Postgres{}
	}
	o := n.agent.Observation()
	p := api.Postgres{Version: o.Version.Major*10000 + o.Version.Minor, Started: o.Started}
	addMeasured(&p, m, now)
	for _, s := range o.Postgres.Standbys {
		state := "catchup"
		if s.Streaming {
			state = "streaming"
		}
		p.Senders = append(p.Senders, sender(s.Name, state, m.Postgres))
	}
	return p
}

// sender completes what is seen at every look by what was measured some seconds ago; a member that has come since is a quorum's.
func sender(name, state string, m *measure.Postgres) api.Sender {
	s := api.Sender{User: pgconf.ReplicationRole, Application: name, State: state, SyncState: "quorum", SyncPriority: 1}
	if m == nil {
		return s
	}
	for _, r := range m.Receivers {
		if r.Name == name {
			s.Client, s.SyncState, s.SyncPriority = r.Client, r.Sync, r.Priority
		}
	}
	return s
}

// lagSeconds is how long this member's replay has been behind, measured here: 0 when it is not.
func (n *Node) lagSeconds(bytes int64) *float64 {
	if bytes == 0 {
		n.behindSince = time.Time{}
	} else if n.behindSince.IsZero() {
		n.behindSince = time.Now()
	}
	s := 0.0
	if bytes > 0 {
		s = time.Since(n.behindSince).Seconds()
	}
	return &s
}
