package deploy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/deploy"
	"standfast/deploy/distro"
	"standfast/deploy/probe"
	"standfast/packaging"
)

// world is a set of hosts in memory, which become a cluster when all their agents run. Every verb that changes something costs one of
// budget; the one that finds none left is cut short, before or after its effect.
type world struct {
	mu        sync.Mutex
	budget    int
	after     bool // what is cut short has had its effect
	clock     int64
	hosts     map[string]*machine
	order     []string
	roles     map[string]string // with what PostgreSQL keeps of the password
	databases map[string]string // with the owner
	words     map[string]string // tables of one word
	data      string            // what is in the first application's database
	primary   int               // of order
	members   []string          // that are agreed upon; nil: order
	lines     []string          // of pg_hba.conf, for routers
	term      cluster.Term
	schema    bool // the load's
	rows      int64
	lose      int           // acknowledged commits, in a failover
	moved     chan struct{} // closed when another is primary
	crashes   int
}

type machine struct {
	*world
	name     string
	files    map[string]deploy.FileState
	texts    map[string]string
	packages map[string]string
	users    map[string]bool
	servers  []probe.Server
	unit     deploy.Unit
	others   map[string]deploy.Unit // HAProxy's and Keepalived's
	told     map[string]string      // their configuration as they read it last
	starts   int
	taken    string   // by whom
	commands []string // that were run there

	installed []deploy.Packages // in order
}

var errCut = errors.New("the connection was lost")

// change has an effect, as far as the budget goes.
func (m *machine) change(effect func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock++
	m.budget--
	if m.budget < 0 && !m.after {
		return errCut
	}
	effect()
	if m.budget < 0 {
		return errCut
	}
	return nil
}

func (m *machine) Files(_ context.Context, paths ...string) (map[string]deploy.FileState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]deploy.FileState{}
	for _, p := range paths {
		if f, ok := m.files[p]; ok {
			out[p] = f
		}
	}
	return out, nil
}

func (m *machine) Read(_ context.Context, path string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return []byte(m.texts[path]), nil
}

func (m *machine) Write(_ context.Context, f deploy.File) error {
	return m.change(func() {
		b := sha256.Sum256(f.Text)
		at := time.Unix(m.clock, 0)
		if was, ok := m.files[f.Path]; ok && f.Quiet {
			at = was.Time
		}
		m.files[f.Path] = deploy.FileState{Sum: hex.EncodeToString(b[:]), Mode: f.Mode, Owner: f.Owner, Time: at}
		m.texts[f.Path] = string(f.Text)
		m.unit.Stale = m.unit.Stale || strings.HasSuffix(f.Path, packaging.Unit)
	})
}

func (m *machine) Alias(_ context.Context, path, target string) error {
	return m.change(func() { m.files[path], m.texts[path] = m.files[target], m.texts[target] })
}

func (m *machine) Install(_ context.Context, p deploy.Packages) error {
	return m.change(func() {
		if _, kept := m.files["/etc/postgresql-common/createcluster.d/standfast.conf"]; !kept {
			m.servers = append(m.servers, probe.Server{Version: "17", Name: "main", Online: true, Empty: true, Start: "auto"})
		}
		for _, name := range p.Names {
			m.packages[name] = "1"
		}
		m.installed = append(m.installed, p)
	})
}

func (m *machine) SetAside(_ context.Context, version, name string) error {
	return m.change(func() {
		for i, s := range m.servers {
			if s.Version == version && s.Name == name {
				m.servers[i].Online, m.servers[i].Start = false, "disabled"
			}
		}
	})
}

func (m *machine) HasUser(_ context.Context, name string) (bool, error) { return m.users[name], nil }
func (m *machine) AddUser(_ context.Context, name string) error {
	return m.change(func() { m.users[name] = true })
}
func (m *machine) Reload(context.Context) error { return m.change(func() { m.unit.Stale = false }) }

func (m *machine) Unit(_ context.Context, name string) (deploy.Unit, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := configs[name]; ok {
		return m.others[name], nil
	}
	return m.unit, nil
}

