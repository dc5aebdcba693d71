package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/playground/load"
)

// TestResults: lines that come in pieces are kept by section behind the machine, resuming counts them, and starting anew
// drops only what will be measured.
func TestResults(t *testing.T) {
	dir := t.TempDir()
	all := limits{only: sections}
	r, err := openResults(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, f := range []failover{{Kind: "a", Outage: 1.5}, {Kind: "a"}, {Kind: "b"}} {
		b, _ := json.Marshal(f)
		l, _ := json.Marshal(line{"failover", b})
		text = append(append(text, l...), '\n')
	}
	for _, piece := range [][]byte{text[:10], text[10:200], text[200:], []byte(`{"section":"idle","result":{"node":"pg1"}}` + "\n"),
		[]byte(`{"section":"router","result":{"mode":"connect","clients":16}}` + "\n" + `{"section":"health","result":{"server":"running","connections":"kept alive"}}` + "\n")} {
		if _, err := r.Write(piece); err != nil || r.err != nil {
			t.Fatal(err, r.err)
		}
	}
	got, m, err := read[failover](r.file("failover"))
	if err != nil || len(got) != 3 || got[0].Outage != 1.5 || m.Cores == 0 || m.Date == "" {
		t.Errorf("read %+v of %+v, %v", got, m, err)
	}
	all.resume = true
	if r, err = openResults(dir, all); err != nil {
		t.Fatal(err)
	}
	if done := parseDone(r.done()); done["a"] != 2 || done["b"] != 1 || done["idle"] != 1 || done["router/connect/clients=16"] != 1 || done["health/running, kept alive"] != 1 || len(done) != 5 {
		t.Errorf("done: %v", done)
	}
	if _, err = openResults(dir, limits{only: []string{"failover"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.file("failover")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("results that will be measured anew are still there: %v", err)
	}
	if _, err := os.Stat(r.file("idle")); err != nil {
		t.Errorf("results of another section are gone: %v", err)
	}
	if _, err := r.Write([]byte("a word too many\n")); err != nil || r.err == nil {
		t.Errorf("what is no result was taken for one: %v", err)
	}
}

func TestParseBeside(t *testing.T) {
	got := parseBeside(`goos: linux
BenchmarkBesideHAProxy/session/clients=1
    bench_test.go:77: direct 8104 (8000-8200)  HAProxy 6000 (5900-6100)  router 6120 (6000-6200)  router/HAProxy 1.020 (median of rounds 1.019)
BenchmarkBesideHAProxy/session/clients=1-2         	       1	         0 ns/op	      6000 HAProxy-tps	      8104 direct-tps	         1.020 of-HAProxy	      6120 router-tps
BenchmarkBesideHAProxy/connect/clients=64-2        	       1	         0 ns/op	       500.5 HAProxy-tps	       610 direct-tps	         1.020 of-HAProxy	       510 router-tps
PASS
`)
	want := []besideRun{{"session", 1, 8104, 6000, 6120}, {"connect", 64, 610, 500.5, 510}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v", got)
	}
}

// TestCount: the outage is the longest silence of the whole run, and each commit lies in its bin.
func TestCount(t *testing.T) {
	const ms = time.Millisecond
	var ops []load.Op
	for at := 10 * ms; at <= 2000*ms; at += 10 * ms {
		if at <= 500*ms || at > 620*ms {
			ops = append(ops, load.Op{ID: int64(at), Begin: at - 5*ms, End: at, Executor: load.Executor{Timeline: 1}})
		}
	}
	ops = append(ops, load.Op{Begin: 2000 * ms, End: 2001 * ms, Outcome: load.Refused})
	var f failover
	f.count(ops, 505*ms)
	if f.Outage != 130 || f.OutageFrom != -5 || f.Refused != 1 || f.Acknowledged != len(ops)-1 || f.Overlaps != 0 {
		t.Errorf("%+v", f)
	}
	inBins := 0
	for _, n := range f.Bins {
		inBins += n
	}
	if f.FirstBin != -200 || len(f.Bins) != 53 || inBins != 41 {
		t.Errorf("%d commits in %d bins from %v", inBins, len(f.Bins), f.FirstBin)
	}
	if tl, ok := timeline([]failover{{Kind: "x", Outage: 900}, f, {Kind: "x", Outage: 10}}, ""); !ok || tl.OutTo-tl.OutFrom != 130*ms {
		t.Errorf("timeline: %+v", tl)
	}
}

// TestReport fills the real document, in which every section must have its place.
func TestReport(t *testing.T) {
	docs := t.TempDir()
	page, err := os.ReadFile("../../docs/BENCHMARKS.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(docs, "BENCHMARKS.md"), page, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := openResults(filepath.Join(docs, "bench"), limits{})
	if err != nil {
		t.Fatal(err)
	}
	for section, result := range map[string]any{
		"failover": failover{Kind: kinds[0].name, Outage: 87, Acknowledged: 4711, Bins: []int{1, 0, 2}, Steps: []step{{"promoted", "pg2", 5}}},
		"router":   besideRun{"session", 16, 59000, 33000, 33330}, "health": healthRun{Server: "running", PerSecond: 23456, Code: 200},
		"idle": idleNode{Node: "pg1", Role: "primary"},
	} {
		if err := r.add(section, result); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time over its own work
		if err := report(docs); err != nil {
			t.Fatal(err)
		}
	}
	page, err = os.ReadFile(filepath.Join(docs, "BENCHMARKS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"**87 ms**", "| 4711 |", "**33330** | 1.01 |", "**23456**", "pg1, primary", "Measured on: "} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is not in the report", want)
		}
	}
	for _, picture := range []string{"failover.svg", "outages.svg"} {
		if b, err := os.ReadFile(filepath.Join(docs, "img", picture)); err != nil || !strings.Contains(string(b), "87 ms") {
			t.Errorf("%s: %v", picture, err)
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-only", "failovers"}, {"-rounds", "0"}, {"-no-such-flag"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	if l, err := parse([]string{"-only", "idle,health"}); err != nil || !l.wants("idle") || l.wants("failover") {
		t.Errorf("%+v, %v", l, err)
	}
}
