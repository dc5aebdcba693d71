//go:build e2e

package system

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/playground"
	"standfast/playground/load"
	"standfast/test/checker"
	"standfast/test/system/rig"
)

// Ports of the other programs, on the first member's address.
const (
	renderedWrite, renderedRead = 7000, 7001
	guideWrite, guideRead       = 7010, 7011
	guideReady                  = 7012
	patroniWrite, patroniRead   = 7020, 7021
	poolPort                    = 7030
)

// TestToolsOfOthers: HAProxy by the configuration that render prints, by the hand-built stack's check lines and by Patroni's; PgBouncer by the
// configuration that render prints; psql and pgx with lists of members and of routers. Clients of each go on after a failover, and lose nothing.
func TestToolsOfOthers(t *testing.T) {
	t.Parallel()
	r, primary, term := whole(t)
	s := &scene{t: t, r: r, primary: primary, term: term}
	at := r.Nodes[0].Address
	s.haproxy(at)
	s.pgbouncer(at)
	s.psql()
	cfg := checker.Config{
		Think: think,
		Write: []checker.Way{
			{Name: "HAProxy as rendered", DSN: r.DSN(at, renderedWrite)}, {Name: "HAProxy with GET /master", DSN: r.DSN(at, guideWrite)},
			{Name: "HAProxy with OPTIONS /primary", DSN: r.DSN(at, patroniWrite)}, {Name: "PgBouncer", DSN: r.DSN(at, poolPort)},
			{Name: "pgx, read-write among all members", DSN: s.list(r.Ports().Postgres, "read-write")}, {Name: "pgx, all routers", DSN: s.list(r.Ports().Write, "any")},
		},
		Read: []checker.Way{
			{Name: "HAProxy as rendered, reading", DSN: r.DSN(at, renderedRead)}, {Name: "HAProxy with GET /replica", DSN: r.DSN(at, guideRead)},
			{Name: "HAProxy with OPTIONS /replica", DSN: r.DSN(at, patroniRead)}, {Name: "pgx, prefer-standby", DSN: s.list(r.Ports().Postgres, "prefer-standby")},
		},
	}
	clients, err := checker.Start(all, cfg)
	must(t, err)
	t.Cleanup(clients.Stop)
	s.clients, s.writers = clients, clients.Writers
	s.flow()
	must(t, primary.KillPostmaster())
	s.reign(takeover)
	s.end()
	for i, w := range s.writers {
		t.Logf("%s: writes out for %d ms", cfg.Write[i].Name, load.LongestGap(w.Ops(), 0, w.Elapsed()).Length().Milliseconds())
	}
	s.psql()
}

// list is a connection string with all members.
func (s *scene) list(port int, attrs string) string {
	var hosts []string
	for _, n := range s.r.DataNodes() {
		hosts = append(hosts, net.JoinHostPort(n.Address, fmt.Sprint(port)))
	}
	return fmt.Sprintf("postgres://%[1]s@%[2]s/%[1]s?passfile=%[3]s&sslmode=prefer&connect_timeout=3&target_session_attrs=%[4]s", playground.Name, strings.Join(hosts, ","), s.r.PasswordFile(), attrs)
}

// psql asks libpq's own client where each list leads.
func (s *scene) psql() {
	s.t.Helper()
	p := s.r.Ports()
	for _, c := range []struct {
		port  int
		attrs string
		want  string // pg_is_in_recovery()
	}{
		{p.Postgres, "read-write", "f"}, {p.Postgres, "primary", "f"}, {p.Postgres, "standby", "t"}, {p.Postgres, "prefer-standby", "t"}, {p.Postgres, "read-only", "t"},
		{p.Write, "any", "f"}, {p.Write, "read-write", "f"}, {p.Read, "any", "t"}, {p.Read, "prefer-standby", "t"},
	} {
		out, err := exec.CommandContext(all, "psql", "-XAtqc", "SELECT pg_is_in_recovery()", s.list(c.port, c.attrs)).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			s.t.Errorf("psql, port %d, target_session_attrs=%s: in recovery is %s (%v), want %s", c.port, c.attrs, got, err, c.want)
		}
	}
}

// rendered is what the command prints for the cluster that runs.
func (s *scene) rendered(program string) string {
	s.t.Helper()
	cmd := exec.CommandContext(all, rig.Binary(), "render", program, "--config", s.r.Nodes[0].File())
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("render %s: %v: %s", program, err, said.String())
	}
	return string(out)
}

// adapt replaces what a program that is not a host's service can't have. Each change must find something.
func (s *scene) adapt(text string, changes ...string) string {
	s.t.Helper()
	for i := 0; i < len(changes); i += 2 {
		changed := regexp.MustCompile(`(?m)`+changes[i]).ReplaceAllString(text, changes[i+1])
		if changed == text {
			s.t.Fatalf("%s is not in\n%s", changes[i], text)
		}
		text = changed
	}
	return text
}

