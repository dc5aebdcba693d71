package playground

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"standfast/guard"
)

// Process is one process of a member.
type Process struct {
	PID  int
	Name string // as the kernel shows it: "standfast", "postgres"
}

// processesIn finds the processes whose working directory is at or below dir. That is what all processes of a member but its
// guard have in common: they inherit it, and PostgreSQL's change to its data directory, which lies below ("postgres" sessions,
// process groups and parents all differ, and an orphan's parent is init). A guard keeps no directory busy; it is known by the
// name of the member's state directory.
func processesIn(dir string) []Process {
	var out []Process
	guards := guardsOf(dir)
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is sound
	for _, link := range links {
		at, err := os.Readlink(link)
		if err != nil {
			continue // another user's, or it has just ended
		}
		at = strings.TrimSuffix(at, " (deleted)")
		proc := filepath.Dir(link)
		if at != dir && !strings.HasPrefix(at, dir+"/") && !(at == "/" && isOneOf(proc, guards)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || pid == os.Getpid() || state(proc) == 'Z' {
			continue
		}
		name, err := os.ReadFile(filepath.Join(proc, "comm"))
		if err == nil {
			out = append(out, Process{pid, strings.TrimSpace(string(name))})
		}
	}
	return out
}

// guardsOf are the names of the guards of the member in dir, or of the members in its directories.
func guardsOf(dir string) []string {
	states, _ := filepath.Glob(filepath.Join(dir, "*", stateName)) // a pattern that is not sound finds nothing, and dir has none
	ids := []string{guard.ID(filepath.Join(dir, stateName))}
	for _, s := range states {
		ids = append(ids, guard.ID(s))
	}
	return ids
}

// isOneOf reports whether the process was started with one of these arguments.
func isOneOf(proc string, args []string) bool {
	b, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	return err == nil && slices.ContainsFunc(strings.Split(string(b), "\x00"), func(a string) bool { return slices.Contains(args, a) })
}

// state is the process's state letter (proc(5), /proc/pid/stat, third field), 0 if it is gone.
func state(proc string) byte {
	b, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return 0
	}
	// The name before it is in parentheses and may hold anything, so look from its end.
	i := strings.LastIndexByte(string(b), ')')
	if i < 0 || i+2 >= len(b) {
		return 0
	}
	return b[i+2]
}

// signalAll sends a signal to every process below dir until none is found that has not had it: one may fork meanwhile.
func signalAll(dir string, sig syscall.Signal) []Process {
	var had []Process
	for {
		fresh := 0
		for _, p := range processesIn(dir) {
			if slices.Contains(had, p) {
				continue
			}
			if err := syscall.Kill(p.PID, sig); err == nil {
				fresh++
			}
			had = append(had, p)
		}
		if fresh == 0 {
			return had
		}
	}
}

// killAll ends every process below dir, and returns once none is left. A process in uninterruptible sleep can't be ended; it
// is named in the error.
func killAll(dir string, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		late := time.Now().After(deadline) // not after the look: on a busy machine one look may take that long, and all may be gone since
		left := signalAll(dir, syscall.SIGKILL)
		if len(left) == 0 {
			return nil
		}
		if late {
			return fmt.Errorf("end the processes in %s: still there after %v: %v", dir, within, left)
		}
		time.Sleep(5 * time.Millisecond) // the kernel takes its time to bury them, and offers nothing to wait on for orphans
	}
}

// postmaster reads the process id of the server whose data lies in dir, from the first line of postmaster.pid.
func postmaster(dataDir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find the postmaster: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("find the postmaster: %s holds %q", filepath.Join(dataDir, "postmaster.pid"), line)
	}
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || at != dataDir {
		return 0, errors.Join(errors.New("find the postmaster: it does not run"), err)
	}
	return pid, nil
}
