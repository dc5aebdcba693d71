package pgconf

import (
	"fmt"
	"strconv"

	"standfast/cluster"
)

// Segment is one WAL segment file: Number counts segments from the beginning of WAL.
type Segment struct {
	Timeline cluster.Timeline
	Number   uint64
}

// SegmentAt gives the segment that holds the byte at lsn, for segments of size bytes.
func SegmentAt(tl cluster.Timeline, lsn cluster.LSN, size uint64) Segment {
	return Segment{tl, uint64(lsn) / size}
}

// Start is the LSN of the segment's first byte.
func (s Segment) Start(size uint64) cluster.LSN { return cluster.LSN(s.Number * size) }

// Name gives the file's name in pg_wal (XLogFileName in PostgreSQL's xlog_internal.h): timeline, then the number split
// at four gigabytes.
func (s Segment) Name(size uint64) string {
	per := uint64(1<<32) / size
	return fmt.Sprintf("%08X%08X%08X", uint32(s.Timeline), uint32(s.Number/per), uint32(s.Number%per))
}

// ParseSegment reads a segment file's name; it reports false for any other name, "….partial" and "….backup" among them.
func ParseSegment(name string, size uint64) (Segment, bool) {
	if !isHex(name, 24) || size == 0 {
		return Segment{}, false
	}
	tl, _ := strconv.ParseUint(name[:8], 16, 32)
	hi, _ := strconv.ParseUint(name[8:16], 16, 32)
	lo, _ := strconv.ParseUint(name[16:], 16, 32)
	per := uint64(1<<32) / size
	if lo >= per {
		return Segment{}, false
	}
	return Segment{cluster.Timeline(tl), hi*per + lo}, true
}

// isHex reports whether s is n upper-case hexadecimal digits.
func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
