package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"standfast/cluster"
	"standfast/measure"
)

// measureSQL is one message, so that the statistics are one snapshot and it costs one round trip. Its first statement bounds what
// a measurement may take from the server, within this message only. WAL's end may change its function between two expressions, at
// a promotion: the message then fails, and the next measurement sees the new role.
//
// "end" is computed once for the statements that compare with it.
const (
	measureBound = "set local statement_timeout = '4s'"
	walEnd       = "case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end"
)

var measureSQL = []string{
	measureBound,

	// One row of the server's.
	`select pg_is_in_recovery()::int, current_setting('max_connections'), current_setting('superuser_reserved_connections'),
	current_setting('autovacuum_freeze_max_age'), current_setting('archive_mode'), current_setting('data_checksums'),
	pg_wal_lsn_diff(` + walEnd + `, '0/0'), extract(epoch from pg_last_xact_replay_timestamp()),
	(case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end)::int`,

	// Sessions of clients.
	`select coalesce(state, 'starting'), count(*), count(*) filter (where wait_event_type = 'Lock'), count(*) filter (where wait_event = 'SyncRep'),
	coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0),
	coalesce(max(extract(epoch from clock_timestamp() - state_change)) filter (where state like 'idle in transaction%'), 0),
	coalesce(max(extract(epoch from clock_timestamp() - query_start)) filter (where state = 'active'), 0)
	from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() group by 1`,

	`select count(*), coalesce(max(extract(epoch from clock_timestamp() - prepared)), 0) from pg_prepared_xacts`,
	`select lower(mode), count(*) from pg_locks where pid is distinct from pg_backend_pid() group by 1`,

	// Databases; the row without a name is of what they share.
	`select coalesce(datname, ''), numbackends, xact_commit, xact_rollback, blks_read, blks_hit, tup_returned, tup_fetched, tup_inserted,
	tup_updated, tup_deleted, conflicts, temp_files, temp_bytes, deadlocks, coalesce(checksum_failures, 0)
	from pg_stat_database where datname is null or datname not in ('template0', 'template1') order by datid`,
	`select coalesce(max(age(datfrozenxid)), 0), coalesce(max(mxid_age(datminmxid)), 0) from pg_database`,

	`select wal_records, wal_fpi, wal_bytes, wal_buffers_full from pg_stat_wal`,
	`select archived_count, failed_count, extract(epoch from last_archived_time), extract(epoch from last_failed_time) from pg_stat_archiver`,

	`select slot_name, slot_type, active::int, coalesce(wal_status, ''), coalesce(greatest(pg_wal_lsn_diff(` + walEnd + `, restart_lsn), 0), 0)
	from pg_replication_slots order by slot_name`,
	`select application_name, (state = 'streaming')::int, coalesce(greatest(pg_wal_lsn_diff(` + walEnd + `, write_lsn), 0), 0),
	coalesce(greatest(pg_wal_lsn_diff(` + walEnd + `, replay_lsn), 0), 0), coalesce(extract(epoch from flush_lag), 0), coalesce(extract(epoch from replay_lag), 0),
	coalesce(host(client_addr), ''), coalesce(sync_state, ''), coalesce(sync_priority, 0)
	from pg_stat_replication order by application_name`,
}

// The checkpointer's figures moved to a view of their own in PostgreSQL 17.
const (
	checkpointsSQL = `select checkpoints_timed, checkpoints_req, checkpoint_write_time / 1e3, checkpoint_sync_time / 1e3, buffers_checkpoint,
	buffers_clean, maxwritten_clean, buffers_alloc from pg_stat_bgwriter`
	checkpointsSQL17 = `select num_timed, num_requested, write_time / 1e3, sync_time / 1e3, buffers_written,
	buffers_clean, maxwritten_clean, buffers_alloc from pg_stat_checkpointer, pg_stat_bgwriter`
)

