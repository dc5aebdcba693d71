package plan_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/config"
	"standfast/deploy/bundle"
	"standfast/deploy/plan"
	"standfast/deploy/probe"
)

// host is a machine in memory.
type host struct {
	facts   probe.Facts
	blocked []string // what it can't reach
	refused []string // where nobody listens
	open    int      // times that Hold was not yet released
	carries string   // what goes wrong when it carries an address
	met     probe.Met
}

func (h *host) Ask(_ context.Context, r probe.Request) (probe.Answer, error) {
	a := probe.Answer{Dial: map[string]string{}}
	if r.Look != nil {
		f := h.facts
		if f.Time.IsZero() {
			f.Time = now
		}
		a.Facts = &f
	}
	for _, e := range r.Dial {
		if slices.Contains(h.blocked, e.String()) {
			a.Dial[e.String()] = "i/o timeout"
		} else if slices.Contains(h.refused, e.String()) {
			a.Dial[e.String()] = "dial tcp: connect: connection refused"
		} else {
			a.Dial[e.String()] = ""
		}
	}
	if r.Meet != nil {
		a.Meet = &h.met
	}
	return a, nil
}

func (h *host) Hold(_ context.Context, r probe.Request) (probe.Answer, func() error, error) {
	h.open++
	a := probe.Answer{}
	if r.Carry != nil {
		a.Carry = h.carries
	}
	return a, func() error { h.open--; return nil }, nil
}

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const site = `{cluster: main, members: [{name: pg1, address: 10.0.0.11}, {name: pg2, address: 10.0.0.12}, {name: pg3, address: 10.0.0.13}], vip: [{address: 10.0.0.50}]}`

func world(t *testing.T) (plan.Site, map[string]*host) {
	t.Helper()
	d, err := config.ParseDeployment("cluster.yml", []byte(site))
	if err != nil {
		t.Fatal(err)
	}
	s := plan.Site{Deployment: d, Hosts: map[string]plan.Host{}, Down: map[string]error{}, CA: "ours", Now: func() time.Time { return now }}
	hosts := map[string]*host{}
	for _, m := range d.Members {
		hosts[m.Name] = &host{met: probe.Met{Heard: time.Millisecond, Reached: 2 * time.Millisecond}, facts: probe.Facts{
			OS: probe.OS{ID: "debian", Version: "13", Name: "Debian 13"}, CPUs: 4, Memory: 8 << 30, Systemd: true,
			Free: map[string]int64{"/var/lib/standfast": 100 << 30, "/usr": 10 << 30}, VIPs: map[string]probe.VIP{"10.0.0.50": {Interface: "eth0"}},
		}}
		s.Hosts[m.Name] = hosts[m.Name]
	}
	return s, hosts
}

