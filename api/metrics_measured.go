package api

import (
	"time"

	"standfast/measure"
)

// measuredFor is how long a measurement is told. What is older is left out: a graph with a gap is true, one that goes on level is not.
const measuredFor = time.Minute

var (
	gAge      = gauge("measurement_age_seconds", "Age of what was measured last; what is older than a minute is left out here.", "of")
	gTook     = gauge("measurement_duration_seconds", "How long PostgreSQL took to answer the last measurement.")
	gFailures = counter("measurement_failures_total", "Measurements that came to nothing.", "of")

	gConnections   = gauge("postgres_connections", "Connections of clients, Standfast's own among them, by state.", "state")
	gMaxConn       = gauge("postgres_max_connections", "max_connections of PostgreSQL.")
	gReserved      = gauge("postgres_reserved_connections", "Connections of them that only superusers may take.")
	gLockWaiters   = gauge("postgres_lock_waiters", "Sessions that wait for a lock.")
	gCommitWaiters = gauge("postgres_commit_waiters", "Sessions whose commit waits for a standby.")
	gXact          = gauge("postgres_oldest_transaction_seconds", "Age of the oldest open transaction of a client.")
	gIdleXact      = gauge("postgres_idle_in_transaction_seconds", "How long a client has been idle inside a transaction, at most.")
	gQuery         = gauge("postgres_longest_query_seconds", "How long the statement that has run longest runs.")
	gPrepared      = gauge("postgres_prepared_transactions", "Prepared transactions.")
	gOldPrepared   = gauge("postgres_oldest_prepared_seconds", "Age of the oldest prepared transaction.")
	gLocks         = gauge("postgres_locks", "Locks held or waited for, by mode.", "mode")
	gXIDAge        = gauge("postgres_xid_age", "Transactions since the oldest that is not frozen yet, in the worst database; at 2^31 PostgreSQL stops writing.")
	gMultixactAge  = gauge("postgres_multixact_age", "Likewise of multixacts.")
	gFreezeMax     = gauge("postgres_autovacuum_freeze_max_age", "The age at which autovacuum freezes whatever it costs.")
	gChecksum      = counter("postgres_checksum_failures_total", "Pages that did not match their checksum; not there if checksums are off.")

	gDBackends  = gauge("database_backends", "Connections to the database.", "database")
	gDSize      = gauge("database_size_bytes", "What the database takes on the disk, some minutes ago at most.", "database")
	gDCommits   = counter("database_commits_total", "Transactions committed.", "database")
	gDRollbacks = counter("database_rollbacks_total", "Transactions rolled back.", "database")
	gDRead      = counter("database_blocks_read_total", "Blocks read, from the disk or the kernel's cache.", "database")
	gDHit       = counter("database_blocks_hit_total", "Blocks found in PostgreSQL's own cache.", "database")
	gDTuples    = counter("database_tuples_total", "Rows, by what was done with them: returned by scans, fetched by index, inserted, updated, deleted.", "database", "did")
	gDConflicts = counter("database_conflicts_total", "Queries cancelled on a standby, because they stood in the way of replay.", "database")
	gDTempFiles = counter("database_temp_files_total", "Temporary files that queries have written.", "database")
	gDTempBytes = counter("database_temp_bytes_total", "Bytes in them.", "database")
	gDDeadlocks = counter("database_deadlocks_total", "Deadlocks.", "database")

	gWALAt      = gauge("wal_position_bytes", "End of WAL here as a number: written on the primary, replayed on a standby.")
	gWALBytes   = counter("wal_written_bytes_total", "WAL that this server has generated.")
	gWALRecords = counter("wal_records_total", "Records of it.")
	gWALPages   = counter("wal_full_page_images_total", "Full page images in it.")
	gWALFull    = counter("wal_buffers_full_total", "Times that WAL had to be written because its buffers were full.")
	gWALDir     = gauge("wal_directory_bytes", "What pg_wal takes on the disk, some minutes ago at most.")

	gCheckpoints = counter("checkpoints_total", "Checkpoints, by what began them: the time or a request.", "by")
	gCWrite      = counter("checkpoint_write_seconds_total", "Time that checkpoints have spent writing.")
	gCSync       = counter("checkpoint_sync_seconds_total", "Time that checkpoints have spent syncing.")
	gBuffers     = counter("buffers_written_total", "Buffers written, by checkpoints and by the background writer.", "by")
	gMaxwritten  = counter("bgwriter_stops_total", "Rounds of the background writer cut short because it had written enough.")
	gAllocated   = counter("buffers_allocated_total", "Buffers given out.")

	gArchived     = counter("wal_archived_total", "WAL files archived; not there while archive_mode is off.")
	gArchiveFails = counter("wal_archive_failures_total", "Attempts to archive that failed.")
	gArchivedAt   = gauge("wal_last_archived_timestamp_seconds", "When a WAL file was last archived.")
	gArchiveFail  = gauge("wal_last_archive_failure_timestamp_seconds", "When archiving last failed.")

	gSlotHeld   = gauge("slot_held_bytes", "WAL that is kept for the replication slot.", "slot", "type")
	gSlotActive = gauge("slot_active", "1 while somebody receives through the slot.", "slot", "type")
	gSlotStatus = gauge("slot_status", "1 for PostgreSQL's wal_status of the slot: reserved, extended, unreserved, lost.", "slot", "status")

	gStreaming  = gauge("receiver_streaming", "1 while the receiver of WAL streams; 0: it is catching up or copies.", "receiver")
	gRWriteLag  = gauge("receiver_write_lag_bytes", "WAL that it has not written yet.", "receiver")
	gRReplayLag = gauge("receiver_replay_lag_bytes", "WAL that it has not replayed yet.", "receiver")
	gRFlush     = gauge("receiver_flush_lag_seconds", "How long recent WAL took until it was flushed there; 0 when all is.", "receiver")
	gRReplay    = gauge("receiver_replay_lag_seconds", "How long recent WAL took until it was replayed there; 0 when all is.", "receiver")

	gDiskSize    = gauge("disk_size_bytes", "Size of the file system.", "volume")
	gDiskFree    = gauge("disk_free_bytes", "What PostgreSQL may still write there.", "volume")
	gCertificate = gauge("certificate_expiry_timestamp_seconds", "End of this member's certificate.")
	gStoreSize   = gauge("store_size_bytes", "Size of this member's store on disk.")
)

