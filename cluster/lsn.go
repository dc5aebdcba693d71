package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte position in the write-ahead log (PostgreSQL's pg_lsn). Zero means "none".
type LSN uint64

// ParseLSN reads PostgreSQL's form of two hexadecimal halves, "16/B374D848".
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("parse LSN %q: no slash", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, err)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, err)
	}
	return LSN(h<<32 | l), nil
}

// String gives PostgreSQL's form, "16/B374D848".
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// MarshalText writes PostgreSQL's form, so that JSON and YAML show what psql shows.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads PostgreSQL's form.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err == nil {
		*l = v
	}
	return err
}

// Timeline is PostgreSQL's timeline ID: the number of one line of WAL history, raised by each promotion
// ("Continuous Archiving", section "Timelines").
type Timeline uint32

// Term is the number of one reign: of a primary, or of the election that looks for one. It only rises.
type Term uint64

// Position is a place in branching history: an LSN on a timeline.
type Position struct {
	Timeline Timeline `json:"timeline"`
	LSN      LSN      `json:"lsn"`
}

// Before reports whether p is behind q: an older timeline is always behind a newer one, because a timeline is
// made only by a winner that held everything acknowledged before it.
func (p Position) Before(q Position) bool {
	if p.Timeline != q.Timeline {
		return p.Timeline < q.Timeline
	}
	return p.LSN < q.LSN
}

// String gives "timeline 3 at 0/5000060".
func (p Position) String() string { return fmt.Sprintf("timeline %d at %s", p.Timeline, p.LSN) }

// Branch is one ancestor of a timeline: Timeline was followed up to End, where the next one begins.
type Branch struct {
	Timeline Timeline `json:"timeline"`
	End      LSN      `json:"end"`
}

// History is the line of ancestors of a timeline, oldest first, as in PostgreSQL's history files.
type History []Branch

// Contains reports whether WAL that ends at p lies wholly on the line that ends in current: on current itself, or on
// an ancestor no later than where the line left it. What it does not contain has to be rewound.
func (h History) Contains(current Timeline, p Position) bool {
	if p.Timeline == current {
		return true
	}
	for _, b := range h {
		if b.Timeline == p.Timeline {
			return p.LSN <= b.End
		}
	}
	return false
}
