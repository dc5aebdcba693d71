package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"standfast/postgres"

	"golang.org/x/sys/unix"
)

// machine names where results come from, without which a figure says nothing.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     string `json:"memory"`
	Kernel     string `json:"kernel"`
	System     string `json:"system"`
	PostgreSQL string `json:"postgresql"`
	HAProxy    string `json:"haproxy,omitempty"`
	Go         string `json:"go"`
	Version    string `json:"version"` // of the source, as git describes it
	Date       string `json:"date"`
	Load       string `json:"load,omitempty"` // the load average of a minute as measuring began
}

func thisMachine(now time.Time) machine {
	m := machine{
		CPU: keyed("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: memory(),
		System: strings.Trim(keyed("/etc/os-release", "PRETTY_NAME"), `"`), Go: runtime.Version(), Date: now.UTC().Format("2006-01-02"), Load: loadAverage(),
		Version: output("git", "describe", "--always", "--dirty", "--exclude", "*"), HAProxy: firstLine(output("haproxy", "-v")),
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if dir, _, err := postgres.FindBinDir(""); err == nil {
		m.PostgreSQL = output(dir+"/postgres", "--version")
	}
	return m
}

// String is one sentence for the reader.
func (m machine) String() string {
	text := fmt.Sprintf("%s, %d cores, %s memory; %s, Linux %s; %s; %s; source %s; %s", m.CPU, m.Cores, m.Memory, m.System, m.Kernel, m.PostgreSQL, m.Go, m.Version, m.Date)
	if m.Load != "" {
		text += "; load average " + m.Load + " at the start"
	}
	return text
}

// keyed finds the value of a line "key: value" or "key=value", "unknown" if there is none.
func keyed(file, key string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for l := range strings.Lines(string(b)) {
		if i := strings.IndexAny(l, ":="); i > 0 && strings.TrimSpace(l[:i]) == key {
			return strings.TrimSpace(l[i+1:])
		}
	}
	return "unknown"
}

func memory() string {
	var kb int64
	if _, err := fmt.Sscanf(keyed("/proc/meminfo", "MemTotal"), "%d kB", &kb); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GB", float64(kb)/(1<<20))
}

// output is what a command prints, "" if it does not work.
func output(name string, args ...string) string {
	b, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
