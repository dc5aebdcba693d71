package runbook

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

const member = `cluster: main
name: pg1
members:
  - {name: pg1, address: 10.0.0.11, location: room 1}
  - {name: pg2, address: 10.0.0.12, location: "room 2 | rack 7"}
  - {name: w1, address: 10.0.0.14, kind: witness}
`

func node(t *testing.T, more string) config.Node {
	t.Helper()
	n, err := config.ParseNode("file", []byte(member+more), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func at(days int) int64 { return now.AddDate(0, 0, -days).UnixMilli() }

// whole is a site of which everything is known.
func whole(t *testing.T) Site {
	n := node(t, "vip:\n  - {address: 10.0.0.50}\n  - {address: 10.0.0.51, follows: standby}\n")
	agreed, err := config.ParseCluster("agreed", []byte("contacts: ['Anna Example, on call, +49 30 123456']\nnotify: {chat: 'https://chat.example.org/hooks/s3cret', syslog: true}\nallow_single_copy: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	st := &api.Status{Self: "pg2", Primary: "pg2", Commit: api.Commit{Text: "each commit is on 2 of 2 hosts"}}
	for i, m := range n.Founders() {
		st.Members = append(st.Members, api.Member{Member: m, Role: []api.Role{api.Standby, api.Primary, api.Witness}[i]})
	}
	return Site{
		Node: n, File: config.DefaultPath, Agreed: agreed, Status: st, Now: now, Version: "1.0", Asked: true, Archive: Archive{Mode: "on", LastOK: now.Add(-time.Minute)},
		History: []api.Entry{{Kind: "bootstrap", At: at(400)}, {Kind: "failover", At: at(300), OutageMS: 2345}, {Kind: "switchover", At: at(100), OutageMS: 700}, {Kind: "switchover", At: at(20), OutageMS: 840}},
	}
}

func TestGolden(t *testing.T) {
	alone := Site{File: config.DefaultPath, Node: node(t, "ports: {write: 6000}\netcd: {endpoints: ['https://10.0.0.21:2379'], ca_file: /ca}\npostgres: {wal_dir: /wal}\n"), Now: now, Version: "1.0"}
	alone.Agreed = alone.Node.Bootstrap
	for name, s := range map[string]Site{"whole": whole(t), "alone": alone} {
		got, err := Markdown(s)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".md")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s (%v): got\n%s", path, err, got)
		}
		if strings.Contains(string(got), "s3cret") {
			t.Errorf("%s: a secret is printed", name)
		}
	}
}

// TestDue: what was never tried, or long ago, stands out.
func TestDue(t *testing.T) {
	v := view{whole(t)}
	if got, want := v.last("failover"), "**due**: last 2025-08-05 12:00, 2.3 s without writes"; got != want {
		t.Errorf("long ago: %s", got)
	}
	if got, want := v.last("switchover"), "2026-05-12 12:00, 0.8 s without writes"; got != want {
		t.Errorf("lately, the newest of two: %s", got)
	}
	v.History = nil
	if got := v.last("switchover"); !strings.HasPrefix(got, "**due**: never") {
		t.Errorf("never: %s", got)
	}
	for want, a := range map[string]Archive{
		"**off**": {Mode: "off"}, "**on, and nothing": {Mode: "on"}, "**fails** since 2026-06-01 12:00": {Mode: "always", LastOK: now.Add(-time.Hour), Failed: now}, "last 2026-06-01 12:00": {Mode: "on", LastOK: now, Failed: now.Add(-time.Hour)},
	} {
		v.Archive = a
		if got := v.archived(); !strings.HasPrefix(got, want) {
			t.Errorf("%+v: %s, want %s", a, got, want)
		}
	}
	if v.Other() != "pg1" {
		t.Errorf("to be named in examples: %s", v.Other())
	}
	v.Status.Primary = "pg1"
	if v.Other() != "pg2" {
		t.Errorf("to be named in examples: %s", v.Other())
	}
}
