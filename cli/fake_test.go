package cli_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/doctor/facts"
	"standfast/events"

	"github.com/goccy/go-yaml"
)

// fake is a cluster that lives in memory.
type fake struct {
	condition string
	grants    grants

	mu       sync.Mutex
	moved    string          // the primary after a change
	dropped  map[string]bool // on these members
	yaml     string
	revision int64
}

// member is one of its members: what it tells, and what it does when asked.
type member struct {
	*fake
	name string
}

func (m *member) Snapshot() *api.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status(m.name)
}

func (m *member) Switchover(_ context.Context, r api.SwitchoverRequest, say func(api.Progress)) error {
	if r.DryRun {
		say(api.Progress{Text: "pg1 would hand over to " + r.Candidate})
		return nil
	}
	say(api.Progress{Text: "pg1 holds new connections"})
	if m.condition == "too far behind" {
		return api.Errorf(api.Conflict, "pg2 did not catch up within 10 s; pg1 goes on")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moved = "pg2"
	return nil
}

func (m *member) CancelSwitchover(context.Context, api.CancelRequest, func(api.Progress)) error {
	return api.Errorf(api.NotFound, "none is pending")
}

func (m *member) Failover(_ context.Context, r api.FailoverRequest, say func(api.Progress)) error {
	if r.DryRun {
		say(api.Progress{Text: "everything that only pg1 has may be lost"})
		return nil
	}
	if m.condition == "no majority" {
		return api.Errorf(api.Unavailable, "the store has no majority: two of three members must run")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moved = "pg3"
	return nil
}

func (m *member) Restart(_ context.Context, r api.RestartRequest, say func(api.Progress)) error {
	if r.OnlyPending {
		say(api.Progress{Step: api.StepNothing, Text: m.name + " does not wait for a restart"})
		return nil
	}
	say(api.Progress{Text: "restarting " + m.name})
	return nil
}

func (m *member) Reload(context.Context, api.ReloadRequest, func(api.Progress)) error { return nil }

func (m *member) Reinitialize(_ context.Context, r api.ReinitializeRequest, say func(api.Progress)) error {
	say(api.Progress{Text: m.name + " is cloned", Bytes: 1 << 30, Total: 3 << 30})
	return nil
}

func (m *member) Shutdown(_ context.Context, _ api.ShutdownRequest, say func(api.Progress)) error {
	say(api.Progress{Text: "the others stop"})
	return nil
}

func (m *member) Pause(_ context.Context, r api.PauseRequest, say func(api.Progress)) error {
	say(api.Progress{Text: fmt.Sprintf("paused for %v", r.For)})
	return nil
}

func (m *member) Resume(_ context.Context, _ api.ResumeRequest, say func(api.Progress)) error {
	say(api.Progress{Text: "automatic failover is on again"})
	return nil
}

func (m *member) RenewCertificate(_ context.Context, _ api.RenewRequest, say func(api.Progress)) error {
	if m.condition == "no authority" && m.name == "pg2" {
		return api.Errorf(api.Unavailable, "find the certificate authority: no majority")
	}
	say(api.Progress{Text: m.name + " has a new certificate, good until 2027-11-24"})
	return nil
}

func (m *member) AddMember(_ context.Context, r api.AddMemberRequest, say func(api.Progress)) error {
	say(api.Progress{Text: r.Member.Name + " is a member"})
	return nil
}

func (m *member) RemoveMember(_ context.Context, r api.RemoveMemberRequest, say func(api.Progress)) error {
	if r.Name == "pg1" {
		return api.Errorf(api.Conflict, "pg1 is the primary: hand its role over first (standfast switchover)")
	}
	say(api.Progress{Text: r.Name + " would be removed"})
	return nil
}

// slotsOf are on that member's server: the others' own, and on pg1 some more.
func (f *fake) slotsOf(name string) []api.Slot {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Slot
	for _, m := range []string{"pg1", "pg2", "pg3"} {
		if m != name {
			out = append(out, api.Slot{Member: name, Name: m, Kind: "physical", For: api.ForMember, Whose: m, Active: name == "pg1", From: 0x3000000, Status: "reserved"})
		}
	}
	out = append(out, api.Slot{Member: name, Name: "barman", Kind: "physical", For: api.ForClient, Whose: "barman", From: 0x3000000, Held: 5 << 20, Status: "reserved"})
	if name == "pg1" {
		out = append(out, api.Slot{Member: name, Name: "orders", Kind: "logical", For: api.ForLogical, Whose: "orders", Database: "app", Plugin: "pgoutput", Active: true, Client: "sub at 10.0.0.9", From: 0x3000000, Status: "reserved"},
			api.Slot{Member: name, Name: "busy", Kind: "physical", For: api.ForStrangers, Active: true, Client: "pg_receivewal at 10.0.0.9", From: 0x3000000, Status: "reserved"})
	}
	if name != "pg2" && !f.dropped[name] {
		out = append(out, api.Slot{Member: name, Name: "old_copy", Kind: "physical", For: api.ForStrangers, From: 0x1000000, Held: 12 << 30, Status: "extended"})
	}
	return out
}

func (m *member) DropSlot(_ context.Context, r api.DropSlotRequest, say func(api.Progress)) error {
	if m.condition == "declared meanwhile" {
		return api.Errorf(api.Conflict, "the slot %s on %s is not dropped: it is a declared replication client's", r.Name, m.name)
	}
	if r.DryRun {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dropped == nil {
		m.dropped = map[string]bool{}
	}
	m.dropped[m.name] = true
	say(api.Progress{Text: "the slot " + r.Name + " on " + m.name + " is dropped"})
	return nil
}

// events are what the members know: most of it the same, and each something that did not get into the store.
func (f *fake) events(name string) api.Events {
	b := &events.Book{}
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 0, 0, s, 0, time.UTC) }
	b.Add(
		api.Event{ID: "1", At: at(1), Cluster: "main", Member: "pg1", Kind: events.Election, Severity: api.Warning, Term: 4, Text: "term 4 begins: pg2 was not heard from", Facts: map[string]string{"pg2 last heard": "712ms ago"}},
		api.Event{ID: "term-4", At: at(2), Cluster: "main", Member: "pg1", Kind: events.Primary, Severity: api.Warning, Term: 4, Text: "pg1 is the primary of term 4: pg2 was not heard from", Steps: []cluster.Step{{Name: "electing", By: "pg1", At: 1}, {Name: "elected", By: "pg1", At: 22}}},
		api.Event{ID: name, At: at(3), Cluster: "main", Member: name, Kind: events.Postgres, Severity: api.Info, Term: 4, Text: "PostgreSQL on " + name + " answers, as a standby"},
	)
	return b
}

// logged is what a member's logs hold.
type logged string

func (name logged) Lines(api.LogMark) ([]api.LogLine, api.LogMark, error) {
	second := int(name[2] - '0')
	at := time.Date(2026, 1, 2, 0, 0, second, 0, time.UTC)
	line := func(after time.Duration, source api.LogSource, level, text string) api.LogLine {
		return api.LogLine{At: at.Add(after), Member: string(name), Source: source, Level: level, Text: text}
	}
	return []api.LogLine{
		line(0, api.LogAgent, "info", "standfast starts"),
		line(10*time.Second, api.LogRouter, "warn", "router: sessions cut sessions=3"),
		line(20*time.Second, api.LogPostgres, "error", "[7] ERROR:  no\x1b[2J\n\tHINT"),
	}, api.LogMark{}, nil
}

// salvage is what pg2 keeps of its time as a primary.
func (f *fake) salvage(name string) func(context.Context) ([]api.Salvaged, error) {
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	return func(context.Context) ([]api.Salvaged, error) {
		switch name {
		case "pg1":
			return nil, nil
		case "pg3":
			return nil, api.Errorf(api.NotFound, "this member holds no data")
		}
		return []api.Salvaged{{
			Member: name, Dir: "/data.standfast.discarded/x", At: at, Timeline: 2, Fork: 0x3000060, Files: 1, Bytes: 16 << 20,
			Transactions: []api.Discarded{
				{XID: 731, Committed: at, LSN: 0x3000100, Rows: []api.Rows{{Relation: "app: public.orders", Inserted: 2, Deleted: 1}, {Relation: "1663/5/16390", Truncated: true}}},
				{XID: 732, LSN: 0x3000200, Own: true, Rows: []api.Rows{{Relation: "postgres: standfast.term", Updated: 1}}},
			},
		}}, nil
	}
}

func (m *member) Config(context.Context, bool) (api.ClusterConfig, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	values, err := yaml.YAMLToJSON([]byte(m.yaml))
	return api.ClusterConfig{Revision: m.revision, YAML: m.yaml, Values: values}, err
}

func (m *member) SetConfig(_ context.Context, r api.ConfigRequest, say func(api.Progress)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.Revision != m.revision || m.condition == "edited meanwhile":
		return api.Errorf(api.Conflict, "the configuration has changed meanwhile: read it again")
	case m.condition == "postgres refuses":
		return api.Errorf(api.Invalid, `postgresql.parameters.work_mem: invalid value for parameter "work_mem": "many"`)
	case !r.DryRun:
		m.yaml, m.revision = string(r.Body), m.revision+1
	}
	return nil
}

