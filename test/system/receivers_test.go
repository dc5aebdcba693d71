//go:build e2e

package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"standfast/config"
	"standfast/postgres"
	"standfast/test/system/rig"
)

// TestReceiverGoesOn: pg_receivewal, away while its primary's host dies, goes on at the new primary where it was. What it has
// to come is kept for it by its slot alone: nothing else keeps WAL here.
func TestReceiverGoesOn(t *testing.T) {
	r, primary, term := own(t, "bootstrap.postgresql.replication_clients=[{name: archive}]",
		"bootstrap.postgresql.parameters={wal_keep_size: 0, min_wal_size: 8MB}")
	s := &scene{t: t, r: r, primary: primary, term: term}
	s.awaitMade("archive")
	s.command(primary, "ALTER ROLE archive PASSWORD 'receives'")
	s.command(primary, "CREATE TABLE filling (text text)")
	in := receiver{dir: t.TempDir(), dsn: r.WriteDSN()}
	in.run(t)
	s.fill(primary)
	s.archived(primary)
	in.end(t)

	s.fill(primary) // while nobody receives
	if st := s.status(primary); len(st.ReplicationClients) != 1 || st.ReplicationClients[0].Name != "archive" {
		t.Errorf("the status tells of the replication clients %+v", st.ReplicationClients)
	}
	s.awaitClientSlots("archive")
	must(t, primary.Kill())
	s.reign(takeover)
	must(t, primary.Start())
	s.primary, s.term = s.heal()
	s.fill(s.primary)
	in.run(t)
	s.archived(s.primary)
	in.end(t)
	in.compare(t, s.primary)

	_, err := r.Client().SetKeys(all, []config.Setting{{Key: "postgresql.replication_clients"}}, false, progress(t))
	must(t, err)
	for _, n := range r.Nodes {
		s.awaitNoSlot(n, "archive")
	}
}

// fill writes some segments of WAL and has them checkpointed everywhere, so that whatever is not kept goes.
func (s *scene) fill(primary *rig.Node) {
	s.t.Helper()
	for range 4 {
		s.command(primary, "INSERT INTO filling SELECT repeat(md5(n::text), 30) FROM generate_series(1, 2000) n")
		s.command(primary, "SELECT pg_switch_wal()")
	}
	s.command(primary, "CHECKPOINT")
	for _, n := range s.r.Others(primary) {
		s.command(n, "CHECKPOINT")
	}
}

// archived waits until the client has everything that the primary has now.
func (s *scene) archived(primary *rig.Node) {
	s.t.Helper()
	s.command(primary, "SELECT pg_switch_wal()")
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	conn, err := s.superuser(ctx, primary)
	must(s.t, err)
	defer conn.Close(context.WithoutCancel(ctx))
	var end string
	must(s.t, conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&end))
	for done := false; !done; pause(ctx) {
		err := conn.QueryRow(ctx, "SELECT count(*) = 1 FROM pg_stat_replication WHERE usename = 'archive' AND flush_lsn >= $1::pg_lsn", end).Scan(&done)
		if err != nil {
			s.t.Fatalf("pg_receivewal does not come to %s: %v", end, err)
		}
	}
}

// awaitClientSlots waits until every standby keeps WAL for the client, and from no later on than its primary.
func (s *scene) awaitClientSlots(name string) {
	s.t.Helper()
	at := s.ask(s.r.WriteDSN(), "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = '"+name+"'")
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for _, n := range s.r.Others(s.primary) {
		conn, err := s.superuser(ctx, n)
		must(s.t, err)
		defer conn.Close(context.WithoutCancel(ctx))
		for done := false; !done; pause(ctx) {
			must(s.t, conn.QueryRow(ctx, "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = $1 AND restart_lsn <= $2::pg_lsn", name, at).Scan(&done))
		}
	}
}

func (s *scene) awaitNoSlot(n *rig.Node, name string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	conn, err := s.superuser(ctx, n)
	must(s.t, err)
	defer conn.Close(context.WithoutCancel(ctx))
	for done := false; !done; pause(ctx) {
		if err := conn.QueryRow(ctx, "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = $1", name).Scan(&done); err != nil {
			s.t.Fatalf("%s keeps the slot %s: %v", n.Name, name, err)
		}
	}
}

// receiver is PostgreSQL's own pg_receivewal at work through the floating address.
type receiver struct {
	dir, dsn string
	cmd      *exec.Cmd
	said     *bytes.Buffer
}

func (in *receiver) run(t *testing.T) {
	t.Helper()
	bin, _, err := postgres.FindBinDir("")
	must(t, err)
	to, err := pgx.ParseConfig(in.dsn)
	must(t, err)
	in.said = &bytes.Buffer{}
	in.cmd = exec.Command(filepath.Join(bin, "pg_receivewal"), "-D", in.dir, "--slot=archive", "--synchronous", "--verbose",
		"-d", fmt.Sprintf("host=%s port=%d user=archive password=receives sslmode=require", to.Host, to.Port))
	in.cmd.Env = append(os.Environ(), "HOME="+in.dir) // libpq looks for certificates there
	in.cmd.Stdout, in.cmd.Stderr = in.said, in.said
	must(t, in.cmd.Start())
	cmd, said := in.cmd, in.said
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // the test has failed
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("pg_receivewal: %s", said)
		}
	})
}

// end has it stop in order, as an interrupt does.
func (in *receiver) end(t *testing.T) {
	t.Helper()
	must(t, in.cmd.Process.Signal(os.Interrupt))
	if err := in.cmd.Wait(); err != nil {
		t.Fatalf("pg_receivewal: %v: %s", err, in.said)
	}
}

// compare: the segments received have no gap between them, and each that the server still has is the same there.
func (in *receiver) compare(t *testing.T, n *rig.Node) {
	t.Helper()
	entries, err := os.ReadDir(in.dir)
	must(t, err)
	var segments []string
	for _, e := range entries {
		if name, part := strings.CutSuffix(e.Name(), ".partial"); len(name) == 24 && !part {
			segments = append(segments, name)
		}
	}
	slices.SortFunc(segments, func(a, b string) int { return strings.Compare(a[8:]+a[:8], b[8:]+b[:8]) })
	same, timelines := 0, map[string]bool{}
	for i, name := range segments {
		timelines[name[:8]] = true
		if i > 0 && number(t, name) > number(t, segments[i-1])+1 {
			t.Errorf("there is a gap between %s and %s", segments[i-1], name)
		}
		there, err := os.ReadFile(filepath.Join(n.StateDir(), "data", "pg_wal", name))
		if os.IsNotExist(err) {
			continue // nobody needs it any more
		}
		must(t, err)
		here, err := os.ReadFile(filepath.Join(in.dir, name))
		must(t, err)
		if !bytes.Equal(here, there) {
			t.Errorf("%s is not what %s has", name, n.Name)
		}
		same++
	}
	if len(timelines) != 2 || same < 4 {
		t.Errorf("received %q, of which %s has %d: the test shows nothing", segments, n.Name, same)
	}
	t.Logf("%d segments of 2 timelines were received without a gap; %s still has %d of them, and they are the same", len(segments), n.Name, same)
}

// number counts segments of 4 MB, which this cluster has: 1024 to each of the name's middle part.
func number(t *testing.T, segment string) (n int) {
	t.Helper()
	var log, seg int
	_, err := fmt.Sscanf(segment[8:], "%08X%08X", &log, &seg)
	must(t, err)
	return log*1024 + seg
}
