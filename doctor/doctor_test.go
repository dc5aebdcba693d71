package doctor_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/doctor"
	"standfast/doctor/facts"
)

var now = time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC)

const gb = 1 << 30

// healthy is a cluster of three in which nothing is to be found.
func healthy() *doctor.Case {
	c := &doctor.Case{
		Now: now, Self: "pg1", Statuses: map[string]*api.Status{}, Facts: map[string]*facts.Member{}, Silent: map[string]string{}, Offsets: map[string]doctor.Offset{},
		History: []api.Entry{{Term: 1, Primary: "pg1", Kind: "bootstrap", At: now.Add(-time.Hour).UnixMilli()}}, StateDir: "/var/lib/standfast", Port: 5432,
	}
	for i := 1; i <= 3; i++ {
		name := fmt.Sprintf("pg%d", i)
		c.Members = append(c.Members, doctor.Known{Name: name, Address: fmt.Sprintf("10.0.0.1%d", i), Data: true})
		c.Statuses[name], c.Facts[name] = wellStatus(name), wellFacts(name)
		c.Offsets[name] = doctor.Offset{By: time.Duration(i) * time.Millisecond, Within: 5 * time.Millisecond}
	}
	return c
}

func wellStatus(self string) *api.Status {
	st := &api.Status{Schema: api.Schema, Version: "1.0", Cluster: "main", Self: self, Term: 3, Phase: cluster.Reigning, Primary: "pg1", Timeline: 2, Store: api.Store{OK: true}, Warnings: []string{},
		Router:  api.Router{Write: api.Side{Target: "pg1"}, Backends: []api.Backend{{Member: "pg1", Side: "write"}}},
		Address: []api.Address{{Address: "10.0.0.50", Follows: "primary", Holder: "pg1"}}}
	for i := 1; i <= 3; i++ {
		m := api.Member{Member: cluster.Member{Name: fmt.Sprintf("pg%d", i), Kind: cluster.Data, Priority: 100, Write: fmt.Sprintf("10.0.0.1%d:5000", i), Beat: fmt.Sprintf("10.0.0.1%d:8301", i)},
			Role: api.Standby, State: api.Running, Attached: true, Readable: true, InRule: true, Lag: new(int64), ReceiveLag: new(int64), LagSeconds: new(float64)}
		if i == 1 {
			m.Role, m.Writable, m.Attached, m.InRule, m.Lag = api.Primary, true, false, false, nil
		}
		st.Members = append(st.Members, m)
	}
	st.Commit = api.Describe(cluster.Quorum, cluster.NewRule(1, "pg2", "pg3"), func(string) bool { return true }, 1)
	return st
}

func wellFacts(name string) *facts.Member {
	f := &facts.Member{Name: name, Version: "1.0", Time: now,
		Host:  facts.Host{CPUs: 4, Memory: 16 * gb, Available: 8 * gb, Swap: 4 * gb, Swappiness: 60, Overcommit: 2, Files: 1 << 20, SystemUser: true, Systemd: true, Clock: "yes", Service: true},
		Disks: []facts.Disk{{Holds: []string{"data", "WAL", "state"}, Path: "/var/lib/standfast", Size: 100 * gb, Free: 60 * gb, Inodes: 1000, InodesFree: 900}},
		Sync:  &facts.Sync{Median: 3 * time.Millisecond, Worst: 9 * time.Millisecond},
		Units: []facts.Unit{{Name: "standfast.service", Active: "active", Sub: "running", Enabled: "enabled"}, {Name: "postgresql.service", Active: "active", Sub: "exited", Enabled: "enabled"},
			{Name: "haproxy.service", Active: "inactive", Enabled: "disabled"}},
		Cert:      &facts.Cert{Start: now.Add(-time.Hour), End: now.AddDate(1, 0, 0), CAEnd: now.AddDate(10, 0, 0)},
		Addresses: []facts.Address{{Address: "10.0.0.50", Here: name == "pg1", Own: []string{"02:00:00:00:00:0" + name[2:]}}},
		Etcd:      &facts.Etcd{Size: 1 << 20, Quota: 256 << 20},
		File:      facts.File{Members: []string{"pg1 10.0.0.11", "pg2 10.0.0.12", "pg3 10.0.0.13"}, VIPs: []string{"10.0.0.50 follows primary"}, Watchdog: "/dev/watchdog"},
		Postgres:  wellServer(name),
	}
	for _, other := range []string{"pg1", "pg2", "pg3"} {
		if other != name {
			for _, p := range []string{"postgres", "write", "read", "health", "admin", "etcd_client", "etcd_peer"} {
				f.Reach = append(f.Reach, facts.Reach{Member: other, Port: p, Address: "10.0.0.1" + other[2:] + ":1"})
			}
		}
	}
	return f
}