// grants keeps operators' tokens in memory.
type grants struct {
	mu  sync.Mutex
	all []api.Grant
}

func (g *grants) Grants(context.Context) ([]api.Grant, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.all), nil
}

func (g *grants) AddGrant(_ context.Context, n api.Grant) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	n.Hash = ""
	g.all = append(g.all, n)
	return nil
}

func (g *grants) RevokeGrant(_ context.Context, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := len(g.all)
	if g.all = slices.DeleteFunc(g.all, func(o api.Grant) bool { return o.ID == id }); len(g.all) == before {
		return api.Errorf(api.NotFound, "there is no token %s", id)
	}
	return nil
}

// facts are what a member tells who examines it.
func (f *fake) facts(name string) facts.Member {
	p := facts.Postgres{Version: 170004, Recovery: name != "pg1", SystemID: "7", Clients: facts.Clients{Used: 20, Max: 100, Reserved: 5}, Archive: facts.Archive{Mode: "on", Command: "set"}}
	m := facts.Member{Name: name, Version: "1.0", Time: time.Now(), Postgres: &p, File: facts.File{Watchdog: "/dev/watchdog"},
		Disks: []facts.Disk{{Holds: []string{"data", "WAL"}, Path: "/var/lib/standfast", Size: 100 << 30, Free: 60 << 30}}}
	if name == "pg1" {
		p.Senders = []facts.Sender{{Name: "pg2", State: "streaming"}, {Name: "pg3", State: "streaming"}}
	}
	if f.condition == "ailing" && name == "pg2" {
		m.Disks = []facts.Disk{{Holds: []string{"data", "WAL"}, Path: "/var/lib/standfast", Size: 100 << 30, Free: 9 << 30}}
		m.Unknown = []facts.Question{{What: "etcd", Why: "no answer within 2.5s"}}
	}
	if f.condition == "ailing" && name == "pg1" {
		p.OptOuts = []facts.OptOut{{Role: "app", Value: "off"}}
	}
	return m
}
