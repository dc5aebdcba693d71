package pgconf

import (
	"fmt"
	"strconv"
	"strings"

	"standfast/cluster"
)

// Control is what pg_controldata tells of a data directory, as far as it matters here.
type Control struct {
	SystemID    string
	State       string // "in production", "shut down", "shut down in recovery", "in archive recovery", …
	Checkpoint  cluster.Position
	Redo        cluster.LSN      // where recovery from the last checkpoint begins
	MinRecovery cluster.Position // a standby is consistent from here on; zero on a primary
	SegmentSize uint64           // of WAL, bytes
	Checksums   bool
	LogHints    bool
	Floors      map[string]int // what a standby must have at least: max_connections and its like, as the primary had them
}

// Clean reports whether the server was stopped in order, so that its data files need no recovery.
func (c Control) Clean() bool {
	return c.State == "shut down" || c.State == "shut down in recovery"
}

// floors maps pg_controldata's labels to parameters that a standby must not set lower than its primary
// ("Hot Standby", section "Administrator's Overview").
var floors = map[string]string{
	"max_connections setting":      "max_connections",
	"max_worker_processes setting": "max_worker_processes",
	"max_wal_senders setting":      "max_wal_senders",
	"max_prepared_xacts setting":   "max_prepared_transactions",
	"max_locks_per_xact setting":   "max_locks_per_transaction",
}

// ParseControl reads the output of pg_controldata, run with LC_ALL=C.
func ParseControl(out string) (Control, error) {
	c := Control{Floors: map[string]int{}}
	seen := map[string]string{}
	for line := range strings.SplitSeq(out, "\n") {
		if label, value, ok := strings.Cut(line, ":"); ok {
			seen[label] = strings.TrimSpace(value)
		}
	}
	c.SystemID, c.State = seen["Database system identifier"], seen["Database cluster state"]
	if c.SystemID == "" || c.State == "" {
		return Control{}, fmt.Errorf("parse pg_controldata: no system identifier or state in %d bytes", len(out))
	}
	p := fieldParser{seen: seen}
	c.Checkpoint = cluster.Position{
		Timeline: cluster.Timeline(p.number("Latest checkpoint's TimeLineID", 32)),
		LSN:      p.lsn("Latest checkpoint location"),
	}
	c.Redo = p.lsn("Latest checkpoint's REDO location")
	c.MinRecovery = cluster.Position{
		Timeline: cluster.Timeline(p.number("Min recovery ending loc's timeline", 32)),
		LSN:      p.lsn("Minimum recovery ending location"),
	}
	c.SegmentSize = p.number("Bytes per WAL segment", 64)
	c.Checksums = p.number("Data page checksum version", 32) != 0
	c.LogHints = seen["wal_log_hints setting"] == "on"
	for label, name := range floors {
		c.Floors[name] = int(p.number(label, 31))
	}
	return c, p.err
}

// fieldParser keeps the first error of several fields.
type fieldParser struct {
	seen map[string]string
	err  error
}

func (p *fieldParser) number(label string, bits int) uint64 {
	v, err := strconv.ParseUint(p.seen[label], 10, bits)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("parse pg_controldata: %s: %w", label, err)
	}
	return v
}

func (p *fieldParser) lsn(label string) cluster.LSN {
	v, err := cluster.ParseLSN(p.seen[label])
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("parse pg_controldata: %s: %w", label, err)
	}
	return v
}
