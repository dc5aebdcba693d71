//go:build e2e

package floating

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/ops/founding"
	"standfast/test/wires"

	"github.com/jackc/pgx/v5"
)

const (
	write = "10.77.0.50" // follows the primary
	read  = "10.77.0.51" // follows a standby
)

var members = []string{"pg1", "pg2", "pg3"}

// site is a cluster on a switch, and a client beside it.
type site struct {
	t      *testing.T
	sw     *wires.Switch
	dir    string
	agents map[string]*exec.Cmd
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, sw: wires.New(t, "pg1", "pg2", "pg3", "client"), agents: map[string]*exec.Cmd{}}
	s.found()
	for _, m := range members {
		s.start(m)
	}
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// found builds the program and writes what each member needs.
func (s *site) found() {
	s.t.Helper()
	var err error
	s.dir, err = os.MkdirTemp("", "standfast-floating")
	s.must(err)
	s.t.Cleanup(func() { os.RemoveAll(s.dir) })
	s.must(os.Chmod(s.dir, 0o755))
	build := exec.Command("go", "build", "-o", filepath.Join(s.dir, "standfast"), "standfast/cmd/standfast")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	spec := founding.Spec{
		Cluster: "main", Home: s.home, StateDir: func(m string) string { return filepath.Join(s.home(m), "state") },
		Settings: []string{
			"vip=[{address: " + write + "}, {address: " + read + ", follows: standby}]",
			"hooks.on_role_change=echo role $STANDFAST_OLD_ROLE to $STANDFAST_ROLE >>" + s.dir + "/$STANDFAST_MEMBER/told",
			"hooks.on_address_change=echo $STANDFAST_ADDRESS $STANDFAST_HELD >>" + s.dir + "/$STANDFAST_MEMBER/told",
			"bootstrap.detection=fast", "bootstrap.lease=2s", "bootstrap.router.fast_path=true",
			"bootstrap.postgresql.hba=[\"host all postgres 10.77.0.0/24 trust\"]",
		},
	}
	for _, m := range members {
		spec.Members = append(spec.Members, config.Member{Name: m, Address: s.sw.Host(m).IP4.String()})
	}
	s.must(spec.Write(filepath.Join(s.dir, "ca"), s.home, time.Now()))
	user := wires.Postgres(s.t)
	for _, m := range members {
		s.must(filepath.WalkDir(s.home(m), func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, int(user.Uid), int(user.Gid)))
		}))
	}
}

func (s *site) home(member string) string { return filepath.Join(s.dir, member) }

// start runs a member as its service would. It ends, PostgreSQL and all, when the test does.
func (s *site) start(member string) {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.home(member), "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	s.must(err)
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.dir, "standfast"), "run", "--until-eof", "--config", filepath.Join(s.home(member), "standfast.yml"))
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = log, log, "/", []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	in, err := cmd.StdinPipe()
	s.must(err)
	s.sw.Host(member).Start(cmd)
	s.agents[member] = cmd
	s.t.Cleanup(func() {
		if s.t.Failed() {
			for _, name := range []string{log.Name(), filepath.Join(s.home(member), "state", "log", "postgresql.log")} {
				text, err := os.ReadFile(name)
				s.t.Logf("%s: %v\n%s", name, err, text)
			}
		}
		_ = cmd.Process.Signal(syscall.SIGCONT) // it may be stopped, or have ended
		in.Close()
		_ = cmd.Wait()
	})
}

// dial connects from the client.
func (s *site) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	joined := s.sw.Host("client").In(func() error {
		d := net.Dialer{Timeout: 500 * time.Millisecond}
		c, err = d.DialContext(ctx, network, address)
		return nil
	})
	return c, errors.Join(err, joined)
}

// status is what the member says, nil if it says nothing.
func (s *site) status(member string) *api.Status {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.sw.Host(member).IP4.String()+":8008/status", nil)
	s.must(err)
	tr := &http.Transport{DialContext: s.dial, DisableKeepAlives: true}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	var st api.Status
	if err != nil || json.Unmarshal(body, &st) != nil {
		return nil
	}
	return &st
}

// query runs one statement through an address, in a session of its own.
func (s *site) query(at, port, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Second)
	defer cancel()
	c, err := pgx.ParseConfig(fmt.Sprintf("postgres://postgres@%s:%s/postgres?sslmode=disable", at, port))
	s.must(err)
	c.DialFunc = s.dial
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var out string
	err = conn.QueryRow(ctx, sql).Scan(&out)
	return out, err
}

