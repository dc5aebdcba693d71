// Package loadtest has a real PostgreSQL for tests of what works on one.
package loadtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Server is one PostgreSQL that a test may kill.
type Server struct {
	t    *testing.T
	bin  string
	dir  string
	port int
	as   *syscall.Credential // nil: oneself
}

// New makes a server that lives as long as the test, or skips where none is installed.
func New(t *testing.T) *Server {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is sound
	if len(found) == 0 {
		t.Skip("no PostgreSQL below /usr/lib/postgresql: apt-get install postgresql")
	}
	s := &Server{t: t, bin: filepath.Dir(found[len(found)-1])}
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
	s.Run("initdb", "-D", s.dir, "-U", "postgres", "-A", "trust", "-N")
	s.Start()
	t.Cleanup(func() { _ = s.command("pg_ctl", "-D", s.dir, "-m", "immediate", "stop").Run() })
	return s
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = filepath.Dir(s.dir)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return c
}

// Run carries out one of the programs beside the server to its end.
func (s *Server) Run(name string, args ...string) {
	s.t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Start starts the server, which is called "one".
func (s *Server) Start() {
	s.t.Helper()
	log := filepath.Join(filepath.Dir(s.dir), "log")
	s.Run("pg_ctl", "-D", s.dir, "-w", "-l", log, "-o", fmt.Sprintf("-p %d -h 127.0.0.1 -k '' -c cluster_name=one", s.port), "start")
}

// Kill ends it without a shutdown, and returns when it is gone: its successor could not start beside it.
func (s *Server) Kill() {
	s.t.Helper()
	s.Run("pg_ctl", "-D", s.dir, "-m", "immediate", "-w", "stop")
}

// DSN leads to its database postgres.
func (s *Server) DSN() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.port)
}
