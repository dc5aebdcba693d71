package postgres

import (
	"fmt"
	"strconv"
	"testing"

	"standfast/measure"
)

// TestMeasureIsBounded: a site with many databases and receivers gets so many series and no more, and the totals stay right.
func TestMeasureIsBounded(t *testing.T) {
	p, m := &measureParser{}, &measure.Postgres{}
	row := func(name string, n int) [][]byte {
		r := [][]byte{[]byte(name)}
		for range n {
			r = append(r, []byte("1"))
		}
		return r
	}
	p.database(m, row("", 15)) // what all share
	const all = measure.MostDatabases + 7
	for i := range all {
		p.database(m, row(fmt.Sprint("d", i), 15))
	}
	if last := m.Databases[len(m.Databases)-1]; p.err != nil || len(m.Databases) != measure.MostDatabases+1 || last.Name != measure.Others || last.Commits != 7 || last.Size != -1 || m.ChecksumFailures != all+1 {
		t.Errorf("%d databases, the last %+v; %v", len(m.Databases), last, p.err)
	}
	for i := range measure.MostReceivers + 7 {
		p.receiver(m, row(strconv.Itoa(i), 8))
	}
	worse := row("39", 8)
	worse[2], worse[1] = []byte("4096"), []byte("0")
	p.receiver(m, worse)
	if last := m.Receivers[len(m.Receivers)-1]; p.err != nil || len(m.Receivers) != measure.MostReceivers || last.Name != "39" || last.WriteLag != 4096 || last.ReplayLag != 1 || last.Streaming {
		t.Errorf("%d receivers, the last %+v; %v", len(m.Receivers), last, p.err)
	}
	if n := len(first(make([][][]byte, 100), measure.MostSlots)); n != measure.MostSlots {
		t.Errorf("%d slots", n)
	}
}

func TestMajor(t *testing.T) {
	for version, want := range map[string]int{"15.4 (Debian 15.4-1)": 15, "17beta1": 17, "18": 18, "": 0} {
		if got := major(version); got != want {
			t.Errorf("%q: %d, want %d", version, got, want)
		}
	}
}
