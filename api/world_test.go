package api

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/measure"
)

// swapping is a Source as the agent is one: a pointer swapped atomically.
type swapping struct{ atomic.Pointer[Status] }

func (s *swapping) Snapshot() *Status { return s.Load() }

// fixed is a Source that never changes.
func fixed(st *Status) *swapping {
	s := &swapping{}
	s.Store(st)
	return s
}

// sample is a healthy cluster of pg1 (primary), pg2, pg3 and a witness pg4, seen from self. Its Status does not go stale
// within a test.
func sample(self string) *Status {
	rule := cluster.NewRule(1, "pg2", "pg3")
	st := &Status{
		Schema: Schema, Version: "1.0.0", Cluster: "main", SystemID: "7408277255830290455", Self: self,
		Observed: time.Now().Add(time.Hour), Term: 5, Phase: cluster.Reigning, Primary: "pg1", Since: time.Unix(1724873966, 0),
		Reason: "pg2 stopped answering", By: "pg3", Timeline: 4,
		Commit:   Describe(cluster.Quorum, rule, func(string) bool { return true }, 1),
		Store:    Store{OK: true, Kind: "embedded", Leader: "pg2", LastSeen: time.Unix(1724874295, 0)},
		Warnings: []string{},
		Postgres: Postgres{
			Version: 150004, Started: time.Date(2024, 8, 28, 19, 39, 26, 352526000, time.UTC),
			ReplayedAt: time.Unix(1724874290, 0), Connections: 7, MaxConnections: 100, DiskSize: 1 << 40, DiskFree: 1 << 39, WALRetained: 1 << 24,
		},
		Router: Router{
			Write:    Side{Listen: "10.0.0.1:5000", Target: "pg1", Sessions: 3, Accepted: 10, Received: 4096, Sent: 8192},
			Read:     Side{Listen: "10.0.0.1:5001", Target: "pg2", Sessions: 2, Waiting: 1},
			Backends: []Backend{{Member: "pg1", Side: "write", Sessions: 3, Limit: 90}, {Member: "pg2", Side: "read", Sessions: 2}},
		},
		Address: []Address{{Address: "10.0.0.10/24", Interface: "eth0", Follows: "primary", Holder: "pg1"}},
		History: []Entry{
			{Term: 1, Timeline: 1, Primary: "pg2", Reason: "a new cluster", By: "pg2", Kind: "bootstrap", At: 1724870000000},
			{Term: 5, Timeline: 4, Primary: "pg1", Old: "pg2", Reason: "pg2 stopped answering", By: "pg3", Kind: "failover", Fork: 25623960, OutageMS: 812, At: 1724873966000},
		},
	}
	st.Members = []Member{
		node("pg1", "10.0.0.11", Primary, Running), node("pg2", "10.0.0.12", Standby, Running), node("pg3", "10.0.0.13", Standby, Running),
		{Member: cluster.Member{Name: "pg4", Kind: cluster.Witness, API: "10.0.0.14:8008"}, Role: Witness, State: Watching},
	}
	st.Measured = measured(time.Now())
	st.Agent, st.Changes = Agent{Turns: 900, Acted: 12, Busy: time.Second}, map[string]uint64{"failover": 1}
	pg1 := st.Member("pg1")
	pg1.Writable, pg1.LSN = true, 0x5000060
	for _, name := range rule.Of {
		m := st.Member(name)
		m.Attached, m.Readable, m.InRule = true, true, true
		m.LSN, m.Replayed = 0x5000060, 0x5000000
		m.Lag, m.ReceiveLag, m.LagSeconds = new(int64(96)), new(int64(0)), new(0.25)
	}
	for i := range st.Members {
		if st.Members[i].Name != self {
			m := &st.Members[i]
			m.HeardMS, m.RoundTripMS, m.ClockMS, m.BeatsHeard, m.BeatsLost = new(int64(40)), new(0.4), new(int64(-3)), 1000, 2
		}
	}
	return st
}

// measured is something for every value that is measured.
func measured(at time.Time) measure.All {
	return measure.All{
		Postgres: &measure.Postgres{
			At: at, Took: 2 * time.Millisecond, Connections: []measure.Count{{Name: "idle", N: 5}, {Name: "active", N: 2}}, MaxConnections: 100, Reserved: 5,
			Locks: []measure.Count{{Name: "accesssharelock", N: 3}}, WALFiles: 1 << 26, XIDAge: 1000, FreezeMaxAge: 200000000,
			Databases: []measure.Database{{Name: "postgres", Commits: 100, Size: 8 << 20}, {Name: "app", Commits: 1000, Size: -1}},
			WAL:       measure.WAL{Position: 0x5000060, Records: 100, Bytes: 10000}, Archiver: &measure.Archiver{Archived: 3, Failed: 1, LastArchived: at, LastFailed: at},
			Slots:     []measure.Slot{{Name: "pg3", Type: "physical", Status: "reserved", Active: true, Held: 1 << 20}},
			Receivers: []measure.Receiver{{Name: "pg3", Streaming: true, WriteLag: 10, ReplayLag: 20}},
		},
		Host:  &measure.Host{At: at, Data: measure.Disk{Size: 1 << 40, Free: 1 << 39}, WAL: &measure.Disk{Size: 1 << 38, Free: 1 << 37}, Certificate: at.Add(time.Hour)},
		Store: &measure.Store{At: at, Size: 1 << 20}, Failures: map[string]uint64{"host": 1},
	}
}

func node(name, host string, r Role, s State) Member {
	return Member{
		Member: cluster.Member{Name: name, Kind: cluster.Data, Priority: 100, Location: "hall " + name[2:], Postgres: host + ":5432", API: host + ":8008", Admin: host + ":8443"},
		Role:   r, State: s, Timeline: 4,
	}
}

// startPlain runs a server with a plain port of its own and returns its address.
func startPlain(tb testing.TB, cfg Config) string {
	tb.Helper()
	cfg.Health = []string{"127.0.0.1:0"}
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, s)
	health, _ := s.Addrs()
	return health[0].String()
}

// run starts the server and stops it with the test.
func run(tb testing.TB, s *Server) {
	tb.Helper()
	if err := s.Listen(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
}