func wellServer(name string) *facts.Postgres {
	p := &facts.Postgres{Version: 170004, Recovery: name != "pg1", SystemID: "7", Started: now.Add(-time.Hour),
		Settings:  []facts.Setting{{Name: "work_mem", Value: "4096", Source: "configuration file"}, {Name: "cluster_name", Value: name, Source: "command line"}, {Name: "synchronous_standby_names", Value: "x", Source: "configuration file", Auto: true}},
		Roles:     []facts.Role{{Name: "app", Limit: -1, Databases: []string{"app"}}, {Name: "postgres", Super: true, Limit: -1, Databases: []string{"postgres"}}},
		Databases: []facts.Database{{Name: "app", Age: 1000, Collation: "2.36", Now: "2.36", Limit: -1}},
		Clients:   facts.Clients{Used: 20, Max: 100, Reserved: 5},
		HBA:       []facts.HBA{{Line: 2, Type: "local", Users: []string{"postgres"}, Method: "peer", Ours: true}, {Line: 9, Type: "host", Databases: []string{"all"}, Users: []string{"all"}, Address: "all", Method: "scram-sha-256"}},
		Archive:   facts.Archive{Mode: "on", Command: "set", Archived: 10, LastOK: now},
		WAL:       facts.WAL{Size: gb, Rate: 1 << 20, Keep: 20 * gb, MaxSize: gb, Timed: 100, Forced: 3},
		Locale:    []facts.Version{{Library: "libc", Version: "2.36"}, {Library: "icu", Version: "153.14"}},
	}
	if name == "pg1" {
		for _, s := range []string{"pg2", "pg3"} {
			p.Slots = append(p.Slots, facts.Slot{Name: s, Type: "physical", Active: true, Status: "reserved"})
			p.Senders = append(p.Senders, facts.Sender{Name: s, State: "streaming"})
		}
	} else {
		p.Receiver = &facts.Receiver{Status: "streaming", Silent: 100 * time.Millisecond}
	}
	return p
}

func TestHealthyIsSilent(t *testing.T) {
	r := doctor.Examine(healthy())
	for _, f := range r.Findings {
		t.Errorf("%s: %+v", f.Check, f)
	}
	if len(r.Unknown) > 0 || r.Checks != len(doctor.All) || r.Worst() != "" {
		t.Errorf("unknown %v, %d checks, worst %q", r.Unknown, r.Checks, r.Worst())
	}
}

// each changes every status.
func each(c *doctor.Case, change func(st *api.Status)) {
	for _, st := range c.Statuses {
		change(st)
	}
}

// silence takes a member away: its host refuses, or gives no answer at all.
func silence(c *doctor.Case, name string, refuses bool) {
	delete(c.Statuses, name)
	delete(c.Facts, name)
	delete(c.Offsets, name)
	c.Silent[name] = name + ": connection refused"
	each(c, func(st *api.Status) {
		m := st.Member(name)
		m.State, m.Attached, m.InRule, m.Writable = api.Unreachable, false, false, false
	})
	for _, f := range c.Facts {
		for i := range f.Reach {
			if f.Reach[i].Member == name {
				f.Reach[i].Error, f.Reach[i].Refused = "no answer", false
				if refuses {
					f.Reach[i].Error, f.Reach[i].Refused = "refused", true
				}
			}
		}
	}
}

func pg(c *doctor.Case, name string) *facts.Postgres { return c.Facts[name].Postgres }

func spare(c *doctor.Case, attached int) {
	each(c, func(st *api.Status) {
		st.Commit = api.Describe(cluster.Quorum, cluster.NewRule(1, "pg2", "pg3"), func(n string) bool { return n < fmt.Sprintf("pg%d", 2+attached) }, 1)
	})
}

// fault is what is planted, and what is to be said of it.
type fault struct {
	check    string
	plant    func(c *doctor.Case)
	severity doctor.Severity
	says     string // in text, evidence or fix
}