func (s *site) within(bound time.Duration, what string, ok func() bool) time.Duration {
	s.t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > bound {
			s.t.Fatalf("%s: not within %v", what, bound)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begun)
}

// holders are the hosts that have the address on their interface.
func (s *site) holders(ip string) string {
	var out []string
	for _, m := range members {
		if _, ok := s.sw.Host(m).Addrs()[ip+"/32"]; ok {
			out = append(out, m)
		}
	}
	return strings.Join(out, " ")
}

// whole waits until all three members take part and both addresses are where they belong, and names the primary.
func (s *site) whole(bound time.Duration) (primary string) {
	s.t.Helper()
	took := s.within(bound, "the cluster is whole", func() bool {
		for _, m := range members {
			st := s.status(m)
			if st == nil || st.Primary == "" || len(st.Warnings) > 0 || len(st.Address) != 2 {
				return false
			}
			primary = st.Primary
			for _, x := range st.Members {
				if x.Name != primary && !x.Readable || x.Name == primary && !x.Writable {
					return false
				}
			}
			w, r := st.Address[0].Holder, st.Address[1].Holder
			if w != primary || s.holders(write) != w || r == "" || r == primary || s.holders(read) != r {
				return false
			}
		}
		return true
	})
	s.t.Logf("whole after %v: %s is primary, %s has the readers' address", took.Round(time.Millisecond), primary, s.holders(read))
	return primary
}

// serves waits until a write through the address succeeds.
func (s *site) serves(bound time.Duration) time.Duration {
	s.t.Helper()
	return s.within(bound, "writes through the address", func() bool {
		_, err := s.query(write, "5000", "insert into t default values returning i::text")
		return err == nil
	})
}

// TestAddresses: where they are, what is reached through them, and how they move.
func TestAddresses(t *testing.T) {
	s := newSite(t)
	first := s.whole(2 * time.Minute)
	client := s.sw.Host("client")
	s.create()

	// The fast path: PostgreSQL sees the client itself, not the router.
	for _, at := range [][2]string{{write, "5000"}, {read, "5001"}} {
		s.within(5*time.Second, "the fast path of "+at[0], func() bool {
			from, err := s.query(at[0], at[1], "select host(inet_client_addr())")
			return err == nil && from == client.IP4.String()
		})
	}
	if standby, err := s.query(read, "5001", "select pg_is_in_recovery()::text"); err != nil || standby != "true" {
		t.Errorf("reading goes to a standby: %s, %v", standby, err)
	}

	// The primary's host loses its cable. It must let go though nobody can tell it to.
	s.sw.Host(first).Cable(false)
	t.Logf("cable cut: writes again after %v", s.serves(20*time.Second).Round(time.Millisecond))
	now := strings.TrimSpace(strings.ReplaceAll(s.holders(write), first, ""))
	if now == "" || client.Knows(write) != s.sw.Host(now).MAC.String() {
		t.Errorf("%q holds the address, the client knows it at %s", now, client.Knows(write))
	}
	s.within(5*time.Second, "the host that was cut off has let go", func() bool { return !strings.Contains(s.holders(write), first) })
	s.sw.Host(first).Cable(true)
	second := s.whole(time.Minute)
	if second == first {
		t.Fatalf("%s is primary still", first)
	}

	// The agent alone stops. Its guard takes the address and PostgreSQL away.
	s.must(s.agents[second].Process.Signal(syscall.SIGSTOP))
	gone := s.within(10*time.Second, "the guard has removed the address", func() bool { return !strings.Contains(s.holders(write), second) })
	t.Logf("agent stopped: the guard has fired after %v, writes again after %v more", gone.Round(time.Millisecond), s.serves(20*time.Second).Round(time.Millisecond))
	s.must(s.agents[second].Process.Signal(syscall.SIGCONT))
	s.whole(time.Minute)

	told, err := os.ReadFile(filepath.Join(s.home(second), "told"))
	for _, want := range []string{"role standby to primary\n", write + " yes\n", write + " no\n"} {
		if err != nil || !strings.Contains(string(told), want) {
			t.Errorf("the hooks of %s were not told %q: %v\n%s", second, want, err, told)
		}
	}
}

// create makes the table that is written to.
func (s *site) create() {
	s.t.Helper()
	_, err := s.query(write, "5000", "create table t (i serial)")
	if !errors.Is(err, pgx.ErrNoRows) {
		s.t.Fatal("create the table:", err)
	}
}
