package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"standfast/cluster"
)

// family is one metric: its description and how it is counted.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// families collects every metric as it is declared, for Describe.
var families []family

func gauge(name, help string, labels ...string) family {
	return declare(prometheus.GaugeValue, "standfast_"+name, help, labels)
}

func counter(name, help string, labels ...string) family {
	return declare(prometheus.CounterValue, "standfast_"+name, help, labels)
}

func declare(kind prometheus.ValueType, name, help string, labels []string) family {
	f := family{prometheus.NewDesc(name, help, labels, nil), kind}
	families = append(families, f)
	return f
}

var (
	mInfo     = gauge("info", "Always 1: who answers, and which version of standfast.", "cluster", "member", "version")
	mAgent    = gauge("agent_up", "1 while this member's agent is at work; 0: what it knew is left out here.")
	mObserved = gauge("observed_timestamp_seconds", "When the agent last published what it sees.")
	mTerm     = gauge("term", "Number of the newest term known; rises with every change of primary.")
	mTimeline = gauge("timeline", "PostgreSQL's timeline of this term.")
	mPhase    = gauge("phase", "1 for the phase the term is in.", "phase")
	mSince    = gauge("term_start_timestamp_seconds", "When this term began.")
	mPaused   = gauge("paused", "1 while automatic failover is paused.")
	mUntil    = gauge("paused_until_timestamp_seconds", "When the pause ends by itself.")
	mRequest  = gauge("request_pending", "1 while an operator's request is not carried out yet.")
	mWarnings = gauge("warnings", "Sentences of warning that status shows.")

	mCopies   = gauge("commit_copies", "Hosts beside the primary's that have each acknowledged commit (k).")
	mEligible = gauge("commit_members", "Members that count in the commit rule, without the primary.")
	mSpare    = gauge("commit_spare_hosts", "Hosts that may still fail before writing waits; below 0: it waits now.")

	mStore     = gauge("store_up", "1 if the agreed store answered within the last second.")
	mStoreSeen = gauge("store_last_seen_timestamp_seconds", "When the agreed store last answered.")
	mStoreLead = gauge("store_leader", "1 for the member whose etcd leads.", "member")

	mUp         = gauge("member_up", "1 if the member's PostgreSQL answers, or the witness is at work.", "member")
	mRole       = gauge("member_role", "1 for the role the member has.", "member", "role")
	mState      = gauge("member_state", "1 for the state the member is in.", "member", "state")
	mHeard      = gauge("member_silence_seconds", "How long ago the member was last heard from.", "member")
	mLag        = gauge("member_lag_bytes", "WAL that the standby has not replayed yet.", "member")
	mReceiveLag = gauge("member_receive_lag_bytes", "WAL that the standby has not received yet.", "member")
	mLagSeconds = gauge("member_lag_seconds", "Age of the last transaction replayed; 0 when all is replayed.", "member")
	mMTimeline  = gauge("member_timeline", "PostgreSQL's timeline on the member.", "member")
	mWritable   = gauge("member_writable", "1 if the member lets clients in as primary.", "member")
	mAttached   = gauge("member_attached", "1 if the standby takes the stream of this term's primary.", "member")
	mReadable   = gauge("member_readable", "1 if the standby may be read from.", "member")
	mInRule     = gauge("member_in_rule", "1 if the member counts in the commit rule.", "member")
	mRestart    = gauge("member_pending_restart", "1 if parameters wait for a restart.", "member")
	mDraining   = gauge("member_draining", "1 if an operator keeps the member out of routing.", "member")
	mSessions   = gauge("member_sessions", "Client sessions in the member's router.", "member")
	mStall      = gauge("member_stall_seconds", "How late the member itself was, at worst, in its last second.", "member")
	mTrip       = gauge("member_round_trip_seconds", "Round trip of beats to the member and back, from program to program, smoothed.", "member")
	mClock      = gauge("member_clock_offset_seconds", "How far the member's clock is ahead of this one's.", "member")
	mHeardBeats = counter("member_beats_total", "Beats of the member that were heard here.", "member")
	mLostBeats  = counter("member_beats_lost_total", "Beats of the member that were sent and not heard here.", "member")

	mTurns = counter("agent_turns_total", "Turns of the agent's loop.")
	mActed = counter("agent_decisions_total", "Turns in which the agent decided to do something.")
	mBusy  = counter("agent_busy_seconds_total", "Time that the agent has spent in its turns.")

	mRSessions = gauge("router_sessions", "Client sessions now.", "side")
	mRWaiting  = gauge("router_waiting", "Connections that wait for a primary or for a free place.", "side")
	mRHold     = gauge("router_holding", "1 while new connections wait because a primary is being chosen.", "side")
	mRAccepted = counter("router_connections_total", "Connections accepted.", "side")
	mRRefused  = counter("router_refused_total", "Connections answered with an error instead of a server.", "side")
	mRCut      = counter("router_cut_total", "Sessions ended because their server lost its role.", "side")
	mRReceived = counter("router_received_bytes_total", "Bytes from clients.", "side")
	mRSent     = counter("router_sent_bytes_total", "Bytes to clients.", "side")
	mRCancels  = counter("router_cancels_total", "Cancel requests of clients.")
	mRWithheld = counter("router_cancels_withheld_total", "Cancel requests kept from this member's PostgreSQL, for they would have given up a commit's wait for other hosts.")
	mRLost     = counter("router_cancels_lost_total", "Cancel requests not delivered because nobody on the server's host could be asked.")
	mBSessions = gauge("router_backend_sessions", "Sessions to one server.", "side", "member")
	mBLimit    = gauge("router_backend_sessions_limit", "Most sessions to one server at once; 0: no limit.", "side", "member")
	mBDraining = gauge("router_backend_draining", "1 if the server takes no new sessions.", "side", "member")

	mHolder  = gauge("address_holder", "1 for the member that holds the floating address; no sample: nobody.", "address", "member")
	mHeld    = gauge("address_held", "1 if somebody is known to hold the floating address.", "address")
	mFailing = gauge("address_failing", "1 while this member can't do with the address what it should; status says why.", "address")
	mOutage  = gauge("last_change_outage_seconds", "How long writing was out at the last change of primary.")
	mChange  = gauge("last_change_timestamp_seconds", "When the last change of primary began.")
	mFailOut = gauge("last_failover_outage_seconds", "How long writing was out at the last failover that nobody had asked for.")
	mFailAt  = gauge("last_failover_timestamp_seconds", "When the last failover that nobody had asked for began.")
	mChanges = counter("primary_changes_total", "Changes of primary that this member has seen since its agent started, by kind.", "kind")

	mRequests = counter("api_responses_total", "Answers of the health port and the page's port, by class of code.", "class")
	mClosed   = counter("api_refused_connections_total", "Connections closed because too many were open, in all or from one host.")
)

