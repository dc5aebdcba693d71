package pgconf

import (
	"fmt"
	"strconv"
	"strings"

	"standfast/cluster"
)

// HistoryName gives the name of a timeline's history file in pg_wal, "00000002.history".
func HistoryName(tl cluster.Timeline) string { return fmt.Sprintf("%08X.history", uint32(tl)) }

// ParseHistoryName reads a history file's name; it reports false for any other name.
func ParseHistoryName(name string) (cluster.Timeline, bool) {
	hex, ok := strings.CutSuffix(name, ".history")
	if !ok || !isHex(hex, 8) {
		return 0, false
	}
	v, err := strconv.ParseUint(hex, 16, 32)
	return cluster.Timeline(v), err == nil
}

// ParseHistory reads a timeline history file: one ancestor on a line, its timeline, the LSN at which it was left, and a
// reason ("Continuous Archiving and Point-in-Time Recovery", section "Timelines"; readTimeLineHistory in PostgreSQL's
// timeline.c). A file of comments only, as is put in the place of a number that is skipped, has no ancestors.
func ParseHistory(text string) (cluster.History, error) {
	var h cluster.History
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 {
			return nil, fmt.Errorf("parse timeline history: line %q: want a timeline and an LSN", line)
		}
		tl, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("parse timeline history: line %q: %w", line, err)
		}
		end, err := cluster.ParseLSN(f[1])
		if err != nil {
			return nil, fmt.Errorf("parse timeline history: line %q: %w", line, err)
		}
		if n := len(h); n > 0 && cluster.Timeline(tl) <= h[n-1].Timeline {
			return nil, fmt.Errorf("parse timeline history: line %q: timelines must rise", line)
		}
		h = append(h, cluster.Branch{Timeline: cluster.Timeline(tl), End: end})
	}
	return h, nil
}

// RenderHistory writes a history file with the reason beside each ancestor.
func RenderHistory(h cluster.History, reason string) string {
	var b strings.Builder
	for _, a := range h {
		fmt.Fprintf(&b, "%d\t%s\t%s\n", a.Timeline, a.End, strings.ReplaceAll(reason, "\n", " "))
	}
	return b.String()
}

// SkippedHistory is the content of the history file of a timeline number that nobody uses.
const SkippedHistory = "# This timeline was never used: Standfast skipped its number so that no two promotions share one.\n"
