package api

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// patroniGauge declares one of Patroni's metrics, so that its users' dashboards and alerts keep working. Patroni calls the
// positions counters; here they are gauges, because OpenMetrics would append _total to a counter's name.
func patroniGauge(name, help string) family {
	return declare(prometheus.GaugeValue, "patroni_"+name, help, []string{"scope", "name"})
}

var (
	pVersion    = patroniGauge("version", "Version of Patroni that these metrics follow, without periods.")
	pRunning    = patroniGauge("postgres_running", "Value is 1 if Postgres is running, 0 otherwise.")
	pStarted    = patroniGauge("postmaster_start_time", "Epoch seconds since Postgres started.")
	pPrimary    = patroniGauge("primary", "Value is 1 if this node is the leader, 0 otherwise.")
	pLocation   = patroniGauge("xlog_location", "Current location of the Postgres transaction log, 0 if this node is not the leader.")
	pStandby    = patroniGauge("standby_leader", "Value is 1 if this node is the standby_leader, 0 otherwise.")
	pReplica    = patroniGauge("replica", "Value is 1 if this node is a replica, 0 otherwise.")
	pSync       = patroniGauge("sync_standby", "Value is 1 if this node is a sync standby, 0 otherwise.")
	pQuorum     = patroniGauge("quorum_standby", "Value is 1 if this node is a quorum standby, 0 otherwise.")
	pReceived   = patroniGauge("xlog_received_location", "Current location of the received Postgres transaction log, 0 if this node is not a replica.")
	pReplayed   = patroniGauge("xlog_replayed_location", "Current location of the replayed Postgres transaction log, 0 if this node is not a replica.")
	pReplayedAt = patroniGauge("xlog_replayed_timestamp", "Current timestamp of the replayed Postgres transaction log, 0 if null.")
	pReplayStop = patroniGauge("xlog_paused", "Value is 1 if the Postgres xlog is paused, 0 otherwise.")
	pStreaming  = patroniGauge("postgres_streaming", "Value is 1 if Postgres is streaming, 0 otherwise.")
	pArchive    = patroniGauge("postgres_in_archive_recovery", "Value is 1 if Postgres is replicating from archive, 0 otherwise.")
	pServer     = patroniGauge("postgres_server_version", "Version of Postgres (if running), 0 otherwise.")
	pUnlocked   = patroniGauge("cluster_unlocked", "Value is 1 if the cluster is unlocked, 0 if locked.")
	pFailsafe   = patroniGauge("failsafe_mode_is_active", "Value is 1 if failsafe mode is active, 0 if inactive.")
	pTimeline   = patroniGauge("postgres_timeline", "Postgres timeline of this node (if running), 0 otherwise.")
	pSeen       = patroniGauge("dcs_last_seen", "Epoch timestamp when DCS was last contacted successfully.")
	pRestart    = patroniGauge("pending_restart", "Value is 1 if the node needs a restart, 0 otherwise.")
	pPaused     = patroniGauge("is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.")
	pState      = patroniGauge("postgres_state", "Numeric representation of Postgres state, as Patroni documents it; -1: unknown.")
)

// patroni sends Patroni's metrics for this member.
func (e emitter) patroni(st *Status) {
	n := patroniDocument(st)
	put := func(f family, v float64) { e.put(f, v, st.Cluster, st.Self) }
	put(pVersion, 40000)
	put(pPaused, number(n.Pause))
	put(pUnlocked, number(n.Unlocked))
	put(pFailsafe, number(n.Failsafe))
	put(pSeen, float64(n.LastSeen))
	put(pStandby, 0) // there are no standby clusters
	put(pArchive, 0) // a standby here always streams, or waits to
	me := st.Me()
	if me == nil {
		me = &Member{State: Stopped}
	}
	running := me.State == Running
	put(pRunning, number(running))
	_, state := patroniState(me.State)
	put(pState, float64(state))
	put(pPrimary, number(me.Role == Primary))
	put(pReplica, number(me.Role == Standby))
	put(pSync, number(n.Sync))
	put(pQuorum, number(n.Quorum))
	put(pStreaming, number(n.Streaming == "streaming"))
	put(pRestart, number(n.PendingRestart))
	put(pServer, float64(n.Version))
	put(pStarted, epoch(running, st.Postgres.Started))
	put(pReplayedAt, epoch(running, st.Postgres.ReplayedAt))
	put(pReplayStop, number(running && st.Postgres.ReplayPaused))
	put(pTimeline, either0(running, float64(n.Timeline)))
	put(pLocation, either0(me.Role == Primary, float64(me.LSN)))
	put(pReceived, either0(me.Role == Standby, float64(me.LSN)))
	put(pReplayed, either0(me.Role == Standby, float64(me.Replayed)))
}

func epoch(on bool, t time.Time) float64 {
	return either0(on && !t.IsZero(), float64(t.UnixMicro())/1e6)
}

func either0(on bool, v float64) float64 {
	if on {
		return v
	}
	return 0
}

// newMetrics returns the handler of /metrics over a registry of its own.
func newMetrics(b *boards, t *tally) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{b, t}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: 8,
		ErrorHandling: promhttp.ContinueOnError, // one sample that can't be told, for a database's odd name, must not cost all others
	})
}