var faults = []fault{
	{"agent-down", func(c *doctor.Case) { silence(c, "pg3", true) }, doctor.Critical, "its host is up and standfast does not run there"},
	{"agent-down", func(c *doctor.Case) { silence(c, "pg3", false) }, doctor.Critical, "ping -c 3 10.0.0.13"},
	{"agent-down", func(c *doctor.Case) { silence(c, "pg1", true) }, doctor.Critical, "sudo systemctl start standfast"},
	{"agent-fails", func(c *doctor.Case) {
		c.Facts["pg1"].Units[0] = facts.Unit{Name: "standfast.service", Active: "activating", Sub: "auto-restart", Enabled: "enabled", Restart: 9}
	}, doctor.Critical, "started again 9 times"},
	{"agent-fails", func(c *doctor.Case) { c.Facts["pg1"].Taken = []facts.Port{{Name: "write 5000", By: "taken by nginx"}} }, doctor.Critical, "nginx"},
	{"no-majority", func(c *doctor.Case) {
		silence(c, "pg2", false)
		silence(c, "pg3", false)
		c.Statuses["pg1"].Store = api.Store{Error: "no leader"}
	}, doctor.Critical, "missing: pg1, pg2, pg3"},
	{"no-majority", func(c *doctor.Case) { c.Statuses["pg2"].Store.OK = false }, doctor.Warning, "can decide nothing"},
	{"not-founded", func(c *doctor.Case) { each(c, func(st *api.Status) { st.Term, st.Primary = 0, "" }) }, doctor.Critical, "has to run once"},
	{"no-primary", func(c *doctor.Case) {
		each(c, func(st *api.Status) {
			st.Primary, st.Phase, st.Router.Write = "", cluster.Electing, api.Side{Why: "no majority here"}
			st.Members[0].Writable = false
		})
	}, doctor.Critical, "pg1 tells clients: no majority here"},
	{"split-brain", func(c *doctor.Case) { pg(c, "pg2").Recovery = false; c.Statuses["pg2"].Members[1].Writable = true }, doctor.Critical, "two primaries"},
	{"foreign-data", func(c *doctor.Case) { pg(c, "pg2").SystemID = "8" }, doctor.Critical, "system identifier 8"},
	{"paused", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.Paused, st.PausedUntil = true, now.Add(time.Hour) })
	}, doctor.Warning, "until 2026-05-01 04:00 UTC"},
	{"request-waits", func(c *doctor.Case) {
		each(c, func(st *api.Status) {
			st.Request = &cluster.Request{Kind: cluster.Switchover, To: "pg2", By: "anna", At: now.Add(-5 * time.Minute).UnixMilli()}
		})
	}, doctor.Warning, "since 5 min, by anna"},
	{"removal-unfinished", func(c *doctor.Case) { each(c, func(st *api.Status) { st.Members[2].Leaving = true }) }, doctor.Warning, "standfast node remove pg3"},
	{"next-loss", func(c *doctor.Case) { spare(c, 1); silence(c, "pg3", false) }, doctor.Warning, "if one more host fails, writing stops"},
	{"next-loss", func(c *doctor.Case) { spare(c, 0) }, doctor.Critical, "commits wait now"},
	{"copies", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.Members[1].Attached, st.Members[2].State = false, api.Cloning })
	}, doctor.Critical, "current: pg1; not: pg2, pg3"},
	{"flapping", func(c *doctor.Case) {
		for i := range 4 {
			c.History = append(c.History, api.Entry{Kind: "failover", Primary: "pg2", Reason: "silent", At: now.Add(-time.Duration(i) * time.Hour).UnixMilli()})
		}
	}, doctor.Warning, "4 failovers within a day"},
	{"commits-lost", func(c *doctor.Case) {
		c.History = append(c.History, api.Entry{Term: 9, Kind: "forced", Lost: "up to 2 transactions", At: now.UnixMilli()})
	}, doctor.Warning, "standfast history --term 9"},
	{"standfast-versions", func(c *doctor.Case) { c.Statuses["pg2"].Version = "0.9" }, doctor.Warning, "0.9: pg2"},
	{"member-warns", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.Warnings = []string{"no guard is running here"} })
	}, doctor.Warning, "no guard"},

	{"standby-detached", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.Members[1].Attached = false })
		c.Facts["pg2"].Reach[0].Error = "no answer"
	}, doctor.Critical, "can't reach the primary's PostgreSQL at 10.0.0.11:1: no answer"},
	{"server-down", func(c *doctor.Case) {
		each(c, func(st *api.Status) {
			st.Members[1].State, st.Members[1].Note = api.Failed, "rewind failed: no space"
		})
	}, doctor.Critical, "rewinding its data fails"},
	{"rebuilding", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.Members[1].State, st.Members[1].Note = api.Cloning, "cloning: 1 GB" })
	}, doctor.Notice, "1 GB"},
	{"server-stalled", func(c *doctor.Case) { c.Statuses["pg1"].Members[0].State = api.Stalled }, doctor.Critical, "dmesg"},
	{"replication-lag", func(c *doctor.Case) {
		each(c, func(st *api.Status) { *st.Members[1].Lag = 100 << 20 })
		pg(c, "pg2").Oldest = []facts.Session{{PID: 77, User: "report", Since: 5 * time.Minute}}
	}, doctor.Warning, "replay waits for a query of report"},
	{"replication-lag", func(c *doctor.Case) {
		each(c, func(st *api.Status) { *st.Members[1].Lag, *st.Members[1].ReceiveLag = 5*gb, 5*gb })
	}, doctor.Critical, "the network or its disk"},
	{"replay-paused", func(c *doctor.Case) { pg(c, "pg3").ReplayPaused = true }, doctor.Warning, "pg_wal_replay_resume"},
	{"out-of-rule", func(c *doctor.Case) { each(c, func(st *api.Status) { st.Members[2].InRule = false }) }, doctor.Notice, "does not count"},
	{"sender-missing", func(c *doctor.Case) { pg(c, "pg1").Senders = pg(c, "pg1").Senders[:1] }, doctor.Warning, "has no row of it"},
	{"receiver-silent", func(c *doctor.Case) { pg(c, "pg2").Receiver.Silent = 9 * time.Second }, doctor.Warning, "for 9 s"},
	{"slot-holds-wal", func(c *doctor.Case) {
		pg(c, "pg1").Slots = append(pg(c, "pg1").Slots, facts.Slot{Name: "old_barman", Type: "physical", Held: 5 * gb, Status: "extended"})
	}, doctor.Warning, "standfast slots drop old_barman"},
	{"slot-lost", func(c *doctor.Case) { pg(c, "pg1").Slots[1].Status = "lost" }, doctor.Critical, "reclone pg3"},
	{"slot-undeclared", func(c *doctor.Case) {
		pg(c, "pg1").Slots = append(pg(c, "pg1").Slots, facts.Slot{Name: "barman", Type: "physical", Active: true})
	}, doctor.Warning, "replication_clients='[{name: barman}]'"},
	{"receiver-away", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.ReplicationClients = []api.ReplicationClient{{Name: "barman", Held: gb}} })
	}, doctor.Warning, "1.0 GB of WAL is kept"},
	{"commits-wait", func(c *doctor.Case) { pg(c, "pg1").Waiting = facts.Waiting{Commits: 12, Longest: 90 * time.Second} }, doctor.Critical, "12 commits wait"},
	{"sync-opt-out", func(c *doctor.Case) { pg(c, "pg1").OptOuts = []facts.OptOut{{Role: "app", Value: "off"}} }, doctor.Warning, "reset synchronous_commit"},
	{"async", func(c *doctor.Case) { each(c, func(st *api.Status) { st.Commit.Durability = cluster.Async }) }, doctor.Notice, "durability=quorum"},

	{"routing", func(c *doctor.Case) { c.Statuses["pg3"].Router.Write.Target = "pg2" }, doctor.Critical, "sends writing clients to pg2"},
	{"clients-held", func(c *doctor.Case) { c.Statuses["pg3"].Router.Write = api.Side{Why: "no majority is heard here"} }, doctor.Critical, "are refused"},
	{"no-readers", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.Members[1].Readable, st.Members[2].Readable = false, false })
	}, doctor.Warning, "running: pg2, pg3"},
	{"address-missing", func(c *doctor.Case) {
		each(c, func(st *api.Status) { st.Address[0].Holder = "" })
		c.Statuses["pg1"].Address[0].Error = "eth0 is down"
	}, doctor.Critical, "pg1: eth0 is down"},
	{"address-missing", func(c *doctor.Case) { each(c, func(st *api.Status) { st.Address[0].Holder = "pg2" }) }, doctor.Critical, "is on pg2, and the primary is pg1"},
	{"address-duplicate", func(c *doctor.Case) { c.Facts["pg3"].Addresses[0].Here = true }, doctor.Critical, "on pg1, pg3"},
	{"address-duplicate", func(c *doctor.Case) { c.Facts["pg3"].Addresses[0].Answers = "de:ad:be:ef:00:01" }, doctor.Critical, "from MAC de:ad:be:ef:00:01"},
	{"connections", func(c *doctor.Case) { pg(c, "pg1").Clients.Used = 80 }, doctor.Warning, "80 of 95"},
	{"connections", func(c *doctor.Case) { pg(c, "pg1").Clients.Used = 95 }, doctor.Critical, "100 %"},
	{"pools", func(c *doctor.Case) { c.Statuses["pg1"].Router.Backends[0].Limit = 50 }, doctor.Warning, "3 routers × router.max_sessions 50 = 150"},
	{"pools", func(c *doctor.Case) { pg(c, "pg1").Roles[0].Limit = 200 }, doctor.Warning, "CONNECTION LIMIT of app 200"},
	{"refused", func(c *doctor.Case) {
		c.Facts["pg1"].Logs = []facts.Log{{Name: "postgresql", Kind: "hba", Count: 4, Last: now}}
	}, doctor.Warning, "4 times"},
	{"hba-errors", func(c *doctor.Case) {
		pg(c, "pg1").HBA = append(pg(c, "pg1").HBA, facts.HBA{Line: 12, Error: "invalid authentication method"})
	}, doctor.Warning, "line 12"},
	{"hba-gap", func(c *doctor.Case) {
		pg(c, "pg1").HBA[1].Address, pg(c, "pg1").HBA[1].Mask = "10.0.0.11", "255.255.255.255"
	}, doctor.Warning, "from pg2, pg3"},
	{"long-transactions", func(c *doctor.Case) {
		pg(c, "pg1").Oldest = []facts.Session{{PID: 9, User: "app", State: "idle in transaction", Since: 20 * time.Minute}}
	}, doctor.Warning, "pg_terminate_backend(9)"},
	{"prepared-transactions", func(c *doctor.Case) {
		pg(c, "pg1").Prepared = []facts.Session{{GID: "tx1", User: "app", Database: "app", Since: time.Hour}}
	}, doctor.Warning, "ROLLBACK PREPARED 'tx1'"},
	{"blocked", func(c *doctor.Case) { pg(c, "pg1").Blocked = []facts.Session{{PID: 9, By: 8, Since: 2 * time.Minute}} }, doctor.Warning, "pg_cancel_backend(8)"},

	{"settings-differ", func(c *doctor.Case) { pg(c, "pg2").Settings[0].Value = "8192" }, doctor.Warning, "work_mem differs"},
	{"settings-differ", func(c *doctor.Case) {
		pg(c, "pg2").Settings = append(pg(c, "pg2").Settings, facts.Setting{Name: "jit", Value: "off", Source: "configuration file"})
	}, doctor.Warning, "its default: pg1, pg3"},
	{"auto-conf", func(c *doctor.Case) {
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			pg(c, n).Settings[0].Auto = true
		}
	}, doctor.Warning, "alter system reset work_mem"},
	{"pending-restart", func(c *doctor.Case) { pg(c, "pg3").Settings[0].Pending = true }, doctor.Warning, "standfast restart --pending"},
	{"settings-errors", func(c *doctor.Case) { pg(c, "pg3").Files = []string{"postgresql.conf line 3: syntax error"} }, doctor.Warning, "syntax error"},
	{"settings-unsafe", func(c *doctor.Case) {
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			pg(c, n).Settings = append(pg(c, n).Settings, facts.Setting{Name: "autovacuum", Value: "off", Source: "configuration file"})
		}
	}, doctor.Warning, "autovacuum is off"},
	{"server-versions", func(c *doctor.Case) { pg(c, "pg2").Version = 170003 }, doctor.Warning, "17.3: pg2"},
	{"files-differ", func(c *doctor.Case) { c.Facts["pg2"].File.VIPs = nil }, doctor.Warning, "none: pg2"},
	{"files-differ", func(c *doctor.Case) { c.Facts["pg2"].File.Members[2] = "pg3 10.9.9.9" }, doctor.Warning, "pg3 is at 10.9.9.9: pg2"},

	{"xid-age", func(c *doctor.Case) { pg(c, "pg1").Databases[0].Age = 1_700_000_000 }, doctor.Critical, "vacuumdb --freeze"},
	{"checksums", func(c *doctor.Case) { pg(c, "pg1").Databases[0].Checksum = 2 }, doctor.Critical, "standfast switchover"},
	{"checksums", func(c *doctor.Case) {
		c.Facts["pg2"].Logs = []facts.Log{{Name: "postgresql", Kind: "corrupt", Count: 1}}
	}, doctor.Critical, "reclone pg2"},
	{"checksums-off", func(c *doctor.Case) { pg(c, "pg1").Databases[0].Checksum = -1 }, doctor.Notice, "unnoticed"},
	{"collations", func(c *doctor.Case) { pg(c, "pg1").Databases[0].Now = "2.41" }, doctor.Warning, "made with 2.36, there is 2.41"},
	{"libraries-differ", func(c *doctor.Case) { pg(c, "pg2").Locale[0].Version = "2.41" }, doctor.Warning, "versions of libc"},
	{"archive-nothing", func(c *doctor.Case) {
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			pg(c, n).Archive.Command = "nothing"
		}
	}, doctor.Warning, "stores nothing"},
	{"archive-fails", func(c *doctor.Case) {
		pg(c, "pg1").Archive = facts.Archive{Mode: "on", Command: "set", Failed: 7, LastFailed: now, LastOK: now.Add(-time.Hour), Waiting: 5}
	}, doctor.Warning, "7 failures"},
	{"no-backup", func(c *doctor.Case) { pg(c, "pg1").Archive = facts.Archive{Mode: "off"} }, doctor.Notice, "no backup is known"},

	{"disk", func(c *doctor.Case) { c.Facts["pg2"].Disks[0].Free = 15 * gb }, doctor.Warning, "85 % full"},
	{"disk", func(c *doctor.Case) { c.Facts["pg2"].Disks[0].Free = 2 * gb }, doctor.Critical, "never delete files in pg_wal"},
	{"inodes", func(c *doctor.Case) { c.Facts["pg2"].Disks[0].InodesFree = 3 }, doctor.Warning, "3 of 1000"},
	{"read-only", func(c *doctor.Case) { c.Facts["pg2"].Disks[0].ReadOnly = true }, doctor.Critical, "read-only"},
	{"disk-slow", func(c *doctor.Case) { c.Facts["pg2"].Sync.Median = 300 * time.Millisecond }, doctor.Warning, "took 300 ms"},
	{"disk-slow", func(c *doctor.Case) { c.Facts["pg2"].Sync.Error = "no answer from the disk" }, doctor.Critical, "no answer from the disk"},
	{"wal-forecast", func(c *doctor.Case) {
		p := pg(c, "pg1")
		p.Slots[1].Active, p.Slots[1].Held, p.WAL.Keep, p.WAL.Rate = false, gb/2, -1, 10<<20
	}, doctor.Warning, "WAL fills the disk in about 102 min"},
	{"wal-large", func(c *doctor.Case) { pg(c, "pg1").WAL.Size = 9 * gb }, doctor.Warning, "pg_wal has 9.0 GB"},
	{"checkpoints", func(c *doctor.Case) { pg(c, "pg1").WAL.Forced = 500 }, doctor.Notice, "max_wal_size=2048MB"},
	{"log-errors", func(c *doctor.Case) {
		c.Facts["pg2"].Logs = []facts.Log{{Name: "postgresql", Kind: "full", Count: 3, Last: now}}
	}, doctor.Critical, "no space"},
	{"etcd", func(c *doctor.Case) { c.Facts["pg2"].Etcd.Alarms = []string{"memberID:1 alarm:NOSPACE"} }, doctor.Critical, "NOSPACE"},
	{"etcd", func(c *doctor.Case) { c.Facts["pg2"].Etcd.Size = 200 << 20 }, doctor.Warning, "200 MB of 256 MB"},
	{"etcd-disk", func(c *doctor.Case) { c.Facts["pg2"].Logs = []facts.Log{{Name: "etcd", Kind: "slow disk", Count: 30}} }, doctor.Warning, "30 slow syncs"},

	{"ports", func(c *doctor.Case) { c.Facts["pg2"].Reach[4].Error = "no answer" }, doctor.Warning, "admin 10.0.0.11:1: no answer"},
	{"heartbeats", func(c *doctor.Case) { c.Statuses["pg2"].Members[2].State = api.Unreachable }, doctor.Critical, "open UDP port 8301 from pg3 to pg2"},
	{"clocks", func(c *doctor.Case) { c.Offsets["pg3"] = doctor.Offset{By: 7 * time.Second} }, doctor.Warning, "pg1 and pg3 differ by 6 s"},
	{"clocks", func(c *doctor.Case) { c.Offsets["pg3"] = doctor.Offset{By: -time.Hour} }, doctor.Critical, "pg3 and pg2 differ by 59 min"},

	{"clock-unsynced", func(c *doctor.Case) { c.Facts["pg2"].Host.Clock = "no" }, doctor.Warning, "NTP"},
	{"leftover-units", func(c *doctor.Case) {
		c.Facts["pg2"].Units = append(c.Facts["pg2"].Units, facts.Unit{Name: "patroni.service", Active: "active", Enabled: "enabled"})
	}, doctor.Critical, "systemctl disable --now patroni.service"},
	{"leftover-units", func(c *doctor.Case) {
		c.Facts["pg2"].Units = append(c.Facts["pg2"].Units, facts.Unit{Name: "repmgrd.service", Active: "inactive", Enabled: "enabled"})
	}, doctor.Warning, "repmgrd.service"},
	{"distribution-unit", func(c *doctor.Case) {
		c.Facts["pg2"].Units = append(c.Facts["pg2"].Units, facts.Unit{Name: "postgresql@17-main.service", Active: "active"})
	}, doctor.Warning, "pg_lsclusters"},
	{"not-enabled", func(c *doctor.Case) { c.Facts["pg2"].Units[0].Enabled = "disabled" }, doctor.Warning, "systemctl enable standfast"},
	{"oom-kills", func(c *doctor.Case) { c.Facts["pg2"].Host.OOMKills = 3 }, doctor.Warning, "3 since"},
	{"memory", func(c *doctor.Case) { c.Facts["pg2"].Host.Available = gb / 4 }, doctor.Warning, "hardly any memory"},
	{"swapping", func(c *doctor.Case) { c.Facts["pg2"].Host.SwapUsed = 3 * gb }, doctor.Warning, "3.0 GB of swap"},
	{"kernel", func(c *doctor.Case) { c.Facts["pg2"].Host.Overcommit = 1 }, doctor.Warning, "overcommit"},
	{"kernel", func(c *doctor.Case) { c.Facts["pg2"].Host.RemoveIPC, c.Facts["pg2"].Host.SystemUser = true, false }, doctor.Warning, "RemoveIPC=no"},
	{"huge-pages", func(c *doctor.Case) {
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			pg(c, n).Settings = append(pg(c, n).Settings, facts.Setting{Name: "shared_buffers", Value: "2097152", Source: "configuration file"})
		}
	}, doctor.Notice, "16.0 GB"},
	{"stalls", func(c *doctor.Case) { c.Statuses["pg2"].Members[1].StallMS = 1500 }, doctor.Warning, "1500 ms"},
	{"watchdog", func(c *doctor.Case) { c.Facts["pg2"].File.Watchdog = "" }, doctor.Notice, "softdog"},

	{"certificates", func(c *doctor.Case) { c.Facts["pg2"].Cert.End = now.Add(48 * time.Hour) }, doctor.Critical, "standfast cert rotate pg2"},
	{"certificates", func(c *doctor.Case) { c.Facts["pg2"].Cert.CAEnd = now.Add(48 * time.Hour) }, doctor.Warning, "authority"},
	{"passwords", func(c *doctor.Case) { pg(c, "pg1").Roles[0].Until = now.Add(-time.Hour) }, doctor.Critical, "has ended"},
	{"passwords", func(c *doctor.Case) { pg(c, "pg1").Roles[0].Until = now.Add(100 * time.Hour) }, doctor.Warning, "valid until 'infinity'"},
	{"passwords-md5", func(c *doctor.Case) { pg(c, "pg1").Roles[0].MD5 = true }, doctor.Warning, "app"},
	{"hba-trust", func(c *doctor.Case) { pg(c, "pg1").HBA[1].Method = "trust" }, doctor.Warning, "without a password"},
	{"open-secrets", func(c *doctor.Case) { c.Facts["pg2"].File.Open = []string{"/etc/standfast/token"} }, doctor.Warning, "chmod o= /etc/standfast/token"},
}

