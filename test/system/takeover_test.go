//go:build e2e

package system

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/postgres"
	"standfast/test/system/rig"
)

// TestTakeOverRunningPrimary makes a cluster of a server that runs, and of two empty hosts, while a client writes to the server itself: it is
// not restarted, nothing is lost, and afterwards it is a cluster like any other.
func TestTakeOverRunningPrimary(t *testing.T) {
	t.Parallel()
	h := &hand{t: t, dir: filepath.Join(t.TempDir(), "c")} // init makes it
	at, err := netip.ParseAddr(take(t).separate)
	must(t, err)
	var members []string
	for i := range 3 {
		at = at.Next()
		h.addresses = append(h.addresses, at.String())
		members = append(members, fmt.Sprintf("pg%d=%s", i+1, at))
	}
	h.run(0, "", append([]string{"init", "--out", h.dir, "--set", "bootstrap.lease=6s", "--set", `bootstrap.postgresql.hba=["local all all trust", "host all all 127.0.0.0/8 trust"]`, "running"}, members...)...)
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		must(t, os.Mkdir(h.state(name), 0o700))
		f, err := os.OpenFile(h.file(name), os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = fmt.Fprintf(f, "state_dir: %s\ntls_dir: %s/tls\nsecret_file: %[2]s/secret\ntoken_file: %[2]s/token\n", h.state(name), h.home(name))
		must(t, err)
		must(t, f.Close())
	}
	before := h.site("pg1", h.addresses[0])
	w := writeTo(t, fmt.Sprintf("host=%s port=5432 user=postgres dbname=postgres sslmode=disable", h.addresses[0]))

	take := exec.CommandContext(all, rig.Binary(), "server", "take-over")
	take.Env = append(os.Environ(), "STANDFAST_CONFIG="+h.file("pg1"))
	if out, err := take.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The agent finds no majority at first, for longer than the lease: the server is left alone.
	h.start("pg1")
	time.Sleep(8 * time.Second)
	h.start("pg2")
	h.start("pg3")
	cl := h.whole()
	defer cl.Close()
	st, _, err := cl.Status(all)
	must(t, err)
	if st.Term != 1 || st.Primary != "pg1" || h.postmaster("pg1") != before {
		t.Errorf("term %d of %s; process %s was %s", st.Term, st.Primary, h.postmaster("pg1"), before)
	}
	w.end(t)
	h.run(0, "", "--config", h.file("pg2"), "switchover")
	h.whole().Close()
	if now := h.postmaster("pg1"); now == before {
		t.Error("the old primary was not started as a standby")
	}
}

// site makes a server as somebody without Standfast would, and starts it.
func (h *hand) site(name, address string) (process string) {
	h.t.Helper()
	bin, _, err := postgres.FindBinDir("")
	must(h.t, err)
	data := filepath.Join(h.state(name), "data")
	out, err := exec.CommandContext(all, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust").CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-c", "listen_addresses="+address, "-c", "unix_socket_directories="+h.dir)
	log, err := os.Create(filepath.Join(h.dir, "site.log"))
	must(h.t, err)
	cmd.Stdout, cmd.Stderr = log, log
	must(h.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, but for a test that failed
		<-ended
		log.Close()
	})
	h.listens(address + ":5432")
	return h.postmaster(name)
}

func (h *hand) postmaster(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.state(name), "data", "postmaster.pid"))
	must(h.t, err)
	return strings.Join(strings.SplitN(string(text), "\n", 4)[:3], " ")
}

// rowWriter commits row after row and remembers what was acknowledged.
type rowWriter struct {
	dsn     string
	stop    context.CancelFunc
	wait    sync.WaitGroup
	acked   []int
	longest time.Duration
}

func writeTo(t *testing.T, dsn string) *rowWriter {
	t.Helper()
	ctx, stop := context.WithCancel(all)
	w := &rowWriter{dsn: dsn, stop: stop}
	var conn *pgx.Conn
	var err error
	for end := time.Now().Add(time.Minute); ; pause(ctx) {
		if conn, err = pgx.Connect(ctx, dsn); err == nil || time.Now().After(end) {
			break
		}
	}
	must(t, err)
	_, err = conn.Exec(ctx, "create table rows_written (i int primary key)")
	must(t, err)
	w.wait.Go(func() { w.work(ctx, conn) })
	t.Cleanup(func() { stop(); w.wait.Wait() })
	return w
}

func (w *rowWriter) work(ctx context.Context, conn *pgx.Conn) {
	last := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		var err error
		if conn == nil {
			if conn, err = pgx.Connect(ctx, w.dsn); err != nil {
				conn = nil
				pause(ctx)
				continue
			}
		}
		if _, err := conn.Exec(ctx, "insert into rows_written values ($1)", i); err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
			conn = nil
			continue
		}
		w.acked = append(w.acked, i)
		w.longest, last = max(w.longest, time.Since(last)), time.Now()
		time.Sleep(2 * time.Millisecond)
	}
	if conn != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
}

// end looks for every row that was acknowledged.
func (w *rowWriter) end(t *testing.T) {
	t.Helper()
	w.stop()
	w.wait.Wait()
	conn, err := pgx.Connect(all, w.dsn)
	must(t, err)
	defer conn.Close(all)
	var there int
	must(t, conn.QueryRow(all, "select count(*) from rows_written where i = any($1)", w.acked).Scan(&there))
	t.Logf("%d commits acknowledged, %d of them there; writes were out for %s at most", len(w.acked), there, w.longest.Round(time.Millisecond))
	if there != len(w.acked) || there == 0 {
		t.Errorf("%d acknowledged commits are lost", len(w.acked)-there)
	}
}
