package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Part is one kind of process on a node.
type Part string

// The parts of a node. Postgres is the postmaster with all its children, orphans included.
const (
	Agent    Part = "agent"
	Etcd     Part = "etcd"
	Guard    Part = "guard"
	Postgres Part = "postgres"
)

// PIDs lists the node's processes by part.
func (n *Node) PIDs() map[Part][]int {
	out := map[Part][]int{}
	for _, p := range n.Processes() {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if err != nil {
			continue // it has ended
		}
		part := part(p.Name, strings.Split(string(cmdline), "\x00"))
		out[part] = append(out[part], p.PID)
	}
	return out
}

// part tells the processes of one binary apart by their first argument.
func part(name string, args []string) Part {
	switch {
	case strings.HasPrefix(name, "postgres"):
		return Postgres
	case slices.Contains(args, "run"):
		return Agent
	case slices.Contains(args, "etcd"):
		return Etcd
	case strings.Contains(name, "guard") || slices.Contains(args, "guard"):
		return Guard
	}
	return Part(name)
}

// Signal sends sig to every process of the part, and looks again until it finds none that has not had it: one may fork
// meanwhile.
func (n *Node) Signal(part Part, sig syscall.Signal) error {
	sent := map[int]bool{}
	for grew := true; grew; {
		grew = false
		for _, pid := range n.PIDs()[part] {
			if sent[pid] {
				continue
			}
			if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("%s: send %s to %s %d: %w", n.Name, sig, part, pid, err)
			}
			sent[pid], grew = true, true
		}
	}
	if len(sent) == 0 {
		return fmt.Errorf("%s: send %s: no process of %s runs", n.Name, sig, part)
	}
	return nil
}

// Memory is the proportional set size of the node's processes of the given parts in bytes: memory shared with others
// counts by its share (proc(5), smaps_rollup). What each part uses is returned by part.
func (n *Node) Memory() (map[Part]int64, error) {
	out := map[Part]int64{}
	for part, pids := range n.PIDs() {
		for _, pid := range pids {
			pss, err := pss(pid)
			if err != nil {
				return nil, fmt.Errorf("measure the memory of %s of %s: %w", part, n.Name, err)
			}
			out[part] += pss
		}
	}
	return out, nil
}

func pss(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "Pss:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no Pss in smaps_rollup of %d", pid)
}

// clockTick is USER_HZ, in which /proc counts CPU time: 100 per second on every architecture that Go runs on under Linux.
const clockTick = 10 * time.Millisecond

// CPU is the time for which the node's living processes have run, by part, their children that have ended included.
func (n *Node) CPU() (map[Part]time.Duration, error) {
	out := map[Part]time.Duration{}
	for part, pids := range n.PIDs() {
		for _, pid := range pids {
			ticks, err := cpuTicks(pid)
			if err != nil {
				return nil, fmt.Errorf("measure the time of %s of %s: %w", part, n.Name, err)
			}
			out[part] += time.Duration(ticks) * clockTick
		}
	}
	return out, nil
}

// cpuTicks adds up utime, stime, cutime and cstime.
func cpuTicks(pid int) (sum int64, err error) {
	for n := 14; n <= 17; n++ {
		ticks, err := field(pid, n)
		if err != nil {
			return 0, err
		}
		sum += ticks
	}
	return sum, nil
}

// field is the n-th field of /proc/pid/stat (proc(5), from 4 on). The second, the command's name, is in parentheses and may
// hold anything, so the fields are counted from its end.
func field(pid, n int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // f[0] is field 3
	if n-3 >= len(f) {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f)+2)
	}
	return strconv.ParseInt(f[n-3], 10, 64)
}

// Postmaster is the process id of the node's PostgreSQL, 0 if none runs. Among its processes only the first has no parent of
// the same kind.
func (n *Node) Postmaster() int {
	pids := n.PIDs()[Postgres]
	for _, pid := range pids {
		if parent, err := field(pid, 4); err == nil && !slices.Contains(pids, int(parent)) {
			return pid
		}
	}
	return 0
}
