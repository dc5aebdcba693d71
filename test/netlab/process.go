package netlab

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is one of a host's.
type Process struct {
	PID  int      // as this machine numbers it
	Name string   // proc(5), comm
	Args []string // its command line; PostgreSQL's children write what they do there, a moment after they have been forked
	From string   // its parent's Name
}

// Processes lists the host's, its service manager's included.
func (h *Host) Processes() ([]Process, error) {
	pids, err := members(h.group)
	if err != nil {
		return nil, fmt.Errorf("list the processes of %s: %w", h.Name, err)
	}
	var out []Process
	for _, pid := range pids {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		cmdline, cerr := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if errors.Join(err, cerr) != nil {
			continue // it has ended
		}
		out = append(out, Process{
			PID: pid, Name: strings.TrimSpace(string(comm)), Args: strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00"), From: parent(pid),
		})
	}
	return out, nil
}

// parent names a process's parent; "" if either has ended.
func parent(pid int) string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if of, ok := strings.CutPrefix(line, "PPid:"); ok {
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%s/comm", strings.TrimSpace(of)))
			return strings.TrimSpace(string(comm))
		}
	}
	return ""
}

// Signal sends a signal to every process that the test picks, and looks again until it finds none that has not had it: one may
// fork meanwhile. None at all is an error.
func (h *Host) Signal(signal unix.Signal, pick func(Process) bool) error {
	sent := map[int]bool{}
	for grew := true; grew; {
		grew = false
		all, err := h.Processes()
		if err != nil {
			return err
		}
		for _, p := range all {
			if sent[p.PID] || !pick(p) {
				continue
			}
			if err := unix.Kill(p.PID, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("%s: send %v to %s %d: %w", h.Name, signal, p.Name, p.PID, err)
			}
			sent[p.PID], grew = true, true
		}
	}
	if len(sent) == 0 {
		return fmt.Errorf("%s: send %v: no such process runs", h.Name, signal)
	}
	return nil
}
