package render_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/config"
	"standfast/render"
)

var update = flag.Bool("update", false, "write testdata anew")

const (
	plain = `cluster: main
members:
  - {name: pg1, address: 10.0.0.11}
  - {name: pg2, address: 10.0.0.12}
  - {name: pg3, address: 10.0.0.13, priority: 50}
vip: [{address: 10.0.0.50}]
`
	rich = `cluster: main
members:
  - {name: pg1, address: 10.0.0.11, priority: 20}
  - {name: pg2, address: 10.0.0.12, ports: {write: 5010, read: 5011, health: 8010, postgres: 5433}}
  - {name: pg3, address: "fd00::13"}
  - {name: w1, address: 10.0.0.14, kind: witness}
vip: [{address: 10.0.0.50}, {address: "fd00::50"}, {address: 10.0.1.50, follows: standby, interface: b0, prefix: 24}]
bootstrap: {router: {max_sessions: 90, max_waiting: 200, wait: 20s, read_max_lag_bytes: 0}}
`
	bare = `{cluster: main, members: [{name: pg1, address: 10.0.0.11}, {name: pg2, address: 10.0.0.12}, {name: pg3, address: 10.0.0.13}]}`
)

func site(t *testing.T, text string) render.Site {
	t.Helper()
	d, err := config.ParseDeployment("cluster.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return render.Of(d.Node(""))
}

// all are the texts that are kept in testdata and shown to the programs themselves.
func all(t *testing.T) map[string][]byte {
	t.Helper()
	here := map[string]string{"10.0.0.50": "d0", "fd00::50": "d0"}
	out := map[string][]byte{}
	add := func(name string, text []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = text
	}
	for name, text := range map[string]string{"plain": plain, "rich": rich} {
		s := site(t, text)
		b, err := render.HAProxy(s, "pg2")
		add("haproxy-"+name, b, err)
		b, err = render.Keepalived(s, "pg1", here)
		add("keepalived-"+name, b, err)
	}
	b, err := render.HAProxy(site(t, plain), "")
	add("haproxy-elsewhere", b, err)
	b, err = render.PgBouncer(site(t, plain))
	add("pgbouncer-plain", b, err)
	b, err = render.PgBouncer(site(t, bare))
	add("pgbouncer-bare", b, err)
	return out
}

func TestTexts(t *testing.T) {
	for name, got := range all(t) {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s differs from testdata (go test ./render -update writes it anew):\n%s", name, got)
		}
		if first, _, _ := strings.Cut(string(got), "\n"); !strings.Contains(first, render.Mark) {
			t.Errorf("%s: the first line does not say that it is ours: %s", name, first)
		}
	}
}

// TestPriorities: no two hosts may claim an address with the same one, whatever the members' own are.
func TestPriorities(t *testing.T) {
	s := site(t, rich)
	seen := map[string]string{}
	for _, name := range []string{"pg1", "pg2"} {
		b, err := render.Keepalived(s, name, map[string]string{"10.0.0.50": "d0", "fd00::50": "d0"})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if p, ok := strings.CutPrefix(strings.TrimSpace(line), "priority "); ok {
				if other := seen[p]; other != "" && other != name {
					t.Errorf("%s and %s have the priority %s", other, name, p)
				}
				seen[p] = name
			}
		}
	}
	if seen["99"] != "pg2" && seen["100"] != "pg2" || seen["98"] != "pg1" {
		t.Errorf("the member of higher priority does not come first: %v", seen)
	}
}

func TestRefusals(t *testing.T) {
	s := site(t, plain)
	for name, f := range map[string]func() ([]byte, error){
		`"pg9" is no member of main; there are pg1, pg2, pg3`: func() ([]byte, error) { return render.HAProxy(s, "pg9") },
		"the interface of 10.0.0.50 on pg1 is not known here": func() ([]byte, error) { return render.Keepalived(s, "pg1", nil) },
		"there is no floating address":                        func() ([]byte, error) { return render.Keepalived(site(t, bare), "pg1", nil) },
		"w1 is a witness":                                     func() ([]byte, error) { return render.Keepalived(site(t, rich), "w1", nil) },
		"are not of one family": func() ([]byte, error) {
			return render.Keepalived(site(t, strings.Replace(plain, "10.0.0.50", `"fd00::50"`, 1)), "pg1", map[string]string{"fd00::50": "d0"})
		},
		"the address of pg2 is the name two.example": func() ([]byte, error) {
			return render.Keepalived(site(t, strings.Replace(plain, "10.0.0.12", "two.example", 1)), "pg1", map[string]string{"10.0.0.50": "d0"})
		},
		"the members' ports differ (pg2 has 5010 and 5011)": func() ([]byte, error) {
			r := site(t, rich)
			r.VIP = nil
			return render.PgBouncer(r)
		},
	} {
		if text, err := f(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %q and %v, want %s", text, err, name)
		}
	}
}
