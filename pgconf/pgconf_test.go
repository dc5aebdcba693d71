package pgconf_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"standfast/cluster"
	"standfast/pgconf"
)

func TestSyncNames(t *testing.T) {
	for _, c := range []struct {
		rule cluster.Rule
		want string
	}{
		{cluster.NewRule(1, "pg2", "pg3"), `ANY 1 ("pg2","pg3")`},
		{cluster.NewRule(2, "a", "b", `we"ird`), `ANY 2 ("a","b","we""ird")`},
		{cluster.NewRule(0, "pg2"), ``},
		{cluster.NewRule(1), `ANY 1 ("standfast_nobody")`},
		{cluster.NewRule(3, "a", "b"), `ANY 1 ("standfast_nobody")`},
	} {
		if got := pgconf.SyncNames(c.rule); got != c.want {
			t.Errorf("SyncNames(%v) = %s, want %s", c.rule, got, c.want)
		}
	}
}

func TestParseSyncNames(t *testing.T) {
	for in, want := range map[string]cluster.Rule{
		"":                               {},
		"pg2":                            cluster.NewRule(1, "pg2"),
		"pg3, PG2":                       cluster.NewRule(1, "pg2", "pg3"),
		`2 (a,"b c",c)`:                  cluster.NewRule(2, "a", "b c", "c"),
		`first 1 ("x,y")`:                cluster.NewRule(1, "x,y"),
		`ANY 1 ("standfast_nobody")`:     cluster.NewRule(1),
		`ANY 1 ("standfast_nobody","a")`: cluster.NewRule(1, "a"),
		`"a(b"`:                          cluster.NewRule(1, "a(b"),
	} {
		if got, err := pgconf.ParseSyncNames(in); err != nil || !got.Equal(want) {
			t.Errorf("ParseSyncNames(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"*", "ANY 1 (*)", "ANY x (a)", "ANY 1 (a", "ANY 0 (a)", `"a`, "a b", `""`, "ANY 1 ()", "LAST 1 (a)"} {
		if got, err := pgconf.ParseSyncNames(in); err == nil {
			t.Errorf("ParseSyncNames(%q) = %v, want an error", in, got)
		}
	}
}

func TestSyncNamesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := rapid.SliceOfN(rapid.StringMatching(`[ -~]{1,12}`), 0, 6).Draw(t, "of")
		r := cluster.NewRule(rapid.IntRange(0, 7).Draw(t, "k"), of...)
		got, err := pgconf.ParseSyncNames(pgconf.SyncNames(r))
		if err != nil || !got.Same(r) || r.K <= len(r.Of) && r.K > 0 && !got.Equal(r) {
			t.Fatalf("%v became %v, %v", r, got, err)
		}
	})
}

func FuzzParseSyncNames(f *testing.F) {
	f.Add(`ANY 2 ("a","b""c")`)
	f.Add("a, b")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := pgconf.ParseSyncNames(s)
		if err != nil {
			return
		}
		again, err := pgconf.ParseSyncNames(pgconf.SyncNames(r))
		if err != nil || !again.Same(r) {
			t.Fatalf("%q: %v became %v, %v", s, r, again, err)
		}
	})
}

func TestQuoting(t *testing.T) {
	if got := pgconf.Value(`it's \ done`); got != `'it''s \\ done'` {
		t.Errorf("Value: %s", got)
	}
	if got := pgconf.Literal(`it's`); got != `'it''s'` {
		t.Errorf("Literal: %s", got)
	}
	if got := pgconf.Literal(`a\b`); got != `E'a\\b'` {
		t.Errorf("Literal: %s", got)
	}
	ci := pgconf.Conninfo{{"host", "/run/my dir"}, {"port", "5432"}, {"user", ""}, {"options", "-c a=1"}, {"password", `x'\`}}
	if got, want := ci.String(), `host='/run/my dir' port=5432 options='-c a=1' password='x\'\\'`; got != want {
		t.Errorf("Conninfo: %s, want %s", got, want)
	}
	if got := pgconf.SlotName("Pg-1.Example"); got != "pg_1_example" {
		t.Errorf("SlotName: %s", got)
	}
}

func TestAutoRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOf(rapid.StringMatching(`[a-z_]{1,8}(\.[a-z_]{1,5})?`), rapid.StringMatching(`[ -~\n\r]{0,30}`)).Draw(t, "m")
		got, err := pgconf.Auto(pgconf.RenderAuto(m))
		if err != nil || len(got) != len(m) {
			t.Fatalf("%q became %q, %v", m, got, err)
		}
		for k, v := range m {
			if got[k] != v {
				t.Fatalf("%s: %q became %q", k, v, got[k])
			}
		}
	})
}

func TestAuto(t *testing.T) {
	got, err := pgconf.Auto("# x\nwork_mem = '4MB'\n\nPort=5433\nwork_mem = '8MB'\n")
	if err != nil || got["work_mem"] != "8MB" || got["port"] != "5433" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"include 'x'", "a = 'b", "a 'b'", "= 'x'", "a = b c"} {
		if got, err := pgconf.Auto(bad); err == nil {
			t.Errorf("Auto(%q) = %q, want an error", bad, got)
		}
	}
}

func TestHistory(t *testing.T) {
	in := "1\t0/5000060\tno recovery target specified\n\n# note\n  3\tA/B\tbefore 2026-01-01\n"
	want := cluster.History{{Timeline: 1, End: 0x5000060}, {Timeline: 3, End: 0xA0000000B}}
	got, err := pgconf.ParseHistory(in)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := pgconf.ParseHistory(pgconf.SkippedHistory); err != nil || got != nil {
		t.Errorf("a skipped number has ancestors: %v, %v", got, err)
	}
	for _, bad := range []string{"1", "x 0/1", "2 0/1 r\n1 0/2 r", "1 01"} {
		if got, err := pgconf.ParseHistory(bad); err == nil {
			t.Errorf("ParseHistory(%q) = %v, want an error", bad, got)
		}
	}
	if tl, ok := pgconf.ParseHistoryName("0000000A.history"); !ok || tl != 10 || pgconf.HistoryName(10) != "0000000A.history" {
		t.Errorf("history name: %d, %v", tl, ok)
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add("1\t0/5000060\tno recovery target specified\n")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := pgconf.ParseHistory(s)
		if err != nil {
			return
		}
		again, err := pgconf.ParseHistory(pgconf.RenderHistory(h, "again"))
		if err != nil || !slices.Equal(h, again) {
			t.Fatalf("%q: %v became %v, %v", s, h, again, err)
		}
	})
}

func TestSegmentRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := uint64(1) << rapid.IntRange(20, 30).Draw(t, "log2 size")
		lsn := cluster.LSN(rapid.Uint64().Draw(t, "lsn"))
		tl := cluster.Timeline(rapid.Uint32().Draw(t, "timeline"))
		s := pgconf.SegmentAt(tl, lsn, size)
		if s.Start(size) > lsn || lsn-s.Start(size) >= cluster.LSN(size) {
			t.Fatalf("%s is not in the segment that begins at %s", lsn, s.Start(size))
		}
		if got, ok := pgconf.ParseSegment(s.Name(size), size); !ok || got != s {
			t.Fatalf("%v became %v, %v", s, got, ok)
		}
	})
}

func TestSegmentName(t *testing.T) {
	const size = 16 << 20
	if got := pgconf.SegmentAt(3, 0x1_FF00_0010, size).Name(size); got != "0000000300000001000000FF" {
		t.Error(got)
	}
	for _, bad := range []string{"0000000300000001000000FF.partial", "00000003.history", "000000030000000100000100", "00000003000000010000000g", ""} {
		if s, ok := pgconf.ParseSegment(bad, size); ok {
			t.Errorf("%q was read as %v", bad, s)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]string{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": "15.18",
		"PostgreSQL 14.2":                   "14.2",
		"postgres (PostgreSQL) 18beta1":     "18.0",
		"pg_basebackup (PostgreSQL) 17.6\n": "17.6",
	} {
		if v, err := pgconf.ParseVersion(in); err != nil || v.String() != want {
			t.Errorf("ParseVersion(%q) = %v, %v", in, v, err)
		}
	}
	if v, err := pgconf.ParseVersion("bash 5.2"); err == nil {
		t.Errorf("bash is %v", v)
	}
	if v := pgconf.VersionNum(150018); v.Major != 15 || v.Minor != 18 {
		t.Errorf("VersionNum: %v", v)
	}
}

const controldata = `pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7312345678901234567
Database cluster state:               shut down in recovery
pg_control last modified:             Mon Nov 23 19:18:00 2026
Latest checkpoint location:           0/3000060
Latest checkpoint's REDO location:    0/3000028
Latest checkpoint's REDO WAL file:    000000020000000000000003
Latest checkpoint's TimeLineID:       2
Minimum recovery ending location:     0/3000110
Min recovery ending loc's timeline:   2
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
Data page checksum version:           1
`

func TestParseControl(t *testing.T) {
	c, err := pgconf.ParseControl(controldata)
	if err != nil {
		t.Fatal(err)
	}
	if c.SystemID != "7312345678901234567" || !c.Clean() || c.SegmentSize != 16<<20 || !c.Checksums || !c.LogHints ||
		c.Checkpoint != (cluster.Position{Timeline: 2, LSN: 0x3000060}) || c.MinRecovery.LSN != 0x3000110 || c.Redo != 0x3000028 ||
		c.Floors["max_connections"] != 100 || c.Floors["max_locks_per_transaction"] != 64 {
		t.Errorf("%+v", c)
	}
	if c, err := pgconf.ParseControl(strings.Replace(controldata, "0/3000110", "nothing", 1)); err == nil {
		t.Errorf("bad output was read as %+v", c)
	}
	if _, err := pgconf.ParseControl("pg_controldata: fatal"); err == nil {
		t.Error("no output was read as a control file")
	}
}

func TestHBA(t *testing.T) {
	site := []string{"host  all all 10.0.0.0/8   md5 # ours", "local all app trust"}
	open := pgconf.HBA{Superuser: "postgres", TLS: true, Open: true, Site: site}.String()
	if !pgconf.IsOpen(open) || !strings.HasSuffix(open, strings.Join(site, "\n")+"\n") {
		t.Errorf("the site's lines are not kept as they are:\n%s", open)
	}
	closed := pgconf.HBA{Superuser: "postgres", TLS: true, Site: site}.String()
	if pgconf.IsOpen(closed) || strings.Contains(closed, "trust") || !strings.HasSuffix(closed, "host all,replication all all reject\n") {
		t.Errorf("closed:\n%s", closed)
	}
	receiving := pgconf.HBA{Superuser: "postgres", TLS: true, Open: true, Site: site, Receivers: []string{"walsink", "bar man", "walsink"}}
	lines := "hostssl replication \"bar man\" all scram-sha-256\nhostssl replication \"walsink\" all scram-sha-256\n"
	if got := receiving.String(); got != open+lines {
		t.Errorf("with replication clients:\n%s", got)
	}
	if receiving.Open = false; receiving.String() != closed {
		t.Errorf("replication clients in a closed file:\n%s", receiving)
	}
	for _, f := range []string{open, closed} {
		cert := strings.Index(f, "hostssl replication,postgres standfast_replication all cert map=standfast_members")
		reject := strings.Index(f, "host all,replication standfast_replication,standfast_rewind all reject")
		if cert < 0 || reject < cert {
			t.Errorf("replication is not bound to certificates:\n%s", f)
		}
	}
	if none := (pgconf.HBA{Superuser: "postgres", Open: true}).String(); !strings.Contains(none, "host all all all scram-sha-256") || strings.Contains(none, "hostssl") {
		t.Errorf("without lines of the site's:\n%s", none)
	}
}

func TestIdent(t *testing.T) {
	got := pgconf.Ident{Superuser: "postgres", OSUsers: []string{"root", "postgres", "root"}, Members: []string{"pg1"}, Site: []string{"m a b"}}.String()
	want := `standfast "postgres" "postgres"
standfast "root" "postgres"
standfast_members "pg1" standfast_replication
standfast_members "pg1" standfast_rewind
m a b
`
	if !strings.HasSuffix(got, want) {
		t.Errorf("got:\n%s", got)
	}
}