// TestFaults plants each fault in a healthy cluster: its check names it, with a way out of it.
func TestFaults(t *testing.T) {
	for i, f := range faults {
		t.Run(fmt.Sprintf("%s %d", f.check, i), func(t *testing.T) {
			c := healthy()
			f.plant(c)
			r := doctor.Examine(c, f.check)
			if len(r.Findings) == 0 {
				t.Fatal("nothing was found")
			}
			found := r.Findings[0]
			all := found.Text + "\n" + strings.Join(found.Evidence, "\n") + "\n" + strings.Join(found.Fix, "\n")
			if found.Check != f.check || found.Severity != f.severity || !strings.Contains(all, f.says) {
				t.Errorf("%+v, want %s with %q", found, f.severity, f.says)
			}
			if len(found.Fix) == 0 {
				t.Error("no remedy")
			}
			if n := len(found.Text) + len(strings.Join(found.Members, ", ")); n > 160 {
				t.Errorf("a sentence of %d characters can't be taken in at a glance: %s", n, found.Text)
			}
		})
	}
}

// TestEveryCheckIsTried: there is a planted fault for each check, and no ID or group twice or unknown.
func TestEveryCheckIsTried(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range doctor.All {
		if seen[k.ID] || slices.Contains(doctor.Groups, k.ID) {
			t.Errorf("%s is taken", k.ID)
		}
		seen[k.ID] = true
		if !slices.Contains(doctor.Groups, k.Group) {
			t.Errorf("%s belongs to the group %s, which there is not", k.ID, k.Group)
		}
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.check == k.ID }) {
			t.Errorf("no fault is planted for %s", k.ID)
		}
	}
}

