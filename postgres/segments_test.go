package postgres

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"standfast/cluster"
	"standfast/pgconf"
)

const testSegment = 1 << 20

// walFile makes a segment that holds WAL from its start to end, by pages with proper headers and content that depends on
// the position only; the rest is filled with the given byte, as a recycled file is.
func walFile(t *testing.T, dir string, seg pgconf.Segment, end cluster.LSN, rest byte) {
	t.Helper()
	b := make([]byte, testSegment)
	start := seg.Start(testSegment)
	for i := range b {
		at := start + cluster.LSN(i)
		switch {
		case at >= end && at/walPage == end/walPage && end%walPage != 0:
			b[i] = 0 // a page is written whole, zeros behind its last record
		case at >= end:
			b[i] = rest
		default:
			b[i] = byte(at>>3) | 1
		}
	}
	for off := 0; off < testSegment && start+cluster.LSN(off) < end; off += walPage {
		binary.NativeEndian.PutUint16(b[off:], 0xD110)
		binary.NativeEndian.PutUint64(b[off+8:], uint64(start)+uint64(off))
	}
	if err := os.WriteFile(filepath.Join(dir, seg.Name(testSegment)), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDropShortSegments(t *testing.T) {
	const fork = cluster.LSN(5*testSegment + 300_000)
	old, next := pgconf.SegmentAt(1, fork, testSegment), pgconf.SegmentAt(3, fork, testSegment)
	for name, c := range map[string]struct {
		child, parent cluster.LSN // where their WAL ends; 0: no such file
		rest          byte
		differ        bool
		want          bool // the child goes
	}{
		"ends below the fork":               {child: fork - 100_000, parent: fork, want: true},
		"ends in the fork's page":           {child: fork - 8, parent: fork, want: true},
		"ends at the fork":                  {child: fork, parent: fork + 50_000, want: true},
		"begins the new timeline":           {child: fork + 8, parent: fork},
		"is far into the new timeline":      {child: fork + 100_000, parent: fork},
		"has rubbish behind":                {child: fork - 100_000, parent: fork, rest: 0xA5, want: true},
		"is the only copy":                  {child: fork - 100_000},
		"holds more than the parent's file": {child: fork - 8, parent: fork - 200_000},
		"differs from the parent's file":    {child: fork - 100_000, parent: fork, differ: true},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			wal := filepath.Join(data, "pg_wal")
			if err := os.Mkdir(wal, 0o700); err != nil {
				t.Fatal(err)
			}
			history := pgconf.RenderHistory(cluster.History{{Timeline: 1, End: fork}}, "test")
			if err := os.WriteFile(filepath.Join(wal, pgconf.HistoryName(3)), []byte(history), 0o600); err != nil {
				t.Fatal(err)
			}
			walFile(t, wal, next, c.child, c.rest)
			if c.parent != 0 {
				walFile(t, wal, old, c.parent, 0)
			}
			if c.differ {
				f, err := os.OpenFile(filepath.Join(wal, old.Name(testSegment)), os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte{0xFF, 0xFE}, 1000); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			if err := (Config{DataDir: data}).dropShort(testSegment); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(filepath.Join(wal, next.Name(testSegment)))
			if gone := os.IsNotExist(err); gone != c.want {
				t.Errorf("removed: %v, want %v", gone, c.want)
			}
		})
	}
}

func TestTimelineOf(t *testing.T) {
	const fork = cluster.LSN(5*testSegment + 300_000)
	data := t.TempDir()
	wal := filepath.Join(data, "pg_wal")
	if err := os.Mkdir(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		pgconf.HistoryName(2): pgconf.SkippedHistory,
		pgconf.HistoryName(3): pgconf.RenderHistory(cluster.History{{Timeline: 1, End: fork}}, "test"),
		pgconf.Segment{Timeline: 1, Number: 4}.Name(testSegment): "",
		pgconf.Segment{Timeline: 1, Number: 5}.Name(testSegment): "",
		pgconf.Segment{Timeline: 3, Number: 5}.Name(testSegment): "",
		pgconf.Segment{Timeline: 1, Number: 6}.Name(testSegment): "", // made ready before the fork
	} {
		if err := os.WriteFile(filepath.Join(wal, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for lsn, want := range map[cluster.LSN]cluster.Timeline{
		0:                   0,
		fork - 1:            1,
		fork:                1, // not a byte of the new timeline yet
		fork + 1:            3,
		5 * testSegment:     1,
		6 * testSegment:     3, // its last byte is in segment 5
		6*testSegment + 100: 1,
		20 * testSegment:    0,
	} {
		if got, err := (Config{DataDir: data}).timelineOf(lsn, testSegment); err != nil || got != want {
			t.Errorf("WAL that ends at %s is on timeline %d, %v; want %d", lsn, got, err, want)
		}
	}
}

func TestComplaint(t *testing.T) {
	said := "pg_basebackup: checkpoint completed\n  10/20 kB (50%)\r\npg_basebackup: error: directory \"x\" exists but is not empty\npg_basebackup: removing contents of data directory \"y\"\n"
	if got, want := complaint("pg_basebackup", said), `error: directory "x" exists but is not empty`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := complaint("initdb", "a\nb\n"); got != "a; b" {
		t.Errorf("got %q", got)
	}
}
