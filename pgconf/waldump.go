package pgconf

import (
	"bufio"
	"cmp"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
)

// WALTransaction is a transaction that was committed in some stretch of write-ahead log, as far as pg_waldump tells.
type WALTransaction struct {
	XID       uint64
	Committed time.Time // zero: its time could not be read
	LSN       cluster.LSN
	Relations []WALRelation // sorted; indexes and PostgreSQL's own bookkeeping left out
}

// WALRelation is what a transaction did to one relation: rows, or all of it.
type WALRelation struct {
	Tablespace, Database, Filenode uint32 // as in a relation's file path
	Inserted, Updated, Deleted     int
	Truncated                      bool
}

// maxTouched bounds what is kept of one stretch.
const maxTouched = 100_000

var (
	walLine  = regexp.MustCompile(`^rmgr: (\S+)\s+len .*?, tx:\s*(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev [0-9A-F/]+, desc: (.*)$`)
	walRel   = regexp.MustCompile(`rel (\d+)/(\d+)/(\d+)`)
	walMulti = regexp.MustCompile(`(\d+) tuples|ntuples: (\d+)`)
	walSub   = regexp.MustCompile(`; subxacts: ([\d ]+)`)
)

// ParseWALDump reads what pg_waldump prints (versions 14 to 18) and returns the transactions that were committed, in their order. What it
// does not know it leaves out. cut reports that there was too much to keep all of it.
func ParseWALDump(r io.Reader) (committed []WALTransaction, cut bool, err error) {
	touched := map[uint64]map[WALRelation]*WALRelation{}
	n := 0
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20) // a commit lists every invalidation
	for lines.Scan() {
		m := walLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		xid, _ := strconv.ParseUint(m[2], 10, 64) // digits only
		switch {
		case m[1] == "Transaction":
			if t, ok := commit(xid, m[3], m[4], touched); ok {
				committed = append(committed, t)
			}
		case (strings.HasPrefix(m[1], "Heap")) && xid != 0:
			if n++; n > maxTouched*10 {
				cut = true
				continue
			}
			touch(touched, xid, m[4])
		}
		if len(committed) >= maxTouched {
			return committed, true, nil
		}
	}
	return committed, cut, lines.Err()
}

// touch counts one record of a heap.
func touch(touched map[uint64]map[WALRelation]*WALRelation, xid uint64, desc string) {
	what, _, _ := strings.Cut(desc, " ")
	what = strings.TrimSuffix(what, "+INIT")
	var ins, upd, del int
	truncated := false
	switch what {
	case "INSERT":
		ins = 1
	case "MULTI_INSERT":
		ins = 1
		if m := walMulti.FindStringSubmatch(desc); m != nil {
			ins, _ = strconv.Atoi(m[1] + m[2])
		}
	case "UPDATE", "HOT_UPDATE":
		upd = 1
	case "DELETE":
		del = 1
	case "TRUNCATE":
		truncated = true
	default:
		return
	}
	m := walRel.FindStringSubmatch(desc)
	if m == nil {
		return
	}
	key := WALRelation{Tablespace: oid(m[1]), Database: oid(m[2]), Filenode: oid(m[3])}
	of := touched[xid]
	if of == nil {
		of = map[WALRelation]*WALRelation{}
		touched[xid] = of
	}
	rel := of[key]
	if rel == nil {
		rel = &WALRelation{Tablespace: key.Tablespace, Database: key.Database, Filenode: key.Filenode}
		of[key] = rel
	}
	rel.Inserted, rel.Updated, rel.Deleted, rel.Truncated = rel.Inserted+ins, rel.Updated+upd, rel.Deleted+del, rel.Truncated || truncated
}

func oid(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

// commit ends a transaction, and takes what its subtransactions did.
func commit(xid uint64, lsn, desc string, touched map[uint64]map[WALRelation]*WALRelation) (WALTransaction, bool) {
	what, rest, _ := strings.Cut(desc, " ")
	if what != "COMMIT" && what != "COMMIT_PREPARED" {
		if strings.HasPrefix(what, "ABORT") {
			delete(touched, xid)
		}
		return WALTransaction{}, false
	}
	t := WALTransaction{XID: xid}
	t.LSN, _ = cluster.ParseLSN(lsn) // of the pattern's form
	stamp, _, _ := strings.Cut(rest, ";")
	if what == "COMMIT_PREPARED" {
		if before, after, ok := strings.Cut(stamp, ": "); ok {
			if n, err := strconv.ParseUint(before, 10, 64); err == nil {
				t.XID = n
			}
			stamp = after
		}
	}
	t.Committed, _ = time.Parse("2006-01-02 15:04:05.999999 MST", strings.TrimSpace(stamp))
	all := map[WALRelation]WALRelation{}
	ids := []uint64{t.XID}
	if m := walSub.FindStringSubmatch(desc); m != nil {
		for _, s := range strings.Fields(m[1]) {
			id, _ := strconv.ParseUint(s, 10, 64)
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		for key, r := range touched[id] {
			a := all[key]
			a.Tablespace, a.Database, a.Filenode = key.Tablespace, key.Database, key.Filenode
			a.Inserted, a.Updated, a.Deleted, a.Truncated = a.Inserted+r.Inserted, a.Updated+r.Updated, a.Deleted+r.Deleted, a.Truncated || r.Truncated
			all[key] = a
		}
		delete(touched, id)
	}
	for _, r := range all {
		t.Relations = append(t.Relations, r)
	}
	slices.SortFunc(t.Relations, func(a, b WALRelation) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Filenode, b.Filenode))
	})
	return t, true
}