// measured sends what the member has measured, each part with its age and only while it is young.
func (e emitter) measured(m *measure.All, now time.Time) {
	for _, of := range []string{"host", "postgres", "store"} {
		e.put(gFailures, float64(m.Failures[of]), of)
	}
	if p := m.Postgres; p != nil && e.young("postgres", now.Sub(p.At)) {
		e.put(gTook, p.Took.Seconds())
		e.sessions(p)
		e.databases(p)
		e.wal(p)
		e.checkpoints(&p.Checkpoints)
		e.replication(p)
	}
	if h := m.Host; h != nil && e.young("host", now.Sub(h.At)) {
		e.host(h)
	}
	if s := m.Store; s != nil && e.young("store", now.Sub(s.At)) {
		e.put(gStoreSize, float64(s.Size))
	}
}

func (e emitter) young(of string, age time.Duration) bool {
	e.put(gAge, age.Seconds(), of)
	return age <= measuredFor
}

// states of a client's connection, so that each has a sample when nobody is in it.
var states = []string{"active", "idle", "idle in transaction", "idle in transaction (aborted)"}

func (e emitter) sessions(p *measure.Postgres) {
	n := map[string]int64{}
	for _, s := range states {
		n[s] = 0
	}
	for _, c := range p.Connections {
		n[c.Name] += c.N
	}
	for state, v := range n {
		e.put(gConnections, float64(v), state)
	}
	for _, l := range p.Locks {
		e.put(gLocks, float64(l.N), l.Name)
	}
	e.put(gMaxConn, float64(p.MaxConnections))
	e.put(gReserved, float64(p.Reserved))
	e.put(gLockWaiters, float64(p.LockWaiters))
	e.put(gCommitWaiters, float64(p.CommitWaiters))
	e.put(gXact, p.LongestXact)
	e.put(gIdleXact, p.LongestIdle)
	e.put(gQuery, p.LongestQuery)
	e.put(gPrepared, float64(p.Prepared))
	e.put(gOldPrepared, p.OldestPrepared)
}

