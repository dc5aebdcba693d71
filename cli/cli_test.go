package cli_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"standfast/api"
	"standfast/certs"
	"standfast/cli"
	"standfast/cluster"
	"standfast/config"
	"standfast/ops/founding"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"standfast": func() { os.Exit(cli.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the command line of testdata/*.txtar against members that answer from memory, over real TLS and
// with the real protocol. "cluster NAME" in a script starts one in that condition.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", e.WorkDir) // no playground that runs on this machine may be found
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"cluster": startCluster, "exits": exits, "plant": plant},
	})
}

// exits runs a command and compares its exit code: "exits 3 standfast promote".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		_, text, _ := strings.Cut(err.Error(), "exit status ")
		if code, err = strconv.Atoi(text); err != nil {
			ts.Fatalf("%v", err)
		}
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v exits with %d, not %s", args[1:], code, args[0])
	}
}

func startCluster(ts *testscript.TestScript, neg bool, args []string) {
	f := &fake{yaml: "# agreed\ndurability: quorum\ndetection: fast # quick\n", revision: 7}
	for _, condition := range args {
		f.condition = condition
	}
	dir := ts.MkAbs(".")
	members := make([]config.Member, 3)
	for i := range members {
		// An address of its own for each: on 127.0.0.1 a port that was free is soon some connection's.
		address := fmt.Sprintf("127.61.%d.%d", clusters.Add(1)%250, i+1)
		members[i] = config.Member{Name: fmt.Sprintf("pg%d", i+1), Address: address, Ports: freePorts(ts, address)}
	}
	s := founding.Spec{
		Cluster: "main", Members: members,
		Home:     func(m string) string { return filepath.Join(dir, m) },
		StateDir: func(m string) string { return filepath.Join(dir, m, "state") },
	}
	if err := s.Write(filepath.Join(dir, "ca"), s.Home, time.Now()); err != nil {
		ts.Fatalf("%v", err)
	}
	for i, m := range members {
		if f.condition == "gone" || f.condition == "one down" && i == 2 {
			continue
		}
		serve(ts, f, filepath.Join(dir, m.Name, founding.FileName))
	}
	ts.Setenv("STANDFAST_CONFIG", filepath.Join(dir, "pg1", founding.FileName))
}

var clusters atomic.Int32

func freePorts(ts *testscript.TestScript, address string) config.Ports {
	var p config.Ports
	for _, to := range []*int{&p.Postgres, &p.Write, &p.Read, &p.Health, &p.Admin, &p.Beat, &p.EtcdClient, &p.EtcdPeer} {
		l, err := net.Listen("tcp", address+":0")
		if err != nil {
			ts.Fatalf("%v", err)
		}
		defer l.Close() // all open until all are chosen, so that none comes twice
		*to = l.Addr().(*net.TCPAddr).Port
	}
	return p
}

func serve(ts *testscript.TestScript, f *fake, file string) {
	n, err := config.LoadNode(file, nil, nil)
	if err != nil {
		ts.Fatalf("%v", err)
	}
	token, err := os.ReadFile(n.TokenFile)
	if err != nil {
		ts.Fatalf("%v", err)
	}
	tlsConfig, err := certs.ServerTLS(certs.In(n.TLSDir))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	tlsConfig.GetConfigForClient, tlsConfig.ClientAuth = nil, tls.NoClientCert
	m := &member{f, n.Name}
	s, err := api.New(api.Config{
		Health: []string{n.ListenAt(n.Self().Ports.Health)}, Admin: []string{n.ListenAt(n.Self().Ports.Admin)}, TLS: tlsConfig,
		Tokens: func(t string) (api.Operator, bool) {
			return api.Operator{Name: "operator", Access: api.Admin}, t == strings.TrimSpace(string(token))
		}, Grants: &f.grants,
		Source: m, Ops: m, Facts: func(context.Context, bool) (any, error) { return f.facts(n.Name), nil }, Events: f.events(n.Name), Logs: logged(n.Name), Salvage: f.salvage(n.Name), Support: f.support(n, file), Slots: func(context.Context) ([]api.Slot, error) { return f.slotsOf(n.Name), nil }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		ts.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Listen(ctx); err != nil {
		ts.Fatalf("%v", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		if err := <-done; err != nil {
			ts.Logf("api: %v", err)
		}
	})
}

func ptr[T any](v T) *T { return &v }

// status is what the members of a cluster in that condition tell.
func (f *fake) status(self string) *api.Status {
	st := &api.Status{
		Schema: api.Schema, Version: "1.0", Cluster: "main", Self: self, Observed: time.Now(), Term: 4, Phase: cluster.Reigning, Primary: "pg1",
		Since: time.Now().Add(-3*time.Hour - 2*time.Minute), Reason: "pg2 was not heard from", By: "pg1", Timeline: 3, Store: api.Store{OK: true}, Warnings: []string{},
	}
	if f.moved != "" {
		st.Primary, st.Term = f.moved, 5
	}
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		m := api.Member{
			Member: cluster.Member{Name: name, Kind: cluster.Data, Priority: 100, Postgres: "10.0.0.1" + name[2:] + ":5432", Write: "10.0.0.1" + name[2:] + ":5000", Read: "10.0.0.1" + name[2:] + ":5001", API: "10.0.0.1" + name[2:] + ":8008", Location: "room " + name[2:]},
			Role:   api.Standby, State: api.Running, Timeline: 3, LSN: 0x5_1234ABCD, Lag: ptr(int64(0)), Attached: true, Readable: true, InRule: true, Sessions: 3,
		}
		if name == st.Primary {
			m.Role, m.Writable, m.InRule, m.Sessions = api.Primary, true, false, 112
		}
		st.Members = append(st.Members, m)
	}
	down := func(m *api.Member, s api.State, note string) {
		m.State, m.Attached, m.Readable, m.InRule, m.Lag, m.Note = s, false, false, false, nil, note
	}
	switch f.condition {
	case "one down":
		down(&st.Members[2], api.Unreachable, "")
		st.Warnings = []string{"pg3 is not heard from for 40 s: see whether the host is up"}
	case "cloning":
		down(&st.Members[1], api.Cloning, "cloning from pg1: 1.2 GB of 3.4 GB")
	case "electing":
		st.Primary, st.Phase = "", cluster.Electing
		st.Members[0].Role, st.Members[0].Writable, st.Members[0].State = api.Standby, false, api.Unreachable
		st.Warnings = []string{"no writes: term 4 is electing a primary since 1 s"}
	case "priority":
		st.Members[1].Priority = 0
	}
	st.Commit = api.Describe(cluster.Quorum, cluster.NewRule(1, "pg2", "pg3"), func(n string) bool { return st.Member(n).Attached }, 1)
	st.History = []api.Entry{
		{Term: 1, Timeline: 1, Primary: "pg1", Reason: "the cluster was founded", By: "pg1", Kind: "bootstrap", At: 1767225600000},
		{Term: 4, Timeline: 3, Primary: "pg1", Old: "pg2", Reason: "pg2 was not heard from by pg1 and pg3 for 0.7 s", By: "pg1", Kind: "failover", OutageMS: 812, At: 1767312000000,
			Steps: []cluster.Step{{Name: "electing", By: "pg1", At: 1767312000000}, {Name: "elected", By: "pg1", At: 1767312000021}, {Name: "admitted", By: "pg1", At: 1767312000110}}, Discarded: "2 transactions of pg2"},
	}
	return st
}
