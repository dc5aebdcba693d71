// Package measure holds what a member measures of its own PostgreSQL and its host for /metrics: values only. They are gathered at
// a calm pace, kept in memory and told with their age, so that a scrape asks nobody and is answered while PostgreSQL hangs.
//
// Lists whose length a site decides (databases, slots, receivers) are bounded where they are gathered: each entry is a
// time series for every value it has.
package measure

import (
	"time"

	"standfast/cluster"
)

// Most entries of each list. Where there are more, the rest is added up under Others, or left out where a sum means nothing.
const (
	MostDatabases = 40
	MostSlots     = 40
	MostReceivers = 40
)

// Others is the name under which the databases beyond MostDatabases are added up. PostgreSQL takes it for a name too, but nobody
// who wants to type it does.
const Others = "(others)"

// Postgres is what one look at the statistics of this member's server has found. Times are by the server's clock, durations in
// seconds, sizes in bytes; totals count since the statistics were last reset (a crash resets them too).
type Postgres struct {
	At       time.Time // when it was asked, with the monotonic clock
	Took     time.Duration
	Recovery bool

	Connections    []Count // of clients, by state as in pg_stat_activity
	MaxConnections int
	Reserved       int     // of them for superusers
	LockWaiters    int     // sessions that wait for a lock
	CommitWaiters  int     // sessions that wait for a standby to have their commit
	LongestXact    float64 // age of the oldest open transaction of a client
	LongestIdle    float64 // since when a client has been idle in a transaction, at most
	LongestQuery   float64
	Prepared       int     // prepared transactions
	OldestPrepared float64 // age of the oldest of them
	Locks          []Count // held and awaited, by mode

	Databases        []Database
	SizesAt          time.Time // when the databases' sizes and the WAL directory's were asked; zero: not yet
	WALFiles         int64     // bytes in pg_wal
	XIDAge           int64     // transactions since the oldest frozen one of all databases
	MultixactAge     int64
	FreezeMaxAge     int64 // autovacuum_freeze_max_age
	ChecksumFailures int64 // of all databases and what they share; -1: checksums are off

	WAL         WAL
	Checkpoints Checkpoints
	Archiver    *Archiver // nil: archive_mode is off
	Slots       []Slot
	Receivers   []Receiver // who receives WAL from here, by application_name

	Replayed     time.Time // standby: commit time of the last transaction replayed; zero: none
	ReplayPaused bool
}

// Count is a number of things of one kind.
type Count struct {
	Name string
	N    int64
}

// Database is one row of pg_stat_database.
type Database struct {
	Name                                          string
	Backends                                      int64
	Commits, Rollbacks                            int64
	BlocksRead, BlocksHit                         int64
	Returned, Fetched, Inserted, Updated, Deleted int64
	Conflicts, TempFiles, TempBytes, Deadlocks    int64
	Size                                          int64 // -1: not known
}

// Add adds what o counts to d.
func (d *Database) Add(o Database) {
	d.Backends += o.Backends
	d.Commits, d.Rollbacks = d.Commits+o.Commits, d.Rollbacks+o.Rollbacks
	d.BlocksRead, d.BlocksHit = d.BlocksRead+o.BlocksRead, d.BlocksHit+o.BlocksHit
	d.Returned, d.Fetched = d.Returned+o.Returned, d.Fetched+o.Fetched
	d.Inserted, d.Updated, d.Deleted = d.Inserted+o.Inserted, d.Updated+o.Updated, d.Deleted+o.Deleted
	d.Conflicts, d.TempFiles, d.TempBytes, d.Deadlocks = d.Conflicts+o.Conflicts, d.TempFiles+o.TempFiles, d.TempBytes+o.TempBytes, d.Deadlocks+o.Deadlocks
	if o.Size >= 0 {
		d.Size = max(d.Size, 0) + o.Size
	}
}

// WAL is what pg_stat_wal counts, and where the WAL ends: written on a primary, replayed on a standby.
type WAL struct {
	Position                           cluster.LSN
	Records, FullPages, Bytes, Buffers int64 // Buffers: times that wal_buffers were full
}

// Checkpoints is what the checkpointer and the background writer count.
type Checkpoints struct {
	Timed, Requested             int64
	WriteSeconds, SyncSeconds    float64
	Buffers                      int64 // written by checkpoints
	Cleaned, Maxwritten, Alloced int64 // by the background writer: buffers written, rounds cut short, buffers given out
}

// Archiver is pg_stat_archiver.
type Archiver struct {
	Archived, Failed         int64
	LastArchived, LastFailed time.Time // zero: never
}

// Slot is one replication slot.
type Slot struct {
	Name, Type, Status string // Status: wal_status of pg_replication_slots, "" before it has any WAL
	Active             bool
	Held               int64 // WAL kept for it
}

// Receiver is one row of pg_stat_replication, or several of one application_name: the worst of them.
type Receiver struct {
	Name                   string
	Streaming              bool
	Client, Sync           string  // client_addr, "" over a Unix socket, and sync_state; of the first of several
	Priority               int     // sync_priority
	WriteLag, ReplayLag    int64   // bytes behind the WAL's end here
	FlushDelay, ReplayTime float64 // write-ahead until flushed and until replayed there, as measured by PostgreSQL
}

// Disk is a file system.
type Disk struct {
	Size, Free int64 // Free: what PostgreSQL may still write
}

// Host is what was measured beside PostgreSQL.
type Host struct {
	At          time.Time
	Data        Disk
	WAL         *Disk     // nil: on the file system of the data
	Certificate time.Time // end of this member's certificate; zero: not known
}

// Store is this member's own etcd.
type Store struct {
	At   time.Time
	Size int64
}

// All is what there is at one moment. A nil part was never measured.
type All struct {
	Postgres *Postgres
	Host     *Host
	Store    *Store
	Failures map[string]uint64 // attempts that came to nothing, by what was measured
}