func (e emitter) databases(p *measure.Postgres) {
	for i := range p.Databases {
		d := &p.Databases[i]
		for f, v := range map[*family]int64{&gDBackends: d.Backends, &gDCommits: d.Commits, &gDRollbacks: d.Rollbacks, &gDRead: d.BlocksRead, &gDHit: d.BlocksHit,
			&gDConflicts: d.Conflicts, &gDTempFiles: d.TempFiles, &gDTempBytes: d.TempBytes, &gDDeadlocks: d.Deadlocks} {
			e.put(*f, float64(v), d.Name)
		}
		for did, v := range map[string]int64{"returned": d.Returned, "fetched": d.Fetched, "inserted": d.Inserted, "updated": d.Updated, "deleted": d.Deleted} {
			e.put(gDTuples, float64(v), d.Name, did)
		}
		if d.Size >= 0 {
			e.put(gDSize, float64(d.Size), d.Name)
		}
	}
	e.put(gXIDAge, float64(p.XIDAge))
	e.put(gMultixactAge, float64(p.MultixactAge))
	e.put(gFreezeMax, float64(p.FreezeMaxAge))
	if p.ChecksumFailures >= 0 {
		e.put(gChecksum, float64(p.ChecksumFailures))
	}
}

func (e emitter) wal(p *measure.Postgres) {
	e.put(gWALAt, float64(p.WAL.Position))
	e.put(gWALBytes, float64(p.WAL.Bytes))
	e.put(gWALRecords, float64(p.WAL.Records))
	e.put(gWALPages, float64(p.WAL.FullPages))
	e.put(gWALFull, float64(p.WAL.Buffers))
	e.known(gWALDir, p.WALFiles)
	if a := p.Archiver; a != nil {
		e.put(gArchived, float64(a.Archived))
		e.put(gArchiveFails, float64(a.Failed))
		e.at(gArchivedAt, a.LastArchived)
		e.at(gArchiveFail, a.LastFailed)
	}
}

func (e emitter) checkpoints(c *measure.Checkpoints) {
	e.put(gCheckpoints, float64(c.Timed), "time")
	e.put(gCheckpoints, float64(c.Requested), "request")
	e.put(gCWrite, c.WriteSeconds)
	e.put(gCSync, c.SyncSeconds)
	e.put(gBuffers, float64(c.Buffers), "checkpoint")
	e.put(gBuffers, float64(c.Cleaned), "bgwriter")
	e.put(gMaxwritten, float64(c.Maxwritten))
	e.put(gAllocated, float64(c.Alloced))
}

func (e emitter) replication(p *measure.Postgres) {
	for _, s := range p.Slots {
		e.put(gSlotHeld, float64(s.Held), s.Name, s.Type)
		e.flag(gSlotActive, s.Active, s.Name, s.Type)
		if s.Status != "" {
			e.put(gSlotStatus, 1, s.Name, s.Status)
		}
	}
	for _, r := range p.Receivers {
		e.flag(gStreaming, r.Streaming, r.Name)
		e.put(gRWriteLag, float64(r.WriteLag), r.Name)
		e.put(gRReplayLag, float64(r.ReplayLag), r.Name)
		e.put(gRFlush, r.FlushDelay, r.Name)
		e.put(gRReplay, r.ReplayTime, r.Name)
	}
}

func (e emitter) host(h *measure.Host) {
	e.disk(h.Data, "data")
	if h.WAL != nil {
		e.disk(*h.WAL, "wal")
	}
	e.at(gCertificate, h.Certificate)
}

func (e emitter) disk(d measure.Disk, volume string) {
	if d.Size > 0 {
		e.put(gDiskSize, float64(d.Size), volume)
		e.put(gDiskFree, float64(d.Free), volume)
	}
}