var configs = map[string]string{"haproxy.service": "/etc/haproxy/haproxy.cfg", "keepalived.service": "/etc/keepalived/keepalived.conf"}

func (m *machine) Refresh(_ context.Context, name string) error {
	return m.change(func() {
		if m.others == nil {
			m.others, m.told = map[string]deploy.Unit{}, map[string]string{}
		}
		m.others[name], m.told[name] = deploy.Unit{Active: true, Enabled: true}, m.texts[configs[name]]
	})
}

func (m *machine) Start(_ context.Context, _ string, after time.Time) error {
	return m.change(func() {
		m.unit.Active, m.unit.Enabled, m.unit.Since = true, true, after.Add(time.Second)
		m.clock = max(m.clock, m.unit.Since.Unix())
		m.starts++
	})
}

func (m *machine) Log(context.Context, string) (string, error) {
	return "level=ERROR msg=\"" + m.name + " has no room\"\n", nil
}

func (m *machine) Stop(_ context.Context, names ...string) error {
	return m.change(func() {
		if _, ok := m.others[names[0]]; ok {
			delete(m.others, names[0])
			return
		}
		m.unit.Active, m.unit.Enabled = false, false
	})
}

func (w *world) agreed() []string {
	if w.members == nil {
		return w.order
	}
	return w.members
}

// AddMember takes in a host that runs and knows that it joins.
func (m *machine) AddMember(_ context.Context, r api.AddMemberRequest) (bool, error) {
	m.mu.Lock()
	there := slices.Contains(m.agreed(), r.Member.Name)
	m.mu.Unlock()
	if there || r.DryRun {
		return there, nil
	}
	if h := m.hosts[r.Member.Name]; !h.unit.Active || !strings.Contains(h.texts[config.DefaultPath], "join: true\n") {
		return false, errors.New("it does not run, or is about to found a cluster of its own")
	}
	return false, m.change(func() {
		m.members = append(slices.Clone(m.agreed()), r.Member.Name)
		m.lines = append(m.lines, r.HBA...)
	})
}

// RemoveMember lets go of anybody but the primary.
func (m *machine) RemoveMember(_ context.Context, r api.RemoveMemberRequest) (bool, error) {
	m.mu.Lock()
	there, reigns := slices.Contains(m.agreed(), r.Name), m.order[m.primary] == r.Name
	m.mu.Unlock()
	if there && reigns {
		return false, errors.New("standfast: " + r.Name + " is the primary")
	}
	if !there || r.DryRun {
		return !there, nil
	}
	return false, m.change(func() {
		m.members = slices.DeleteFunc(slices.Clone(m.agreed()), func(n string) bool { return n == r.Name })
		m.lines = slices.DeleteFunc(m.lines, func(l string) bool { return slices.Contains(r.HBA, l) })
	})
}

func (m *machine) Crash(context.Context) error { return m.hand((m.primary+1)%len(m.order), true) }

func (m *machine) Switchover(_ context.Context, to string) error {
	if to == "" {
		to = m.order[(m.primary+1)%len(m.order)]
	}
	return m.hand(slices.Index(m.order, to), false)
}

func (m *machine) hand(to int, crash bool) error {
	return m.change(func() {
		if m.order[m.primary] != m.name {
			panic("asked of " + m.name + ", which is not the primary")
		}
		if crash {
			m.crashes++
		}
		m.primary = to
		m.term++
		close(m.moved)
		m.moved = make(chan struct{})
	})
}

