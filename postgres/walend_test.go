package postgres

import (
	"testing"
	"time"
)

// TestWALEndIsRead from what pg_waldump of PostgreSQL 15 and 17 print.
func TestWALEndIsRead(t *testing.T) {
	const out = `rmgr: Transaction len (rec/tot):     34/    34, tx:        742, lsn: 0/01A2B3C8, prev 0/01A2B390, desc: COMMIT 2026-11-30 21:33:12.123456 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        744, lsn: 0/01A2B4C8, prev 0/01A2B390, desc: ABORT 2026-11-30 21:39:00.000000 UTC
rmgr: Transaction len (rec/tot):    101/   101, tx:        743, lsn: 0/01A2B500, prev 0/01A2B390, desc: COMMIT 2026-11-30 21:34:00 UTC; inval msgs: catcache 7
`
	newest := time.Date(2026, 11, 30, 21, 34, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		out, words string
		end        string
		at         time.Time
	}{
		"the end of WAL":   {out, "pg_waldump: error: error in WAL record at 0/1A2B500: invalid record length at 0/1A2B568: wanted 24, got 0\n", "0/1A2B568", newest},
		"a segment's end":  {out, "pg_waldump: error: could not find file \"000000010000000000000002\": No such file or directory\n", "0/1A2B500", newest},
		"nothing since":    {"", "pg_waldump: error: error in WAL record at 0/1A2B3C8: invalid record length at 0/1A2B400: expected at least 24, got 0\n", "0/1A2B400", time.Time{}},
		"nothing at all":   {"", "pg_waldump: error: could not find a valid record after 0/1000000\n", "0/1000000", time.Time{}},
		"another's prev":   {"", "pg_waldump: error: error in WAL record at 0/1A2B3C8: record with incorrect prev-link 0/9 at 0/1A2B400\n", "0/1A2B400", time.Time{}},
		"not even reading": {"", "", "0/1000000", time.Time{}},
	} {
		end, at := dumpEnd(0x1000000, c.out, c.words)
		if end.String() != c.end || !at.Equal(c.at) {
			t.Errorf("%s: %s, %s; want %s, %s", name, end, at, c.end, c.at)
		}
	}
}