// haproxy runs one with three pairs of ports.
func (s *scene) haproxy(at string) {
	s.t.Helper()
	dir, p := s.t.TempDir(), s.r.Ports()
	text := s.adapt(s.rendered("haproxy"), `^ *(chroot|user|group|log /dev/log) .*\n`, "", `stats socket .*`, "stats socket "+filepath.Join(dir, "socket"), `server-state-file .*`, "server-state-file "+filepath.Join(dir, "state"),
		fmt.Sprintf(`bind \*:%d`, p.Write), fmt.Sprintf("bind %s:%d", at, renderedWrite), fmt.Sprintf(`bind \*:%d`, p.Read), fmt.Sprintf("bind %s:%d", at, renderedRead))
	// As their guides have them: the hand-built stack's, and HAProxy's template of Patroni's documentation.
	for _, l := range []struct {
		port          int
		check, timing string
	}{
		{guideWrite, "option httpchk GET /master", "inter 1s fall 3 rise 2"}, {guideRead, "balance leastconn\n    option httpchk GET /replica", "inter 1s fall 3 rise 2"},
		{guideReady, "option httpchk GET /ready", "inter 1s fall 3 rise 2"},
		{patroniWrite, "option httpchk OPTIONS /primary", "inter 3s fall 3 rise 2"}, {patroniRead, "option httpchk OPTIONS /replica", "inter 3s fall 3 rise 2"},
	} {
		text += fmt.Sprintf("\nlisten port_%[1]d\n    bind %[2]s:%[1]d\n    %[3]s\n    http-check expect status 200\n    default-server %[4]s on-marked-down shutdown-sessions\n", l.port, at, l.check, l.timing)
		for _, n := range s.r.DataNodes() {
			text += fmt.Sprintf("    server %s %s:%d maxconn 100 check port %d\n", n.Name, n.Address, p.Postgres, p.Health)
		}
	}
	path := filepath.Join(dir, "haproxy.cfg")
	must(s.t, os.WriteFile(path, []byte(text), 0o644))
	s.daemon("haproxy", "-db", "-f", path)
	socket := filepath.Join(dir, "socket")
	want := map[string][]string{"primary": {s.primary.Name}, fmt.Sprint("port_", guideWrite): {s.primary.Name}, fmt.Sprint("port_", patroniWrite): {s.primary.Name}}
	var names, standbys []string
	for _, n := range s.r.DataNodes() {
		if names = append(names, n.Name); n != s.primary {
			standbys = append(standbys, n.Name)
		}
	}
	for _, backend := range []string{"standbys", fmt.Sprint("port_", guideRead), fmt.Sprint("port_", patroniRead)} {
		want[backend] = standbys
	}
	want[fmt.Sprint("port_", guideReady)] = names
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for ; ; pause(ctx) {
		up, err := upIn(socket)
		if err == nil && same(up, want) {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("HAProxy's checks find %v (%v), want %v", up, err, want)
		}
	}
}

// upIn asks HAProxy's socket which servers are up, by backend (management guide, "show stat").
func upIn(socket string) (map[string][]string, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, "show stat"); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(conn); err != nil {
		return nil, err
	}
	up := map[string][]string{}
	for line := range strings.Lines(b.String()) {
		if f := strings.Split(line, ","); len(f) > 17 && f[17] == "UP" && f[1] != "BACKEND" {
			up[f[0]] = append(up[f[0]], f[1])
		}
	}
	return up, nil
}

func same(a, b map[string][]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, list := range a {
		slices.Sort(list)
		if !slices.Equal(list, b[k]) {
			return false
		}
	}
	return true
}

// pgbouncer prepares the database as the first lines of the configuration say, word by word, and runs it.
func (s *scene) pgbouncer(at string) {
	s.t.Helper()
	text, dir := s.rendered("pgbouncer"), s.t.TempDir()
	var sql strings.Builder
	for line := range strings.Lines(text) {
		if statement, ok := strings.CutPrefix(line, ";   "); ok {
			sql.WriteString(statement)
		}
	}
	s.command(s.primary, strings.ReplaceAll(sql.String(), "'...'", "'pooled'"))
	s.t.Cleanup(func() { // the next test has this cluster too
		if s.clients != nil {
			s.stop()
		}
		if primary, _, err := s.r.AwaitWhole(all, healTime); err == nil {
			s.command(primary, "DROP SCHEMA pgbouncer CASCADE; DROP ROLE pgbouncer")
		}
	})
	users := filepath.Join(dir, "userlist.txt")
	must(s.t, os.WriteFile(users, []byte(`"pgbouncer" "pooled"`+"\n"), 0o600))
	path := filepath.Join(dir, "pgbouncer.ini")
	must(s.t, os.WriteFile(path, []byte(s.adapt(text, `^listen_addr = .*`, "listen_addr = "+at, `^listen_port = .*`, fmt.Sprint("listen_port = ", poolPort), `^unix_socket_dir = .*`, "unix_socket_dir =",
		`^(logfile|pidfile) = .*\n`, "", `^auth_file = .*`, "auth_file = "+users)), 0o600))
	s.daemon("pgbouncer", path)
	awaitDatabase(s.t, all, s.r.DSN(at, poolPort))
	wrong, err := pgx.ParseConfig(s.r.DSN(at, poolPort))
	must(s.t, err)
	wrong.Password = "not the password"
	if conn, err := pgx.ConnectConfig(all, wrong); err == nil {
		load.CloseNow(conn)
		s.t.Error("PgBouncer accepts a wrong password")
	}
}

// daemon runs a program of the distribution's until the test ends.
func (s *scene) daemon(name string, args ...string) {
	s.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	cmd := exec.Command(path, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, said.String())
		}
	})
}