// Measure asks the server for its statistics, in one round trip. It gives up after a few seconds, or with ctx.
func (s *Server) Measure(ctx context.Context) (measure.Postgres, error) {
	var m measure.Postgres
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		began := time.Now()
		checkpoints := checkpointsSQL
		if major(conn.PgConn().ParameterStatus("server_version")) >= 17 {
			checkpoints = checkpointsSQL17
		}
		results, err := conn.PgConn().Exec(ctx, strings.Join(append(slices.Clone(measureSQL), checkpoints), ";\n")).ReadAll()
		if err != nil {
			return err
		}
		if len(results) != len(measureSQL)+1 {
			return fmt.Errorf("unexpected answer of %d results", len(results))
		}
		p := &measureParser{}
		m = p.all(results[1:])
		m.At, m.Took = began, time.Since(began)
		return p.err
	})
	if err != nil {
		return measure.Postgres{}, fmt.Errorf("measure PostgreSQL: %w", err)
	}
	return m, nil
}

// major is the first number of server_version ("15.4 (Debian …)", "17beta1"), 0 if there is none.
func major(version string) (n int) {
	for _, c := range []byte(version) {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// measureParser reads the results in measureSQL's order.
type measureParser struct{ textParser }

// name is a name as a label may hold it: valid UTF-8, which a database's need not be, and still no two the same.
func (p *measureParser) name(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strconv.QuoteToASCII(string(b))
}

func (p *measureParser) big(b []byte) int64 { return int64(p.float(b)) }

func (p *measureParser) all(r []*pgconn.Result) (m measure.Postgres) {
	for _, i := range []int{0, 2, 5, 6, 7, 10} { // the results that are one row
		if len(r[i].Rows) != 1 {
			p.note(fmt.Errorf("result %d has %d rows", i+1, len(r[i].Rows)))
			return m
		}
	}
	archiving, checksums := p.server(&m, r[0].Rows[0])
	for _, row := range r[1].Rows {
		p.sessions(&m, row)
	}
	m.Prepared, m.OldestPrepared = p.number(r[2].Rows[0][0]), p.float(r[2].Rows[0][1])
	for _, row := range r[3].Rows {
		m.Locks = append(m.Locks, measure.Count{Name: string(row[0]), N: p.big(row[1])})
	}
	for _, row := range r[4].Rows {
		p.database(&m, row)
	}
	if !checksums {
		m.ChecksumFailures = -1
	}
	m.XIDAge, m.MultixactAge = p.big(r[5].Rows[0][0]), p.big(r[5].Rows[0][1])
	w := r[6].Rows[0]
	m.WAL.Records, m.WAL.FullPages, m.WAL.Bytes, m.WAL.Buffers = p.big(w[0]), p.big(w[1]), p.big(w[2]), p.big(w[3])
	if a := r[7].Rows[0]; archiving {
		m.Archiver = &measure.Archiver{Archived: p.big(a[0]), Failed: p.big(a[1]), LastArchived: p.when(a[2]), LastFailed: p.when(a[3])}
	}
	for _, row := range first(r[8].Rows, measure.MostSlots) {
		m.Slots = append(m.Slots, measure.Slot{Name: string(row[0]), Type: string(row[1]), Active: p.number(row[2]) != 0, Status: string(row[3]), Held: p.big(row[4])})
	}
	for _, row := range r[9].Rows {
		p.receiver(&m, row)
	}
	c := r[10].Rows[0]
	m.Checkpoints = measure.Checkpoints{Timed: p.big(c[0]), Requested: p.big(c[1]), WriteSeconds: p.float(c[2]), SyncSeconds: p.float(c[3]),
		Buffers: p.big(c[4]), Cleaned: p.big(c[5]), Maxwritten: p.big(c[6]), Alloced: p.big(c[7])}
	return m
}

func first(rows [][][]byte, most int) [][][]byte { return rows[:min(len(rows), most)] }

func (p *measureParser) server(m *measure.Postgres, row [][]byte) (archiving, checksums bool) {
	m.Recovery = p.number(row[0]) != 0
	m.MaxConnections, m.Reserved, m.FreezeMaxAge = p.number(row[1]), p.number(row[2]), p.big(row[3])
	m.WAL.Position = cluster.LSN(p.float(row[6]))
	m.Replayed, m.ReplayPaused = p.when(row[7]), p.number(row[8]) != 0
	return string(row[4]) != "off", string(row[5]) == "on"
}

func (p *measureParser) sessions(m *measure.Postgres, row [][]byte) {
	m.Connections = append(m.Connections, measure.Count{Name: string(row[0]), N: p.big(row[1])})
	m.LockWaiters += p.number(row[2])
	m.CommitWaiters += p.number(row[3])
	m.LongestXact = max(m.LongestXact, p.float(row[4]))
	m.LongestIdle = max(m.LongestIdle, p.float(row[5]))
	m.LongestQuery = max(m.LongestQuery, p.float(row[6]))
}

func (p *measureParser) database(m *measure.Postgres, row [][]byte) {
	var n [15]int64
	for i := range n {
		n[i] = p.big(row[i+1])
	}
	m.ChecksumFailures += n[14]
	d := measure.Database{Name: p.name(row[0]), Backends: n[0], Commits: n[1], Rollbacks: n[2], BlocksRead: n[3], BlocksHit: n[4],
		Returned: n[5], Fetched: n[6], Inserted: n[7], Updated: n[8], Deleted: n[9], Conflicts: n[10], TempFiles: n[11], TempBytes: n[12], Deadlocks: n[13], Size: -1}
	switch last := len(m.Databases) - 1; {
	case d.Name == "":
	case last < measure.MostDatabases-1:
		m.Databases = append(m.Databases, d)
	case last == measure.MostDatabases-1:
		d.Name = measure.Others
		m.Databases = append(m.Databases, d)
	default:
		m.Databases[last].Add(d)
	}
}

// receiver keeps the worst of those that share a name, as the two connections of a pg_basebackup do.
func (p *measureParser) receiver(m *measure.Postgres, row [][]byte) {
	r := measure.Receiver{Name: p.name(row[0]), Streaming: p.number(row[1]) != 0, WriteLag: p.big(row[2]), ReplayLag: p.big(row[3]), FlushDelay: p.float(row[4]), ReplayTime: p.float(row[5]),
		Client: string(row[6]), Sync: string(row[7]), Priority: p.number(row[8])}
	last := len(m.Receivers) - 1
	if last < 0 || m.Receivers[last].Name != r.Name {
		if last+1 < measure.MostReceivers {
			m.Receivers = append(m.Receivers, r)
		}
		return
	}
	o := &m.Receivers[last]
	o.Streaming = o.Streaming && r.Streaming
	o.WriteLag, o.ReplayLag = max(o.WriteLag, r.WriteLag), max(o.ReplayLag, r.ReplayLag)
	o.FlushDelay, o.ReplayTime = max(o.FlushDelay, r.FlushDelay), max(o.ReplayTime, r.ReplayTime)
}

// Sizes asks how much each database and the WAL directory take on the disk. It looks at every file, so it is asked in a session of
// its own, and rarely.
func (s *Server) Sizes(ctx context.Context) (databases map[string]int64, wal int64, err error) {
	databases = map[string]int64{}
	err = s.fresh(ctx, func(conn *pgx.Conn) error {
		results, err := conn.PgConn().Exec(ctx, `set local statement_timeout = '60s';
			select datname, pg_database_size(oid) from pg_database where datallowconn and datname <> 'template1';
			select coalesce(sum(size), 0) from pg_ls_waldir()`).ReadAll()
		if err != nil {
			return err
		}
		p := &measureParser{}
		for _, row := range results[1].Rows {
			databases[string(row[0])] = p.big(row[1])
		}
		wal = p.big(results[2].Rows[0][0])
		return p.err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("measure the databases' sizes: %w", err)
	}
	return databases, wal, nil
}