// collector turns the newest Status into metrics, without a lock and without asking anybody.
type collector struct {
	boards *boards
	tally  *tally
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range families {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector. Before the first Status there are only the answers' counters.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter{ch}
	for class, name := range map[int]string{2: "2xx", 4: "4xx", 5: "5xx"} {
		e.put(mRequests, float64(c.tally.classes[class].Load()), name)
	}
	e.put(mClosed, float64(c.tally.refused.Load()))
	st, now, bound := c.boards.source.Snapshot(), c.boards.now(), time.Duration(c.boards.bound.Load())
	if st == nil {
		return
	}
	e.put(mInfo, 1, st.Cluster, st.Self, st.Version)
	e.at(mObserved, st.Observed)
	old := stale(st, now.Sub(st.Observed), bound) != ""
	e.flag(mAgent, !old)
	e.measured(&st.Measured, now)
	if old {
		return // what it knew may be wrong by now
	}
	e.cluster(st)
	e.agent(&st.Agent)
	for i := range st.Members {
		e.member(&st.Members[i])
	}
	e.router(&st.Router)
	e.patroni(st)
}

// emitter sends samples.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) put(f family, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(f.desc, f.kind, v, labels...)
}

// at sends a time, if there is one.
func (e emitter) at(f family, t time.Time, labels ...string) {
	if !t.IsZero() {
		e.put(f, float64(t.UnixMilli())/1000, labels...)
	}
}

func (e emitter) flag(f family, on bool, labels ...string) { e.put(f, number(on), labels...) }

// known sends a value that is not zero: zero stands for "not known".
func (e emitter) known(f family, v int64, labels ...string) {
	if v != 0 {
		e.put(f, float64(v), labels...)
	}
}