// load writes until another server takes over.
func (m *machine) load(ctx context.Context, l probe.Load) (*probe.Work, error) {
	m.mu.Lock()
	if !m.schema || !slices.Equal(l.Addresses, []string{"10.0.0.50:5000"}) || m.databases[l.Database] != l.User || l.Password == "" {
		m.mu.Unlock()
		return &probe.Work{Error: "permission denied", Code: "42501"}, nil
	}
	from, moved := m.order[m.primary], m.moved
	m.rows += 1 << 20
	m.mu.Unlock()
	select {
	case <-moved:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return &probe.Work{From: from, To: m.order[m.primary], Acknowledged: 300, Lost: m.lose, Outage: 250 * time.Millisecond}, nil
}

func (m *machine) Version(_ context.Context, program string) (string, error) {
	return filepath.Base(program) + " 17.1", nil
}

var (
	literal = regexp.MustCompile(`'([^']*)'`)
	named   = regexp.MustCompile(`"([^"]*)"`)
	table   = regexp.MustCompile(`standfast_deploy_[a-z0-9]+`)
)

func (m *machine) SQL(_ context.Context, database, sql string) (out string, err error) {
	answer := func(ok bool) (string, error) {
		if ok {
			return "t\n", nil
		}
		return "f\n", nil
	}
	first := func(r *regexp.Regexp) string { return r.FindStringSubmatch(sql)[1] }
	switch {
	case strings.Contains(sql, "pg_file_settings"):
		return "", nil
	case strings.Contains(sql, "server_version_num"):
		return "17\n", nil
	case strings.Contains(sql, "datistemplate"):
		return "postgres\napp\n", nil
	case strings.Contains(sql, "pg_largeobject_metadata"):
		if database == "app" {
			return m.data, nil
		}
		return "", nil
	case strings.Contains(sql, "pg_relation_size"):
		m.mu.Lock()
		defer m.mu.Unlock()
		return fmt.Sprintln(m.rows), nil
	case strings.HasPrefix(sql, "DROP SCHEMA"):
		return "", m.change(func() { m.schema, m.rows = strings.Contains(sql, "CREATE SCHEMA"), 0 })
	case strings.Contains(sql, "pg_roles"):
		return answer(m.roles[first(literal)] != "")
	case strings.Contains(sql, "pg_database"):
		return answer(m.databases[first(literal)] != "")
	case strings.HasPrefix(sql, "CREATE ROLE"):
		return "", m.change(func() { m.roles[first(named)] = first(literal) })
	case strings.HasPrefix(sql, "CREATE DATABASE"):
		return "", m.change(func() { m.databases[first(named)] = named.FindAllStringSubmatch(sql, 2)[1][1] })
	case strings.HasPrefix(sql, "CREATE TABLE"):
		m.words[table.FindString(sql)] = first(literal)
	case strings.HasPrefix(sql, "SELECT word"):
		return m.words[table.FindString(sql)] + "\n", nil
	case strings.HasPrefix(sql, "DROP TABLE"):
		delete(m.words, table.FindString(sql))
	default:
		return "", fmt.Errorf("unexpected statement %s", sql)
	}
	return "", nil
}

// Hold locks the host, which is all that is held in a deployment.
func (m *machine) Hold(_ context.Context, r probe.Request) (probe.Answer, func() error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.Lock == "":
		return probe.Answer{}, nil, errors.New("nothing else is held in a deployment")
	case m.taken != "":
		return probe.Answer{Lock: m.taken}, func() error { return nil }, nil
	}
	m.taken = r.Lock
	return probe.Answer{}, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.taken = ""
		return nil
	}, nil
}

