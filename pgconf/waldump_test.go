package pgconf

import (
	"strings"
	"testing"
	"time"
)

// TestParseWALDump has lines as versions 15 and 17 write them.
func TestParseWALDump(t *testing.T) {
	const text = `rmgr: Heap        len (rec/tot):     61/    61, tx:        731, lsn: 0/02000028, prev 0/01525120, desc: INSERT off 7 flags 0x00, blkref #0: rel 1663/5/16384 blk 0
rmgr: Btree       len (rec/tot):     64/    64, tx:        731, lsn: 0/02000068, prev 0/02000028, desc: INSERT_LEAF off 6, blkref #0: rel 1663/5/16389 blk 1
rmgr: Heap2       len (rec/tot):     61/    61, tx:        731, lsn: 0/020000A8, prev 0/02000068, desc: MULTI_INSERT 3 tuples flags 0x02, blkref #0: rel 1663/5/16384 blk 0
rmgr: Heap        len (rec/tot):     59/    59, tx:        732, lsn: 0/020000E8, prev 0/020000A8, desc: DELETE off 2 flags 0x00 KEYS_UPDATED , blkref #0: rel 1663/5/16390 blk 0
rmgr: Heap        len (rec/tot):     59/    59, tx:        733, lsn: 0/02000128, prev 0/020000E8, desc: HOT_UPDATE old_xmax: 733, old_off: 1, old_infobits: [], flags: 0x10, new_xmax: 0, new_off: 4, blkref #0: rel 1663/5/16384 blk 0
rmgr: Transaction len (rec/tot):     34/    34, tx:        733, lsn: 0/02000168, prev 0/02000128, desc: ABORT 2026-11-30 22:45:04.349886 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        731, lsn: 0/020001A8, prev 0/02000168, desc: COMMIT 2026-11-30 22:45:04.349886 UTC; subxacts: 732; inval msgs: catcache 55
rmgr: Heap2       len (rec/tot):     61/    61, tx:        735, lsn: 0/020001E8, prev 0/020001A8, desc: MULTI_INSERT+INIT ntuples: 2, flags: 0x02, offsets: [1, 2], blkref #0: rel 1663/5/16384 blk 0
rmgr: Transaction len (rec/tot):     34/    34, tx:          0, lsn: 0/02000228, prev 0/020001E8, desc: COMMIT_PREPARED 735: 2026-11-30 22:45:05 UTC
rmgr: Standby     len (rec/tot):     50/    50, tx:          0, lsn: 0/02000268, prev 0/02000228, desc: RUNNING_XACTS nextXid 736
nonsense
`
	got, cut, err := ParseWALDump(strings.NewReader(text))
	if err != nil || cut || len(got) != 2 {
		t.Fatalf("%+v, %v, %v", got, cut, err)
	}
	a, b := got[0], got[1]
	if a.XID != 731 || !a.Committed.Equal(time.Date(2026, 11, 30, 22, 45, 4, 349886000, time.UTC)) || a.LSN != 0x20001A8 || len(a.Relations) != 2 ||
		a.Relations[0] != (WALRelation{1663, 5, 16384, 4, 0, 0, false}) || a.Relations[1] != (WALRelation{1663, 5, 16390, 0, 0, 1, false}) {
		t.Errorf("the first: %+v", a)
	}
	if b.XID != 735 || b.Committed.IsZero() || len(b.Relations) != 1 || b.Relations[0].Inserted != 2 {
		t.Errorf("the prepared one: %+v", b)
	}
}