// TestOthersStaySilent: a fault in one place raises no alarm about what has nothing to do with it.
func TestOthersStaySilent(t *testing.T) {
	for _, f := range faults {
		if slices.Contains([]string{"agent-down", "no-majority", "no-primary", "not-founded", "copies", "next-loss", "split-brain", "server-down", "standby-detached", "server-stalled", "rebuilding", "replication-lag", "heartbeats"}, f.check) {
			continue // these have consequences
		}
		c := healthy()
		f.plant(c)
		for _, found := range doctor.Examine(c).Findings {
			if found.Check != f.check && found.Severity == doctor.Critical {
				t.Errorf("%s is planted, and %s says %s", f.check, found.Check, found.Text)
			}
		}
	}
}

// TestNothingAnswers: with nobody there is no panic, and it is said that all is unknown.
func TestNothingAnswers(t *testing.T) {
	c := healthy()
	for _, m := range c.Members {
		c.Silent[m.Name] = "connection refused"
	}
	clear(c.Statuses)
	clear(c.Facts)
	clear(c.Offsets)
	c.History = nil
	r := doctor.Examine(c)
	if r.Worst() != doctor.Critical || len(r.Unknown) != 3 {
		t.Errorf("%+v", r)
	}
	for _, f := range r.Findings {
		if f.Check != "agent-down" && f.Check != "no-majority" {
			t.Errorf("nothing is known, and %s says %s", f.Check, f.Text)
		}
	}
}