func (m *machine) Ask(ctx context.Context, r probe.Request) (probe.Answer, error) {
	if r.Load != nil {
		w, err := m.load(ctx, *r.Load)
		return probe.Answer{Load: w}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := probe.Answer{Dial: map[string]string{}}
	if r.Look != nil {
		a.Facts = &probe.Facts{Packages: m.packages, Servers: slices.Clone(m.servers)}
	}
	for _, url := range r.Get {
		a.Get = append(a.Get, m.get(url))
	}
	for _, l := range r.Logins {
		a.Logins = append(a.Logins, m.login(l))
	}
	return a, nil
}

// founded: there is a primary, at first the first member, as soon as all run.
func (w *world) founded() bool {
	return w.members != nil || !slices.ContainsFunc(w.order, func(n string) bool { return !w.hosts[n].unit.Active })
}

func (w *world) get(url string) probe.Response {
	var at, path string
	if _, err := fmt.Sscanf(strings.Replace(strings.TrimPrefix(url, "http://"), "/", " ", 1), "%s %s", &at, &path); err != nil {
		return probe.Response{Error: err.Error()}
	}
	i := slices.Index([]string{"10.0.0.11:8008", "10.0.0.12:8008", "10.0.0.13:8008", "10.0.0.14:8008"}, at)
	if !w.hosts[w.order[i]].unit.Active {
		return probe.Response{Error: "connection refused"}
	}
	status := map[bool]int{true: 200, false: 503}
	switch path {
	case "primary":
		return probe.Response{Status: status[w.founded() && i == w.primary]}
	case "replica":
		return probe.Response{Status: status[w.founded() && i != w.primary]}
	}
	st := api.Status{Self: w.order[i], Store: api.Store{OK: true}, Commit: api.Commit{Rule: cluster.NewRule(1)}}
	for _, n := range w.agreed() {
		m := api.Member{Member: cluster.Member{Name: n, Beat: "10.0.0.1" + n[2:] + ":8301"}, State: api.Running, Attached: true, Readable: true, InRule: true, Writable: n == w.order[w.primary]}
		if !w.hosts[n].unit.Active {
			m.State = api.Unreachable
		}
		st.Members = append(st.Members, m)
	}
	if w.founded() {
		st.Term, st.Primary = w.term, w.order[w.primary]
	}
	body, err := json.Marshal(st)
	if err != nil {
		return probe.Response{Error: err.Error()}
	}
	return probe.Response{Status: 200, Body: string(body)}
}

// login knows the password by its length: what PostgreSQL keeps can't be turned around.
func (w *world) login(l probe.Login) probe.Session {
	_, port, err := net.SplitHostPort(l.Address)
	switch {
	case err != nil || w.databases[l.Database] != l.User:
		return probe.Session{Error: "no such database", Code: "3D000"}
	case strings.HasSuffix(l.Password, "x"):
		return probe.Session{Error: "password authentication failed", Code: "28P01"}
	}
	return probe.Session{Value: fmt.Sprint(port == "5001")}
}

const three = `{cluster: main, members: [{name: pg1, address: 10.0.0.11}, {name: pg2, address: 10.0.0.12}, {name: pg3, address: 10.0.0.13}],
  vip: [{address: 10.0.0.50}], applications: [{role: app}]}`

// bare are hosts as a distribution's installer leaves them, and the site that is to be made of them.
func bare(t *testing.T, dir string) (*world, *deploy.Site) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := config.ParseDeployment(filepath.Join(dir, "cluster.yml"), []byte(three))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{budget: 1 << 30, hosts: map[string]*machine{}, roles: map[string]string{}, databases: map[string]string{}, words: map[string]string{}, term: 1, moved: make(chan struct{})}
	s := &deploy.Site{
		Deployment: d, Machines: map[string]deploy.Machine{}, Systems: map[string]distro.System{}, Postgres: "17", Now: time.Now,
		Program: deploy.File{Path: packaging.Binary, Text: []byte("program"), Mode: 0o755, Owner: "root"},
	}
	for _, h := range d.Members {
		m := &machine{world: w, name: h.Name, files: map[string]deploy.FileState{}, texts: map[string]string{}, packages: map[string]string{}, users: map[string]bool{}}
		w.hosts[h.Name], s.Machines[h.Name] = m, m
		s.Systems[h.Name], _ = distro.Named("debian-13")
		w.order = append(w.order, h.Name)
	}
	return w, s
}

func (m *machine) Command(_ context.Context, args ...string) (string, error) {
	return "", m.change(func() { m.commands = append(m.commands, strings.Join(args, " ")) })
}

func (m *machine) Server(ctx context.Context, args ...string) (string, error) {
	return m.Command(ctx, args...)
}

func (m *machine) Again(_ context.Context, name string) error {
	return m.change(func() { m.commands = append(m.commands, "start "+name) })
}

func (m *machine) Remove(_ context.Context, paths ...string) error {
	return m.change(func() {
		for _, p := range paths {
			delete(m.files, p)
		}
	})
}
