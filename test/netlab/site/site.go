// Package site puts a Standfast cluster on a lab's hosts as an administrator would: the binary, what packaging holds, and the
// files that "standfast init" writes, all in place before the hosts boot, so that whatever runs there was started at boot with
// nobody logged in.
package site

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/api/client"
	"standfast/packaging"
	"standfast/test/netlab"
	"standfast/test/system/rig"
)

// Site is a cluster on whole machines.
type Site struct {
	Lab    *netlab.Lab
	client *client.Client
	files  string // what "standfast init" has written
}

// Ports of every member: the defaults.
const (
	WritePort    = 5000
	ReadPort     = 5001
	PostgresPort = 5432
	healthPort   = 8008
)

// Floating is an address on the lab's network that no host has, for the members' vip.
var Floating = netip.MustParseAddr("10.99.0.50")

// foundTime bounds the time from power to a whole cluster with data.
const foundTime = 2 * time.Minute

// Start boots hosts with the given binary and waits until they have founded a cluster and are whole. Settings are more of the
// members' files, "key=value". The database app belongs to the role app, which the lab's network may use without a password.
func Start(ctx context.Context, binary string, cfg netlab.Config, settings ...string) (*Site, error) {
	s := &Site{}
	if cfg.Hosts == 0 {
		cfg.Hosts = 3
	}
	if err := s.init(ctx, binary, cfg.Hosts, settings); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.files))
	}
	before := cfg.Prepare
	cfg.Prepare = func(h *netlab.Host, root string) error {
		if before != nil {
			if err := before(h, root); err != nil {
				return err
			}
		}
		return s.install(h, root, binary)
	}
	var err error
	if s.Lab, err = netlab.Start(ctx, cfg); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.files))
	}
	if err := s.found(ctx); err != nil {
		return nil, errors.Join(err, s.Logs(ctx), s.Close())
	}
	return s, nil
}

// Close takes the machines away.
func (s *Site) Close() error {
	s.client.Close()
	return errors.Join(s.Lab.Close(), os.RemoveAll(s.files))
}

func (s *Site) init(ctx context.Context, binary string, hosts int, settings []string) error {
	dir, err := os.MkdirTemp("", "standfast-site-")
	if err != nil {
		return err
	}
	s.files = dir
	args := []string{"init", "main", "--out", filepath.Join(dir, "made")}
	var endpoints []string
	for i := 1; i <= hosts; i++ {
		args = append(args, fmt.Sprintf("pg%d=%s", i, netlab.Address(i)))
		endpoints = append(endpoints, at(netlab.Address(i), healthPort))
	}
	hba := fmt.Sprintf("bootstrap.postgresql.hba=[\"host app app %s trust\"]", netlab.Net4)
	for _, set := range append([]string{hba}, settings...) {
		args = append(args, "--set", set)
	}
	if out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("standfast init: %w: %s", err, out)
	}
	s.client, err = client.New(endpoints, nil, "")
	if err != nil {
		return err
	}
	s.client.DialBy(func(ctx context.Context, network, address string) (net.Conn, error) {
		return s.Lab.Dial(ctx, network, address)
	})
	return nil
}

func at(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// install puts everything into a host's root before its first boot.
func (s *Site) install(h *netlab.Host, root, binary string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	put := func(path string, text []byte, mode fs.FileMode) error {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, text, mode)
	}
	if err := put(packaging.Binary, program, 0o755); err != nil {
		return err
	}
	for _, f := range packaging.Files() {
		if err := put(f.Path, f.Text, 0o644); err != nil {
			return err
		}
	}
	made := filepath.Join(s.files, "made", h.Name)
	if out, err := exec.Command("cp", "-a", made, filepath.Join(root, "etc/standfast")).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", made, err, out)
	}
	if err := giveTo(root, "postgres", "etc/standfast"); err != nil {
		return err
	}
	// What "systemctl enable" does.
	wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	return os.Symlink("/usr/lib/systemd/system/"+packaging.Unit, filepath.Join(wants, packaging.Unit))
}

// giveTo changes the owner of a directory and all in it, by the host's own list of users.
func giveTo(root, user, dir string) error {
	f, err := os.Open(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Split(s.Text(), ":")
		if fields[0] != user {
			continue
		}
		uid, err1 := strconv.Atoi(fields[2])
		gid, err2 := strconv.Atoi(fields[3])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, gid)
		})
	}
	return fmt.Errorf("the image has no user %s", user)
}

// found waits for the first primary and makes the application's database.
func (s *Site) found(ctx context.Context) error {
	primary, _, err := s.AwaitWhole(ctx, foundTime)
	if err != nil {
		return err
	}
	_, err = s.SQL(ctx, primary, "CREATE ROLE app LOGIN", "CREATE DATABASE app OWNER app")
	return err
}

// Await waits until the condition holds of what the members say.
func (s *Site) Await(ctx context.Context, within time.Duration, what string, c rig.Condition) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return rig.Await(ctx, s.client, what, c)
}