// TestPartsMissing: each fact that may be missing is taken away in turn; nothing panics, nothing is made up.
func TestPartsMissing(t *testing.T) {
	for name, take := range map[string]func(f *facts.Member){
		"PostgreSQL": func(f *facts.Member) { f.Postgres = nil },
		"certs":      func(f *facts.Member) { f.Cert = nil },
		"etcd":       func(f *facts.Member) { f.Etcd = nil },
		"sync":       func(f *facts.Member) { f.Sync = nil },
		"host":       func(f *facts.Member) { f.Host = facts.Host{} },
		"server": func(f *facts.Member) {
			f.Postgres = &facts.Postgres{Version: 170004, Recovery: f.Name != "pg1", SystemID: "7", Archive: facts.Archive{Mode: "off"}}
		},
		"rest": func(f *facts.Member) { f.Disks, f.Units, f.Reach, f.Addresses, f.Logs = nil, nil, nil, nil, nil },
	} {
		c := healthy()
		for _, f := range c.Facts {
			take(f)
			f.Unknown = []facts.Question{{What: name, Why: "it was taken away"}}
		}
		r := doctor.Examine(c)
		for _, f := range r.Findings {
			if f.Severity != doctor.Notice && f.Check != "sender-missing" {
				t.Errorf("without %s: %s says %s", name, f.Check, f.Text)
			}
		}
		if len(r.Unknown) != 3 {
			t.Errorf("without %s: unknown are %v", name, r.Unknown)
		}
	}
}

// TestTheSameOnSeveralHosts is told once.
func TestTheSameOnSeveralHosts(t *testing.T) {
	c := healthy()
	c.Facts["pg2"].Host.Clock, c.Facts["pg3"].Host.Clock = "no", "no"
	r := doctor.Examine(c, "host")
	if len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Members, []string{"pg2", "pg3"}) || len(r.Findings[0].Evidence) != 1 {
		t.Errorf("%+v", r.Findings)
	}
	c.Facts["pg2"].Disks[0].Free, c.Facts["pg3"].Disks[0].Free = 15*gb, 15*gb+gb/2
	r = doctor.Examine(c, "disk")
	if len(r.Findings) != 1 || len(r.Findings[0].Evidence) != 4 || !strings.HasPrefix(r.Findings[0].Evidence[0], "pg2: 15.0 GB") {
		t.Errorf("%+v", r.Findings)
	}
}

// TestDocumentation: docs/DOCTOR.md lists the checks as the code has them.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/DOCTOR.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), doctor.Table()) {
		t.Errorf("docs/DOCTOR.md does not end with this table; put it there:\n%s", doctor.Table())
	}
}
