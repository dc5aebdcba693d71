package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"standfast/postgres"
)

// Ground says what tests run on, for whoever reads their results: PostgreSQL, the distribution, processors and how busy they were
// in the last minute.
func Ground() string {
	server := "no PostgreSQL"
	if dir, _, err := postgres.FindBinDir(""); err == nil {
		if out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output(); err == nil {
			server = strings.TrimSpace(string(out))
		}
	}
	system := "an unknown system"
	release, _ := os.ReadFile("/etc/os-release") // not every system has one
	for line := range strings.Lines(string(release)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			system = strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return fmt.Sprintf("%s, %s, %d processors, load %s", server, system, runtime.NumCPU(), load())
}

// load is the load average of the last minute (proc(5)).
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}
