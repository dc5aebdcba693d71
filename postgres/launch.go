package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// launchFile is what the agent leaves for the service's start: the command line changes with the cluster, a unit file
// does not.
type launchFile struct {
	Program string   // path
	Args    []string // without the program's name
	Env     []string
	Log     string // standard output and error are appended here
}

// Launch is the program of the service that PostgreSQL runs as (Config.Unit): it becomes the postmaster that the file
// describes, in a control group of its own. It returns only when that does not work.
//
// The file is taken away first, so that it starts PostgreSQL once. Whoever restarts the service by hand, or by a tool
// that restarts services, must not start a server that the agent has not decided to start: an old primary's data would
// come up as a primary.
func Launch(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w (only the agent starts this service: systemctl start standfast)", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	var l launchFile
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("start PostgreSQL: read %s: %w", path, err)
	}
	if err := ownGroup(); err != nil { // the guard then has the list of processes only
		fmt.Fprintf(os.Stderr, "PostgreSQL gets no control group of its own: %v\n", err)
	}
	log, err := os.OpenFile(l.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Dup3(int(log.Fd()), fd, 0); err != nil {
			return fmt.Errorf("start PostgreSQL: use %s: %w", l.Log, err)
		}
	}
	// A backend may be the victim when memory runs out, the postmaster may not ("Linux Memory Overcommit").
	env := append(l.Env, "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj")
	return fmt.Errorf("start %s: %w", l.Program, unix.Exec(l.Program, append([]string{l.Program}, l.Args...), env))
}

// cgroupRoot is where control groups are mounted when version 2 is the only one.
const cgroupRoot = "/sys/fs/cgroup"

// groupName is the last part of the path of PostgreSQL's own control group.
const groupName = "postgres"

// ownGroup moves this process into a control group below its service's. The service's own belongs to root but for the
// right to make others in it (Delegate=yes); in those, everything is this user's, cgroup.kill included, by which agent
// and guard end every process at once.
func ownGroup() error {
	service, err := groupOf(os.Getpid())
	if err != nil {
		return err
	}
	dir := filepath.Join(service, groupName)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// groupOf finds the directory of a process's control group (cgroups(7), /proc/pid/cgroup).
func groupOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(b) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::"); ok {
			return filepath.Join(cgroupRoot, path), nil
		}
	}
	return "", errors.New("control groups of version 2 are not in use")
}

// Cgroup is the directory of the control group that holds every process of the server and nothing else, where writing to
// cgroup.kill ends them all. It is "" where PostgreSQL is no service of its own.
func (s *Server) Cgroup() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch == nil {
		return ""
	}
	return s.watch.group
}

// noteGroup remembers the control group of the postmaster that is watched; its processes may outlive it.
func (s *Server) noteGroup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Unit == "" || s.watch == nil {
		return
	}
	group, err := groupOf(s.watch.pid)
	if err != nil || filepath.Base(group) != groupName || filepath.Base(filepath.Dir(group)) != s.cfg.Unit {
		return
	}
	if unix.Access(filepath.Join(group, "cgroup.kill"), unix.W_OK) == nil {
		s.watch.group = group
	}
}

// killGroup ends every process of the server's control group, if it has one.
func (s *Server) killGroup() error {
	group := s.Cgroup()
	if group == "" {
		return nil
	}
	err := os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) { // removed after its last process
		return nil
	}
	return err
}
