package load_test

import (
	"context"
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

	"standfast/playground/load"
)

// server is one PostgreSQL that the test may kill.
type server struct {
	t    *testing.T
	bin  string
	dir  string
	port int
	as   *syscall.Credential // nil: oneself
}

// newServer makes a server, or skips where none is installed.
func newServer(t *testing.T) *server {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is sound
	if len(found) == 0 {
		t.Skip("no PostgreSQL below /usr/lib/postgresql: apt-get install postgresql")
	}
	s := &server{t: t, bin: filepath.Dir(found[len(found)-1])}
	dir, err := os.MkdirTemp("", "standfast-load")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("run by root and there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	s.dir = filepath.Join(dir, "data")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	s.run("initdb", "-D", s.dir, "-U", "postgres", "-A", "trust", "-N")
	s.start()
	t.Cleanup(func() { _ = s.command("pg_ctl", "-D", s.dir, "-m", "immediate", "stop").Run() })
	return s
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = filepath.Dir(s.dir)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return c
}

func (s *server) run(name string, args ...string) {
	s.t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (s *server) start() {
	s.t.Helper()
	log := filepath.Join(filepath.Dir(s.dir), "log")
	s.run("pg_ctl", "-D", s.dir, "-w", "-l", log, "-o", fmt.Sprintf("-p %d -h 127.0.0.1 -k '' -c cluster_name=one", s.port), "start")
}

func (s *server) kill() {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "postmaster.pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.command("pg_ctl", "kill", "QUIT", strconv.Itoa(pid)).Run(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) dsn() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.port)
}

// TestOutageOfOneServer stops a real server without warning and starts it again: the gap must show, nothing may be lost,
// and a row that is deleted behind the workload's back must be found missing.
func TestOutageOfOneServer(t *testing.T) {
	s := newServer(t)
	ctx := context.Background()
	r, err := load.Start(ctx, load.Config{DSN: s.dsn()})
	if err != nil {
		t.Fatal(err)
	}
	until := func(n int) {
		for end := time.Now().Add(30 * time.Second); load.Count(r.Ops())[load.Acknowledged] < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("fewer than %d commits in 30 s; the last attempts: %+v", n, r.Since(len(r.Ops())-3))
			}
		}
	}
	until(50)
	down := r.Elapsed()
	s.kill()
	time.Sleep(300 * time.Millisecond) // the outage that has to be found
	before := load.Count(r.Ops())[load.Acknowledged]
	s.start()
	until(before + 50)
	ops := r.Stop()

	if gap := load.LongestGap(ops, down-time.Second, r.Elapsed()); gap.Length() < 250*time.Millisecond {
		t.Errorf("an outage of at least 300 ms was measured as %v", gap.Length())
	}
	n := load.Count(ops)
	if n[load.Refused] == 0 || n[load.Failed]+n[load.NoSession] == 0 {
		t.Errorf("the outage left no errors: %v", n)
	}
	if o := load.Overlaps(ops); len(o) > 0 {
		t.Errorf("one server can't overlap with itself: %+v", o)
	}
	lost, err := r.Lost(ctx, "")
	if err != nil || len(lost) > 0 {
		t.Fatalf("lost %v, %v", lost, err)
	}
	s.run("psql", "-q", s.dsn(), "-c", "DELETE FROM standfast_load WHERE id = (SELECT min(id) FROM standfast_load)")
	if lost, err = r.Lost(ctx, ""); err != nil || len(lost) != 1 {
		t.Errorf("a row that is gone was not missed: %v, %v", lost, err)
	}
	for _, op := range ops {
		if op.Outcome == load.Acknowledged && (op.Server != "one" || op.Timeline != 1) {
			t.Fatalf("an acknowledgement without its server: %+v", op)
		}
	}
}
