//go:build e2e

package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"standfast/config"
	"standfast/doctor"
	"standfast/playground/load"
	"standfast/test/system/rig"
)

// machine are the checks that judge the machine which the tests run on, and not the cluster.
var machine = []string{"disk", "inodes", "disk-slow", "memory", "swapping", "stalls", "etcd-disk", "clock-unsynced", "kernel"}

// doctorTime is what the doctor promises.
const doctorTime = 5 * time.Second

// examine runs the command on a node.
func examine(t *testing.T, n *rig.Node) doctor.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, rig.Binary(), "doctor", "--config", n.File(), "-o", "json")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	var r doctor.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s %s", err, &out, &said)
	}
	want := map[doctor.Severity]int{doctor.Critical: 8, doctor.Warning: 7}[r.Worst()]
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("it exits with %d, not %d", got, want)
	}
	if r.Took > doctorTime {
		t.Errorf("it took %v", r.Took)
	}
	return r
}

// named reports whether a check found something about the member, or at all with "".
func named(r doctor.Report, check, member string) bool {
	return slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Check == check && (member == "" || slices.Contains(f.Members, member))
	})
}

func describe(r doctor.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %s %s %v: %s %q\n", f.Severity, f.Check, f.Members, f.Text, f.Evidence)
	}
	for _, g := range r.Unknown {
		fmt.Fprintf(&b, "  unknown %s %s: %s\n", g.Member, g.What, g.Why)
	}
	return b.String()
}

// TestDoctor: a healthy cluster gives no finding but of the machine; then faults are planted in real servers, files and processes, and
// each is named, within five seconds, from whichever host it is asked.
func TestDoctor(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t)
	s := &scene{t: t, r: r, primary: primary, term: term}
	standby := r.Others(primary)[0]
	s.healthy(standby)
	s.plantInServers(standby)
	s.packs(standby)
	s.drops("forgotten")
	s.plantInProcesses()
}

// healthy waits for what settles after the founding, and wants nothing to be found then.
func (s *scene) healthy(from *rig.Node) {
	s.t.Helper()
	var report doctor.Report
	for deadline := time.Now().Add(healTime); ; pause(all) {
		report = examine(s.t, from)
		bad := slices.ContainsFunc(report.Findings, func(f doctor.Finding) bool {
			return f.Severity != doctor.Notice && !slices.Contains(machine, f.Check)
		})
		if !bad && len(report.Unknown) == 0 {
			s.t.Logf("healthy: %d checks in %v\n%s", report.Checks, report.Took, describe(report))
			return
		}
		if time.Now().After(deadline) || all.Err() != nil {
			s.t.Fatalf("a healthy cluster gives\n%s", describe(report))
		}
	}
}

// super is the superuser's way to a node's server.
func (s *scene) super(n *rig.Node) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", filepath.Join(n.StateDir(), "run"), s.r.Ports().Postgres)
}

func (s *scene) plantInServers(standby *rig.Node) {
	s.t.Helper()
	s.run(s.super(s.primary),
		"alter role playground set synchronous_commit = off",                    // sync-opt-out
		"alter role playground connection limit 500",                            // pools
		"create role visitor login valid until 'yesterday'",                     // passwords
		"set password_encryption = md5", "create role oldie login password 'x'", // passwords-md5
		"select pg_create_physical_replication_slot('forgotten', true)", // slot-undeclared
		"alter system set work_mem = '7MB'", "select pg_reload_conf()")  // auto-conf, settings-differ
	s.run(s.super(standby), "select pg_wal_replay_pause()") // replay-paused
	_, err := s.r.Client().SetKeys(all, []config.Setting{
		{Key: "postgresql.parameters.autovacuum", Value: "off"},                                                 // settings-unsafe
		{Key: "postgresql.parameters.max_wal_senders", Value: "21"},                                             // pending-restart
		{Key: "postgresql.hba", Value: `["host all all 192.0.2.1/32 trust", "host all all all scram-sha-256"]`}, // hba-trust
	}, false, progress(s.t))
	must(s.t, err)
	must(s.t, s.r.Client().Pause(all, time.Hour, progress(s.t)))    // paused
	must(s.t, os.Chmod(filepath.Join(standby.Dir, "token"), 0o644)) // open-secrets
	s.refuse()                                                      // refused
	defer s.crowd(80)()                                             // connections
	want := map[string]string{
		"sync-opt-out": "", "pools": "", "passwords": "", "passwords-md5": "", "slot-undeclared": "", "auto-conf": s.primary.Name, "settings-differ": "",
		"replay-paused": standby.Name, "settings-unsafe": s.primary.Name, "pending-restart": s.primary.Name, "hba-trust": "", "paused": "", "open-secrets": standby.Name,
		"refused": s.primary.Name, "connections": s.primary.Name,
	}
	s.finds(standby, want)
	s.run(s.super(standby), "select pg_wal_replay_resume()")
	must(s.t, s.r.Client().Resume(all, progress(s.t)))
}

// finds examines until each fault is named: the configuration reaches the servers a moment after it was agreed.
func (s *scene) finds(from *rig.Node, want map[string]string) {
	s.t.Helper()
	for deadline := time.Now().Add(healTime); ; pause(all) {
		report := examine(s.t, from)
		var missing []string
		for check, member := range want {
			if !named(report, check, member) {
				missing = append(missing, strings.TrimSpace(check+" "+member))
			}
		}
		if len(missing) == 0 {
			s.t.Logf("%d faults named in %v", len(want), report.Took)
			return
		}
		if time.Now().After(deadline) || all.Err() != nil {
			s.t.Fatalf("not named: %s\n%s", strings.Join(missing, ", "), describe(report))
		}
	}
}

// refuse has the primary turn a client away for its password.
func (s *scene) refuse() {
	s.t.Helper()
	cfg, err := pgx.ParseConfig(s.r.WriteThrough(s.primary))
	must(s.t, err)
	cfg.Password = "not the password"
	conn, err := pgx.ConnectConfig(all, cfg)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "28P01" { // invalid_password
		s.t.Fatalf("a wrong password: %v, %v", conn, err)
	}
}

// crowd opens connections to the primary and returns what closes them.
func (s *scene) crowd(n int) func() {
	s.t.Helper()
	var open []*pgx.Conn
	for range n {
		conn, err := pgx.Connect(all, s.r.DSN(s.primary.Address, s.r.Ports().Postgres))
		must(s.t, err)
		open = append(open, conn)
	}
	return func() {
		for _, conn := range open {
			load.CloseNow(conn)
		}
	}
}

// plantInProcesses: a member that is gone, and one that hangs and answers nobody.
func (s *scene) plantInProcesses() {
	s.t.Helper()
	others := s.r.Others(s.primary)
	gone, frozen := others[0], others[1]
	must(s.t, gone.Kill())
	s.finds(frozen, map[string]string{"agent-down": gone.Name, "next-loss": ""})
	s.finds(gone, map[string]string{"agent-down": gone.Name}) // its own host can tell
	must(s.t, gone.Start())
	s.heal()
	frozen.Freeze()
	s.finds(gone, map[string]string{"agent-down": frozen.Name, "next-loss": ""})
	frozen.Thaw()
	s.heal()
}