func number(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func (e emitter) cluster(st *Status) {
	e.put(mTerm, float64(st.Term))
	e.put(mTimeline, float64(st.Timeline))
	for _, p := range []cluster.Phase{cluster.Electing, cluster.Elected, cluster.Reigning} {
		e.flag(mPhase, st.Phase == p, string(p))
	}
	e.at(mSince, st.Since)
	e.flag(mPaused, st.Paused)
	e.at(mUntil, st.PausedUntil)
	e.flag(mRequest, st.Request != nil)
	e.put(mWarnings, float64(len(st.Warnings)))
	e.put(mCopies, float64(st.Commit.Rule.K))
	e.put(mEligible, float64(len(st.Commit.Rule.Of)))
	e.put(mSpare, float64(st.Commit.Spare))
	e.flag(mStore, st.Store.OK)
	e.at(mStoreSeen, st.Store.LastSeen)
	if st.Store.Leader != "" {
		e.put(mStoreLead, 1, st.Store.Leader)
	}
	for _, a := range st.Address {
		e.flag(mHeld, a.Holder != "", a.Address)
		e.flag(mFailing, a.Error != "", a.Address)
		if a.Holder != "" {
			e.put(mHolder, 1, a.Address, a.Holder)
		}
	}
	if n := len(st.History); n > 0 {
		last := &st.History[n-1]
		e.at(mChange, time.UnixMilli(last.At))
		e.put(mOutage, float64(last.OutageMS)/1000)
	}
	for i := len(st.History) - 1; i >= 0; i-- {
		if f := &st.History[i]; f.Kind == "failover" {
			e.at(mFailAt, time.UnixMilli(f.At))
			e.put(mFailOut, float64(f.OutageMS)/1000)
			break
		}
	}
	for _, kind := range []string{"failover", "forced", "restart", "switchover"} {
		e.put(mChanges, float64(st.Changes[kind]), kind)
	}
}

func (e emitter) agent(a *Agent) {
	e.put(mTurns, float64(a.Turns))
	e.put(mActed, float64(a.Acted))
	e.put(mBusy, a.Busy.Seconds())
}

func (e emitter) member(m *Member) {
	n := m.Name
	e.flag(mUp, m.State == Running || m.State == Watching, n)
	e.put(mRole, 1, n, string(m.Role))
	e.put(mState, 1, n, string(m.State))
	if m.HeardMS != nil {
		e.put(mHeard, float64(*m.HeardMS)/1000, n)
	}
	if m.RoundTripMS != nil {
		e.put(mTrip, *m.RoundTripMS/1000, n)
	}
	if m.ClockMS != nil {
		e.put(mClock, float64(*m.ClockMS)/1000, n)
	}
	if m.BeatsHeard > 0 {
		e.put(mHeardBeats, float64(m.BeatsHeard), n)
		e.put(mLostBeats, float64(m.BeatsLost), n)
	}
	e.put(mSessions, float64(m.Sessions), n)
	e.put(mStall, float64(m.StallMS)/1000, n)
	if m.Kind == cluster.Witness {
		return
	}
	if m.Lag != nil {
		e.put(mLag, float64(*m.Lag), n)
	}
	if m.ReceiveLag != nil {
		e.put(mReceiveLag, float64(*m.ReceiveLag), n)
	}
	if m.LagSeconds != nil {
		e.put(mLagSeconds, *m.LagSeconds, n)
	}
	e.known(mMTimeline, int64(m.Timeline), n)
	e.flag(mWritable, m.Writable, n)
	e.flag(mAttached, m.Attached, n)
	e.flag(mReadable, m.Readable, n)
	e.flag(mInRule, m.InRule, n)
	e.flag(mRestart, m.PendingRestart, n)
	e.flag(mDraining, m.Draining, n)
}

func (e emitter) router(r *Router) {
	e.side(&r.Write, "write")
	e.side(&r.Read, "read")
	e.put(mRCancels, float64(r.Cancels))
	e.put(mRWithheld, float64(r.CancelsWithheld))
	e.put(mRLost, float64(r.CancelsLost))
	for i := range r.Backends {
		b := &r.Backends[i]
		e.put(mBSessions, float64(b.Sessions), b.Side, b.Member)
		e.put(mBLimit, float64(b.Limit), b.Side, b.Member)
		e.flag(mBDraining, b.Draining, b.Side, b.Member)
	}
}

func (e emitter) side(s *Side, name string) {
	e.put(mRSessions, float64(s.Sessions), name)
	e.put(mRWaiting, float64(s.Waiting), name)
	e.flag(mRHold, s.Hold, name)
	e.put(mRAccepted, float64(s.Accepted), name)
	e.put(mRRefused, float64(s.Refused), name)
	e.put(mRCut, float64(s.Cut), name)
	e.put(mRReceived, float64(s.Received), name)
	e.put(mRSent, float64(s.Sent), name)
}
