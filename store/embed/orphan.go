package embed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Command is what the program is told to be a member's etcd, before the file's name.
const Command = "etcd"

// File is where the configuration of a member's etcd lies in its state directory. The process is started with it as its last
// argument, and is known by it.
func File(stateDir string) string { return filepath.Join(stateDir, "etcd.json") }

// AwaitOrphan waits until the etcd process that was started with this file by a process that has been killed since is gone.
// It stops by itself then, in order, which takes moments; but until it is gone it has the ports and the data directory.
// Without one it returns at once, and likewise when whoever started it lives: then two want to be the same member. A
// process that is still there after closeTimeout and a second more is left to whoever finds the ports taken.
func AwaitOrphan(ctx context.Context, file string) error {
	pid := orphan(file)
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the etcd of an earlier run (pid %d): %w", pid, err)
	}
	defer unix.Close(fd)
	const step = 50 * time.Millisecond // poll(2) knows no context
	for end := time.Now().Add(closeTimeout + time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for the etcd of an earlier run (pid %d): %w", pid, err)
		}
	}
	return ctx.Err()
}

// orphan finds the process; 0 if there is none.
func orphan(file string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is sound
	for _, name := range all {
		dir := filepath.Dir(name)
		args := arguments(dir)
		if n := len(args); n < 3 || args[n-2] != Command || args[n-1] != file || run(filepath.Join("/proc", parent(dir))) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir)) // digits, by the pattern
		return pid
	}
	return 0
}

// parent is the fourth field of proc(5)'s stat: the second may hold blanks and parentheses of its own.
func parent(dir string) string {
	text, _ := os.ReadFile(filepath.Join(dir, "stat"))
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	if f := strings.Fields(rest); len(f) > 1 {
		return f[1]
	}
	return "0"
}

// run reports whether a process is a member's that lives, "standfast run". An orphan is handed to init or to whoever takes in
// orphans, which may be a playground: the same program, with another command.
func run(dir string) bool { return slices.Contains(arguments(dir), "run") }

// arguments is a process's command line; empty if it has ended.
func arguments(dir string) []string {
	text, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	return strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
}
