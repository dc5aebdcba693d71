package load

import (
	"fmt"
	"time"
)

// Executor is the server that carried out an operation.
type Executor struct {
	Server   string    // its cluster_name: the member's name where Standfast runs it
	Addr     string    // its end of the connection; a floating address where the kernel redirects; "" for a Unix socket
	PID      int32     // of the backend
	Started  time.Time // when its postmaster started, by its own clock: tells servers of one name and address apart
	Timeline uint32    // that it writes to; 0: it is a standby. Unique to one reign where Standfast runs it
}

// String names the server as people know it.
func (e Executor) String() string {
	name := e.Server
	if name == "" {
		name = e.Addr
	}
	return fmt.Sprintf("%s (timeline %d, process %d)", name, e.Timeline, e.PID)
}

// Who is the list of columns that Fields scans, for any transaction, a standby's too. The functions are open to every role.
const Who = `current_setting('cluster_name'), coalesce(host(inet_server_addr()), ''), pg_backend_pid(), pg_postmaster_start_time(),
	CASE WHEN pg_is_in_recovery() THEN 0 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END`

// whoWrites is Who for a server that must not be a standby: there it is an error.
const whoWrites = `current_setting('cluster_name'), coalesce(host(inet_server_addr()), ''), pg_backend_pid(), pg_postmaster_start_time(),
	('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint`

// insert is one transaction: a row, and who has written it. The row comes to the client before the commit, but pgx ends the
// statement with ReadyForQuery, which comes after it.
const insert = `WITH written AS (INSERT INTO standfast_load (run, id, attempt) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING) SELECT ` + whoWrites

// Fields are where the columns of Who go.
func (e *Executor) Fields() []any { return []any{&e.Server, &e.Addr, &e.PID, &e.Started, &e.Timeline} }

// RowID is the identity of the seq-th row (from 1) of a run's client.
func RowID(client int, seq int64) int64 { return int64(client)<<40 | seq }

// reign is one server's time as a primary, as far as it can be told from outside.
type reign struct {
	started  int64
	timeline uint32
}

func (e Executor) reign() reign { return reign{e.Started.UnixMicro(), e.Timeline} }
