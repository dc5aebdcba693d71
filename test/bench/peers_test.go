package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMissing: a resumed run measures what is lacking, each fault once before any twice.
func TestMissing(t *testing.T) {
	l := limits{runs: 3, peerRuns: 1, faults: "SIGKILL,switch"}
	var got []string
	for _, b := range l.missing("standfast", map[string]int{"peers/standfast/switchover": 2}) {
		got = append(got, b.name)
	}
	if text := strings.Join(got, ", "); text != "postmaster SIGKILL, postmaster SIGKILL, postmaster SIGKILL, switchover" {
		t.Errorf("to be measured: %s", text)
	}
	if n := len(l.missing("guide", nil)); n != 2 {
		t.Errorf("%d runs of a peer, want each fault once", n)
	}
}

func TestParseTPS(t *testing.T) {
	tps, err := parseTPS("number of failed transactions: 0 (0.000%)\nlatency average = 0.1 ms\ninitial connection time = 3.2 ms\ntps = 10858.25 (without initial connection time)\n")
	if err != nil || tps != 10858.25 {
		t.Errorf("%v, %v", tps, err)
	}
	if _, err := parseTPS("pgbench: error"); err == nil {
		t.Error("no tps, no error")
	}
}

// TestPeersReport: tables and picture hold what the raw results say.
func TestPeersReport(t *testing.T) {
	docs := t.TempDir()
	for path, text := range map[string]string{
		"bench/peers.jsonl": `{"machine":{"cores":2,"load":"0.10"}}
{"stack":"standfast","with":"postgresql-17 17.1","fault":"postmaster SIGKILL","outage_ms":250,"sessions_outage_ms":260,"other_side_outage_ms":300,"acknowledged":7}
{"stack":"standfast","with":"postgresql-17 17.1","fault":"postmaster SIGKILL","outage_ms":450,"sessions_outage_ms":460,"other_side_outage_ms":500,"acknowledged":7}
{"stack":"guide","with":"repmgr 5.5","fault":"postmaster SIGKILL","outage_ms":14600,"acknowledged":9,"lost":4,"overlaps":2}
`,
		"bench/paths.jsonl": `{"machine":{"cores":2}}
{"clients":16,"direct_tps":100,"haproxy_tps":50,"router_tps":60,"direct_again_tps":200,"fast_path_tps":198}
`,
		"img/.keep": "",
	} {
		path = filepath.Join(docs, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	table, err := peersTable(docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| postmaster SIGKILL | Standfast | 2 | **0.35 s** | 0.45 s | ≤ 0.30 s / 1.00 s | 0.36 s | 0.40 s | 14 | 0 | 0 | 0 |",
		"| postmaster SIGKILL | repmgr, HAProxy, Keepalived | 1 | **14.60 s** | 14.60 s |  | 0.00 s | 0.00 s | 9 | 4 | 1 | 0 |",
		"repmgr 5.5", "load average 0.10",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	if table, err = pathsTable(docs); err != nil || !strings.Contains(table, "| 16 | 100 | 50 | **60** | 1.20 | 200 | **198** | 0.99 |") {
		t.Errorf("%v\n%s", err, table)
	}
	if err := peersPicture(docs); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(docs, "img/peers.svg"))
	if err != nil || !strings.Contains(string(svg), "Standfast: 0.35 s") {
		t.Errorf("%v: %s", err, svg)
	}
}
