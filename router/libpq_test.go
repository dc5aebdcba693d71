package router

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// What a user of libpq sees: its ways with SSLRequest and CancelRequest differ from what one would write oneself.

func (g *rig) serve(p *pg) string {
	g.addrs["pg1"] = p.addr
	g.to("pg1")
	return g.Addrs(WriteSide)[0].String()
}

func TestPsqlShowsTheReasonWhateverItsSSLMode(t *testing.T) {
	p := startPostgres(t, true)
	g := newRig(t, Config{Certificate: func() (*tls.Certificate, error) { return &p.cert, nil }})
	addr := g.serve(p)
	bare := newRig(t, Config{})
	for _, mode := range []string{"disable", "allow", "prefer", "require"} {
		out, err := p.psql(t, addr, "sslmode="+mode, "select 'over ' || coalesce((select version from pg_stat_ssl where pid = pg_backend_pid()), 'plain')")
		if err != nil {
			t.Fatalf("sslmode=%s: %v\n%s", mode, err, out)
		}
		if secure := strings.Contains(out, "TLS"); secure != (mode == "prefer" || mode == "require") {
			t.Errorf("sslmode=%s: connected %s", mode, out)
		}
	}
	none := cluster.Route{Term: 1, Why: "pg1 does not hear a majority: pg2 and pg3 are missing"}
	g.route(none)
	bare.route(none)
	for _, mode := range []string{"disable", "allow", "prefer", "require"} {
		out, err := p.psql(t, addr, "sslmode="+mode, "select 1")
		if err == nil || !strings.Contains(out, none.Why) {
			t.Errorf("sslmode=%s: psql does not show the reason: %v\n%s", mode, err, out)
		}
		out, err = p.psql(t, bare.Addrs(WriteSide)[0].String(), "sslmode="+mode, "select 1")
		if shown := strings.Contains(out, none.Why); err == nil || shown != (mode != "require") {
			t.Errorf("sslmode=%s without a certificate: %v\n%s", mode, err, out)
		}
	}
}

func TestPsqlWaitsForTheServerToComeBack(t *testing.T) {
	p := startPostgres(t, true)
	g := newRig(t, Config{})
	addr := g.serve(p)
	p.stop(t)
	done := make(chan error, 2)
	for range 2 {
		go func() {
			out, err := p.psql(t, addr, "sslmode=disable", "select 1")
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, out)
			}
			done <- err
		}()
	}
	eventually(t, "both wait", func() bool { return g.Stats().Sides[WriteSide].Held == 2 })
	p.start(t) // at first it takes connections and says that it is starting up
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// PQcancel, which a psql that is interrupted calls, sends a plaintext CancelRequest whatever the session has, psql 17 too.
func TestInterruptedPsqlCancelsItsQuery(t *testing.T) {
	p := startPostgres(t, true)
	g := newRig(t, Config{})
	addr := g.serve(p)
	for _, mode := range []string{"disable", "require"} {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(p.bin, "psql"), "-XAtq", "-c", "select pg_sleep(60) /* "+mode+" */", p.conninfo(addr, "sslmode="+mode))
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the query runs", func() bool {
				n, err := p.psql(t, p.addr, "", "select count(*) from pg_stat_activity where query like '%sleep(60) /* "+mode+"%' and wait_event = 'PgSleep'")
				return err == nil && strings.TrimSpace(n) == "1"
			})
			begin := time.Now()
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			cmd.Wait() // its exit code is that of a failed query
			if !strings.Contains(out.String(), "canceling statement due to user request") || time.Since(begin) > 10*time.Second {
				t.Errorf("after %s psql says: %s", time.Since(begin), out.String())
			}
		})
	}
}

func TestPsqlIsToldWhyItsSessionEnds(t *testing.T) {
	p := startPostgres(t, false)
	g := newRig(t, Config{})
	addr := g.serve(p)
	cmd := exec.Command(filepath.Join(p.bin, "psql"), "-XAtq", p.conninfo(addr, ""))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Write([]byte("begin;\nselect 'connected';\n"))
	eventually(t, "it is idle in a transaction", func() bool {
		n, err := p.psql(t, p.addr, "", "select count(*) from pg_stat_activity where state = 'idle in transaction'")
		return err == nil && strings.TrimSpace(n) == "1"
	})
	g.route(cluster.Route{Term: 2, Hold: true})
	eventually(t, "it is cut", func() bool { return g.Stats().Cut == 1 })
	stdin.Write([]byte("commit;\n"))
	stdin.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("psql reports success")
	}
	if !strings.Contains(out.String(), "pg1 is no longer the primary") {
		t.Errorf("psql says: %s", out.String())
	}
}
