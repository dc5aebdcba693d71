package relay

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"standfast/cluster"
)

// server is a real PostgreSQL, run as the user postgres where the tests run as root.
type server struct {
	t         *testing.T
	bin, data string
	port      int
	cred      *syscall.Credential
}

func findPostgres(t *testing.T) (bin string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		if p, err := exec.LookPath("postgres"); err == nil {
			return filepath.Dir(p)
		}
		t.Skip("no PostgreSQL server is installed here")
	}
	return filepath.Dir(found[len(found)-1])
}

// account is whom PostgreSQL runs as: it refuses root.
func account(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("PostgreSQL refuses to run as root, and there is no user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *server) run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.try(name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *server) try(name string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = filepath.Dir(s.data)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// psql is the arguments for one query.
func (s *server) psql(query string) []string {
	return []string{"-h", filepath.Dir(s.data), "-p", strconv.Itoa(s.port), "-U", "postgres", "-d", "postgres", "-XAtc", query}
}

func (s *server) sql(query string) string {
	s.t.Helper()
	return s.run("psql", s.psql(query)...)
}

func (s *server) start(options string) {
	s.t.Helper()
	options += fmt.Sprintf(" -c port=%d -c unix_socket_directories=%s -c listen_addresses=127.0.0.1 -c fsync=off -c wal_retrieve_retry_interval=20ms",
		s.port, filepath.Dir(s.data))
	// pg_ctl's own output would be the server's too, and held open by it.
	s.run("pg_ctl", "-D", s.data, "-w", "-o", options, "-l", s.data+".log", "start")
	s.t.Cleanup(func() { s.run("pg_ctl", "-D", s.data, "-m", "immediate", "-w", "stop") })
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// A real standby follows through the relay; after Raise it soon holds a new receiver, and from then on its position
// stands still though the primary goes on writing.
func TestRealStandby(t *testing.T) {
	bin := findPostgres(t)
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cred := account(t)
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	p := &server{t, bin, filepath.Join(dir, "pg1"), freePort(t), cred}
	p.run("initdb", "-D", p.data, "-A", "trust", "-U", "postgres", "-N")
	p.start("-c synchronous_standby_names=pg2 -c synchronous_commit=on")
	p.sql("SET synchronous_commit = local; CREATE ROLE " + User + " REPLICATION LOGIN; ")
	p.sql("SELECT pg_create_physical_replication_slot('pg2', true)")
	s := &server{t, bin, filepath.Join(dir, "pg2"), freePort(t), cred}
	p.run("pg_basebackup", "-D", s.data, "-h", dir, "-p", strconv.Itoa(p.port), "-U", "postgres", "-c", "fast", "-N")
	if err := os.WriteFile(filepath.Join(s.data, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := open(t, func(c *Config) { c.Dir = filepath.Join(dir, "relay") })
	if cred != nil {
		os.Chown(r.cfg.Dir, int(cred.Uid), int(cred.Gid))
		os.Chown(r.Path(), int(cred.Uid), int(cred.Gid))
	}
	s.start(fmt.Sprintf("-c primary_slot_name=pg2 -c primary_conninfo='host=%s port=%d user=%s application_name=pg2'", r.cfg.Dir, r.cfg.Port, User))
	until(t, r, "held", held)

	addr := fmt.Sprintf("127.0.0.1:%d", p.port)
	if err := r.Attach(1, 1, addr); err != nil {
		t.Fatal(err)
	}
	until(t, r, "streaming", func(s Status) bool { return s.Carried })
	p.sql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)") // returns when pg2 has flushed it

	load := make(chan error, 1)
	insert := p.psql("SET synchronous_commit = local; INSERT INTO t SELECT generate_series(1, 300000)")
	go func() {
		_, err := p.try("psql", insert...)
		load <- err
	}()
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	r.Raise(2)
	until(t, r, "held again", held)
	t.Logf("the new receiver came %v after Raise", time.Since(began).Round(100*time.Microsecond))
	first := s.position()
	if err := <-load; err != nil {
		t.Fatal(err)
	}
	if again := s.position(); again != first {
		t.Errorf("the standby's position moved from %v to %v while it was held", first, again)
	}
	if end := p.sql("SELECT pg_current_wal_flush_lsn() > '" + first.String() + "'"); end != "t" {
		t.Error("the primary wrote nothing meanwhile: the test proves nothing")
	}
	if err := r.Attach(2, 7, addr); err != nil {
		t.Fatal(err)
	}
	until(t, r, "refused", func(s Status) bool { return strings.Contains(s.LastError, "is on timeline 1, term 2 reigns on 7") })
	if n := p.sql("SELECT count(*) FROM pg_stat_replication WHERE state <> 'startup'"); n != "0" {
		t.Errorf("%s WAL senders stream to a standby that expects another timeline", n)
	}
	if err := r.Attach(2, 1, addr); err != nil {
		t.Fatal(err)
	}
	p.sql("INSERT INTO t VALUES (0)") // waits for pg2
}

func (s *server) position() cluster.LSN {
	s.t.Helper()
	l, err := cluster.ParseLSN(s.sql("SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"))
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}