// AwaitWhole waits until every member takes part again, and returns who reigns.
func (s *Site) AwaitWhole(ctx context.Context, within time.Duration) (*netlab.Host, uint64, error) {
	var names []string
	for _, h := range s.Lab.Hosts {
		names = append(names, h.Name)
	}
	var st *api.Status
	whole := rig.WholeOf(names)
	err := s.Await(ctx, within, "the cluster is whole", func(all map[string]*api.Status) string {
		missing := whole(all)
		if missing == "" {
			st = all[names[0]]
		}
		return missing
	})
	if err != nil {
		return nil, 0, err
	}
	return s.Lab.Host(st.Primary), uint64(st.Term), nil
}

// Newest is the status of the highest term that any member tells.
func (s *Site) Newest(ctx context.Context) (*api.Status, error) {
	var st *api.Status
	var errs []error
	for _, r := range s.client.Statuses(ctx) {
		switch {
		case r.Err != nil:
			errs = append(errs, r.Err)
		case st == nil || r.Status.Term > st.Term:
			st = r.Status
		}
	}
	if st == nil {
		return nil, errors.Join(errs...)
	}
	return st, nil
}

// History is what the members agree on about every term, the oldest first.
func (s *Site) History(ctx context.Context) ([]api.Entry, error) { return s.client.History(ctx) }

// DSN leads to a port of the given hosts, tried in that order, for the application.
func (s *Site) DSN(port int, hosts ...*netlab.Host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, h.Addr.String())
	}
	return dsn(port, strings.Join(names, ","))
}

// FloatingDSN leads to a port of whichever host has the floating address.
func (s *Site) FloatingDSN(port int) string { return dsn(port, Floating.String()) }

func dsn(port int, hosts string) string {
	return fmt.Sprintf("host=%s port=%d user=app dbname=app sslmode=prefer connect_timeout=2", hosts, port)
}

// SQL runs statements on a host as PostgreSQL's superuser, each in a transaction of its own, and returns the rows alone.
func (s *Site) SQL(ctx context.Context, h *netlab.Host, statements ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTime)
	defer cancel()
	args := []string{"runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", netlab.StateDir + "/run"}
	for _, st := range statements {
		args = append(args, "-c", st)
	}
	out, err := h.Run(ctx, append(args, "postgres")...)
	return strings.TrimSpace(out), err
}

// sqlTime bounds what the tests ask PostgreSQL, which waits for ever where no standby confirms.
const sqlTime = 30 * time.Second

// Logs is an error that holds the end of every host's journal, for a test that has failed.
func (s *Site) Logs(ctx context.Context) error {
	var errs []error
	for _, h := range s.Lab.Hosts {
		text, err := h.Shell(ctx, "journalctl --no-pager -o short-precise -n 60 -u 'standfast*'; tail -n 10 /var/lib/standfast/log/postgresql.log")
		errs = append(errs, fmt.Errorf("---- %s\n%s", h.Name, text), err)
	}
	return errors.Join(errs...)
}

// KeepLogs writes every host's journal since its last boot, and the logs of PostgreSQL and etcd, to files named after the hosts.
func (s *Site) KeepLogs(ctx context.Context, dir string) error {
	var errs []error
	for _, h := range s.Lab.Hosts {
		text, err := h.Shell(ctx, "journalctl --no-pager -o short-precise -b; tail -n +1 /var/lib/standfast/log/*.log")
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, h.Name+".log"), []byte(text), 0o600))
	}
	return errors.Join(errs...)
}

// Part is one kind of process of Standfast's on a host.
type Part func(netlab.Process) bool

// The parts of a member.
var (
	Agent Part = func(p netlab.Process) bool {
		return len(p.Args) > 1 && p.Args[1] == "run" && strings.HasSuffix(p.Args[0], "standfast")
	}
	Etcd     Part = func(p netlab.Process) bool { return len(p.Args) > 1 && p.Args[1] == "etcd" }
	Guard    Part = func(p netlab.Process) bool { return strings.Contains(strings.Join(p.Args, " "), "standfast-guard") }
	Postgres Part = func(p netlab.Process) bool { return p.Name == "postgres" }
	// Postmaster has no title of PostgreSQL's own: only its children write over their command line.
	Postmaster Part = func(p netlab.Process) bool { return p.Name == "postgres" && len(p.Args) > 1 && p.From != "postgres" }
)

// Titled are PostgreSQL's processes whose title has the words, as ps shows it: "checkpointer", "walsender", "app app" for a
// session of the application's.
func Titled(words string) Part {
	return func(p netlab.Process) bool { return p.Name == "postgres" && strings.Contains(p.Args[0], words) }
}

// PIDs lists a host's processes of a part.
func PIDs(h *netlab.Host, part Part) ([]int, error) {
	all, err := h.Processes()
	var pids []int
	for _, p := range all {
		if part(p) {
			pids = append(pids, p.PID)
		}
	}
	return pids, err
}