// TestLook changes one thing at a time.
func TestLook(t *testing.T) {
	main := probe.Server{Version: "17", Name: "main", Port: 5432, Online: true, Dir: "/var/lib/postgresql/17/main", Start: "auto"}
	for name, c := range map[string]struct {
		change func(f *probe.Facts) // of pg2
		level  plan.Level           // "": nothing unusual
		want   string
	}{
		"all is well":       {func(*probe.Facts) {}, "", ""},
		"an older Debian":   {func(f *probe.Facts) { f.OS.Version, f.OS.Name = "12", "Debian 12" }, plan.Fail, "pg1, pg3: PostgreSQL 17; pg2: PostgreSQL 15"},
		"another system":    {func(f *probe.Facts) { f.OS = probe.OS{ID: "arch", Name: "Arch"} }, plan.Fail, "Arch is not supported"},
		"no systemd":        {func(f *probe.Facts) { f.Systemd = false }, plan.Fail, "systemd does not run"},
		"little memory":     {func(f *probe.Facts) { f.Memory = 1 << 30 }, plan.Warn, "1024 MB of memory"},
		"too little memory": {func(f *probe.Facts) { f.Memory = 1 << 28 }, plan.Fail, "256 MB of memory"},
		"a full disk":       {func(f *probe.Facts) { f.Free["/var/lib/standfast"] = 1 << 28 }, plan.Fail, "256 MB free"},
		"a slow clock":      {func(f *probe.Facts) { f.Time = now.Add(-time.Second) }, plan.Warn, "-1s from this machine's"},
		"a wrong clock":     {func(f *probe.Facts) { f.Time = now.Add(time.Hour) }, plan.Fail, "1h0m0s from this machine's"},
		"its own name":      {func(f *probe.Facts) { f.Names = map[string][]string{"pg2": {"127.0.1.1"}} }, plan.Warn, "pg2 is 127.0.1.1 there"},
		"a taken port":      {func(f *probe.Facts) { f.Ports = map[string]string{"tcp 10.0.0.12:5000": "nginx has it"} }, plan.Fail, "nginx has it"},
		"an empty server": {func(f *probe.Facts) {
			s := main
			s.Empty = true
			f.Servers = []probe.Server{s}
			f.Ports = map[string]string{"tcp 10.0.0.12:5432": "postgres has it"}
		}, "", ""},
		"a server with data": {func(f *probe.Facts) { f.Servers = []probe.Server{main} }, plan.Fail, "17/main on port 5432 holds data"},
		"one elsewhere":      {func(f *probe.Facts) { s := main; s.Port = 5433; f.Servers = []probe.Server{s} }, plan.Warn, "runs on port 5433"},
		"its own server": {func(f *probe.Facts) {
			f.Servers = []probe.Server{{Version: "17", Name: "standfast", Port: 5432, Dir: "/var/lib/standfast/data", Start: "disabled"}}
		}, "", ""},
		"another's of our name": {func(f *probe.Facts) { s := main; s.Name, s.Port = "standfast", 5433; f.Servers = []probe.Server{s} }, plan.Fail, "17/standfast has the name"},
		"from a package":        {func(f *probe.Facts) { f.Packages = map[string]string{"standfast": "1.0"} }, plan.Warn, "comes from the package standfast 1.0"},
		"another cluster":       {func(f *probe.Facts) { f.Found = probe.Standfast{Cluster: "other"} }, plan.Fail, "is a member of the cluster other"},
		"another member":        {func(f *probe.Facts) { f.Found = probe.Standfast{Cluster: "main", Name: "pg3"} }, plan.Fail, "is the member pg3"},
		"another authority":     {func(f *probe.Facts) { f.Found = probe.Standfast{Cluster: "main", Name: "pg2", CA: "theirs"} }, plan.Fail, "authority that is not this deployment's"},
		"data of nobody": {func(f *probe.Facts) {
			f.Found = probe.Standfast{Data: true, System: "PostgreSQL 17, system identifier 7"}
		}, plan.Fail, "data of a cluster that is not known: PostgreSQL 17, system identifier 7"},
		"deployed before": {func(f *probe.Facts) {
			f.Found = probe.Standfast{Cluster: "main", Name: "pg2", CA: "ours", Data: true, Running: true}
		}, "", ""},
		"a member that would move": {func(f *probe.Facts) {
			f.Found = probe.Standfast{Cluster: "main", Name: "pg2", CA: "ours", Data: true, Address: "10.0.0.22", Ports: config.Ports{EtcdPeer: 2390, Beat: 8301, Health: 9}}
		}, plan.Fail, "cluster.yml has another address (10.0.0.12, there 10.0.0.22), another port etcd_peer (2380, there 2390)"},
		"one that was never founded": {func(f *probe.Facts) {
			f.Found = probe.Standfast{Cluster: "main", Name: "pg2", CA: "ours", Address: "10.0.0.22"}
		}, "", ""},
		"an address in use":    {func(f *probe.Facts) { f.VIPs["10.0.0.50"] = probe.VIP{Interface: "eth0", Taken: "02:00:00:00:00:01"} }, plan.Fail, "10.0.0.50 answers already"},
		"an address of no one": {func(f *probe.Facts) { f.VIPs["10.0.0.50"] = probe.VIP{Error: "no interface has its subnet"} }, plan.Fail, "no interface has its subnet"},
	} {
		t.Run(name, func(t *testing.T) {
			s, hosts := world(t)
			c.change(&hosts["pg2"].facts)
			if hosts["pg2"].facts.Found.Running { // whose beats answer members only
				hosts["pg1"].blocked = []string{"udp 10.0.0.12:8301", "tcp 10.0.0.12:8301"}
				hosts["pg1"].refused = []string{"tcp 10.0.0.12:5432"} // it is cloned yet
			}
			r, err := plan.Look(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			var unusual []plan.Finding
			for _, f := range r.Findings {
				if f.Level != plan.Pass {
					unusual = append(unusual, f)
				}
			}
			if c.level == "" {
				if len(unusual) > 0 {
					t.Errorf("%+v", unusual)
				}
				return
			}
			if len(unusual) != 1 || unusual[0].Level != c.level || !strings.Contains(unusual[0].Text, c.want) {
				t.Errorf("got %+v, want %s: %s", unusual, c.level, c.want)
			}
			if r.Failed() != (c.level == plan.Fail) {
				t.Errorf("failed: %v", r.Failed())
			}
			for n, h := range hosts {
				if h.open != 0 {
					t.Errorf("%s: ports are left open", n)
				}
			}
		})
	}
}

func TestUnreachableAndBlocked(t *testing.T) {
	s, hosts := world(t)
	delete(s.Hosts, "pg3")
	s.Down["pg3"] = errors.New("connection refused")
	hosts["pg1"].blocked = []string{"udp 10.0.0.12:8301"}
	r, err := plan.Look(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, f := range r.Findings {
		if f.Level == plan.Fail {
			failed = append(failed, f.Host+" "+f.Check+": "+f.Text)
		}
	}
	want := []string{"pg3 reachable: connection refused", "pg2 reachable from pg1: no answer on udp 10.0.0.12:8301"}
	if !slices.Equal(failed, want) {
		t.Errorf("got %q, want %q", failed, want)
	}
}

// TestCarry: pg3 sees the address on pg1 and then on pg2, pg2 sees it on pg3.
func TestCarry(t *testing.T) {
	for name, c := range map[string]struct {
		change func(hosts map[string]*host)
		want   []string
	}{
		"all is well":     {func(map[string]*host) {}, []string{"pass : 10.0.0.50: each host carried it in turn; the others heard of it within 1ms and reached it within 2ms"}},
		"a filter":        {func(h map[string]*host) { h["pg2"].met = probe.Met{} }, []string{"fail pg3: carried 10.0.0.50, and pg2 did not reach it"}},
		"no announcement": {func(h map[string]*host) { h["pg2"].met.Heard = 0 }, []string{"warn pg3: carried 10.0.0.50, and pg2 did not hear it announced: it reached it after 2ms"}},
		"taken meanwhile": {func(h map[string]*host) { h["pg1"].carries = "somebody answers" }, []string{"fail pg1: can't carry 10.0.0.50 for a trial: somebody answers"}},
		"in use":          {func(h map[string]*host) { h["pg1"].facts.VIPs["10.0.0.50"] = probe.VIP{Taken: "02::1"} }, []string{"fail pg1: 10.0.0.50 answers already, from MAC 02::1"}},
		"no bell": {func(h map[string]*host) { // from pg3: then pg1 looks
			h["pg3"].blocked = []string{"udp 10.0.0.12:8301"}
			h["pg1"].met.Heard = 0
		}, []string{"warn pg2: carried 10.0.0.50, and pg1 did not hear it announced: it reached it after 2ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, hosts := world(t)
			c.change(hosts)
			r, err := plan.Look(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range r.Findings {
				if f.Check == "floating address" && !strings.Contains(f.Text, "every host has its subnet") {
					got = append(got, string(f.Level)+" "+f.Host+": "+f.Text)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			for n, h := range hosts {
				if h.open != 0 {
					t.Errorf("%s holds the address still", n)
				}
			}
		})
	}
}

// TestVersions: which PostgreSQL all hosts get, from where.
func TestVersions(t *testing.T) {
	for name, c := range map[string]struct {
		os     probe.OS
		more   string // of cluster.yml
		gets   string // "": none
		failed string
	}{
		"the distribution's":      {probe.OS{ID: "debian", Version: "13"}, "", "17", ""},
		"the same, named":         {probe.OS{ID: "debian", Version: "13"}, "postgresql: 17", "17", ""},
		"not the distribution's":  {probe.OS{ID: "debian", Version: "13"}, "postgresql: 18", "18", "brings PostgreSQL 17, not 18"},
		"PGDG's":                  {probe.OS{ID: "debian", Version: "13"}, "postgresql: 18, repository: {source: pgdg}", "18", ""},
		"PGDG's of that version":  {probe.OS{ID: "ubuntu", Version: "24.04"}, "repository: {source: pgdg}", "16", ""},
		"Red Hat's, not said":     {probe.OS{ID: "rocky", Version: "9.4"}, "repository: {source: pgdg}", "", "brings no PostgreSQL that is supported"},
		"Red Hat's, from PGDG":    {probe.OS{ID: "rocky", Version: "9.4"}, "postgresql: 17, repository: {source: pgdg}", "17", ""},
		"Red Hat's, from nowhere": {probe.OS{ID: "rocky", Version: "9.4"}, "postgresql: 17", "17", "brings no PostgreSQL that is supported, not 17"},
	} {
		s, hosts := world(t)
		d, err := config.ParseDeployment("cluster.yml", []byte("{cluster: main, members: [{name: pg1, address: 10.0.0.11}, {name: pg2, address: 10.0.0.12}, {name: pg3, address: 10.0.0.13}], "+c.more+"}"))
		if err != nil {
			t.Fatal(err)
		}
		s.Deployment = d
		for _, h := range hosts {
			h.facts.OS = c.os
		}
		r, err := plan.Look(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		failed := ""
		for _, f := range r.Findings {
			if f.Level == plan.Fail {
				failed = f.Text
			}
		}
		if r.Postgres != c.gets || (failed == "") != (c.failed == "") || !strings.Contains(failed, c.failed) {
			t.Errorf("%s: PostgreSQL %q, %q", name, r.Postgres, failed)
		}
	}
}

// TestBundleFits what the hosts are and cluster.yml asks for.
func TestBundleFits(t *testing.T) {
	for name, c := range map[string]struct {
		bundle bundle.Manifest
		failed string
	}{
		"all":              {bundle.Manifest{System: "debian-13", Arch: "amd64", Postgres: "17", Packages: []string{"postgresql-17", "polkitd"}}, ""},
		"another Debian's": {bundle.Manifest{System: "debian-12", Arch: "amd64", Postgres: "15"}, "the bundle is for debian-12"},
		"another version":  {bundle.Manifest{System: "debian-13", Arch: "amd64", Postgres: "16"}, "has PostgreSQL 16, not 17"},
		"one is lacking":   {bundle.Manifest{System: "debian-13", Arch: "amd64", Postgres: "17", Packages: []string{"postgresql-17"}}, "was made without polkitd"},
	} {
		s, hosts := world(t)
		s.Bundle = &bundle.Bundle{Manifest: c.bundle}
		for _, h := range hosts {
			h.facts.Arch = "amd64"
		}
		r, err := plan.Look(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for _, f := range r.Findings {
			if f.Level != plan.Fail {
				continue
			}
			failures++
			if c.failed == "" || f.Check != "bundle" || !strings.Contains(f.Text, c.failed) {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if want := map[bool]int{true: 0, false: 3}[c.failed == ""]; failures != want {
			t.Errorf("%s: %d failures, want %d", name, failures, want)
		}
	}
}
