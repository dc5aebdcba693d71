package gather

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"standfast/doctor/facts"
	"standfast/packaging"
)

// host reads what the kernel tells (proc(5)). What can't be read stays at zero.
func (g *Gatherer) host(context.Context) (func(*facts.Member), error) {
	h := facts.Host{OS: osName(), Kernel: word("/proc/sys/kernel/osrelease"), CPUs: runtime.NumCPU(), Service: g.cfg.Node.Postgres.Unit != ""}
	h.Load, _ = strconv.ParseFloat(firstField(word("/proc/loadavg")), 64) // 0: not known
	mem := table("/proc/meminfo")
	h.Memory, h.Available = mem["MemTotal"]<<10, mem["MemAvailable"]<<10
	h.Swap = mem["SwapTotal"] << 10
	h.SwapUsed = h.Swap - mem["SwapFree"]<<10
	h.Swappiness, h.Overcommit = number("/proc/sys/vm/swappiness"), number("/proc/sys/vm/overcommit_memory")
	h.HugeAlways = strings.Contains(word("/sys/kernel/mm/transparent_hugepage/enabled"), "[always]")
	h.OOMKills = int(table("/sys/fs/cgroup/system.slice/" + packaging.ServerUnit + "/memory.events")["oom_kill"])
	h.Files = openFiles(filepath.Join(g.cfg.Node.Postgres.DataDir, "postmaster.pid"))
	h.RemoveIPC, h.SystemUser = removeIPC(), os.Geteuid() < 1000 // systemd's border between system users and people's
	h.Systemd, h.Container = exists("/run/systemd/system"), exists("/run/systemd/container") || exists("/.dockerenv") || exists("/run/.containerenv")
	return func(m *facts.Member) { clock := m.Host.Clock; m.Host = h; m.Host.Clock = clock }, nil
}

// clock asks timedatectl whether the clock is kept by NTP.
func (g *Gatherer) clock(ctx context.Context) (func(*facts.Member), error) {
	if !exists("/run/systemd/system") {
		return nil, nil
	}
	out, err := exec.CommandContext(ctx, "timedatectl", "show", "-p", "NTPSynchronized", "--value").Output()
	if err != nil {
		return nil, fmt.Errorf("timedatectl: %w", err)
	}
	return func(m *facts.Member) { m.Host.Clock = strings.TrimSpace(string(out)) }, nil
}

func osName() string {
	text, _ := os.ReadFile("/etc/os-release") // "" where there is none
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func word(path string) string {
	text, _ := os.ReadFile(path) // "": not known
	return strings.TrimSpace(string(text))
}

func firstField(s string) string {
	f, _, _ := strings.Cut(s, " ")
	return f
}

func number(path string) int {
	n, err := strconv.Atoi(word(path))
	if err != nil {
		return -1
	}
	return n
}

// table reads lines of "name: number", as in /proc/meminfo, or "name number", as in memory.events.
func table(path string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(word(path)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			out[strings.TrimSuffix(f[0], ":")] = n
		}
	}
	return out
}

// openFiles is the bound on open files of the process that the file's first line names; 0: not known.
func openFiles(pidFile string) int {
	pid, _, _ := strings.Cut(word(pidFile), "\n")
	for line := range strings.Lines(word("/proc/" + pid + "/limits")) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max open files") && len(f) > 3 {
			n, _ := strconv.Atoi(f[3]) // "unlimited" is 0: not known, and enough
			return n
		}
	}
	return 0
}

// removeIPC reads logind.conf(5) with its drop-ins in their order; where nobody says anything it is on, but for Debian's family.
func removeIPC() bool {
	on := false
	files := []string{"/etc/systemd/logind.conf"}
	for _, dir := range []string{"/usr/lib", "/etc", "/run"} {
		more, _ := filepath.Glob(dir + "/systemd/logind.conf.d/*.conf") // the pattern is sound
		slices.Sort(more)
		files = append(files, more...)
	}
	for _, f := range files {
		for line := range strings.Lines(word(f)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "RemoveIPC="); ok {
				on = slices.Contains([]string{"yes", "true", "on", "1"}, v)
			}
		}
	}
	return on
}

// disks looks at the file systems of data, WAL and state. Those on the same one are told together.
func (g *Gatherer) disks(context.Context) (func(*facts.Member), error) {
	n := g.cfg.Node
	var out []facts.Disk
	seen := map[unix.Fsid]int{}
	places := [][2]string{{"data", n.Postgres.DataDir}, {"WAL", filepath.Join(n.Postgres.DataDir, "pg_wal")}, {"state", n.StateDir}}
	for _, p := range places {
		var fs unix.Statfs_t
		if err := unix.Statfs(p[1], &fs); err != nil {
			continue // a witness has no data
		}
		if i, ok := seen[fs.Fsid]; ok {
			out[i].Holds = append(out[i].Holds, p[0])
			continue
		}
		seen[fs.Fsid] = len(out)
		out = append(out, facts.Disk{Holds: []string{p[0]}, Path: p[1], Size: int64(fs.Blocks) * fs.Bsize, Free: int64(fs.Bavail) * fs.Bsize,
			Inodes: int64(fs.Files), InodesFree: int64(fs.Ffree), ReadOnly: fs.Flags&unix.ST_RDONLY != 0})
	}
	return func(m *facts.Member) { m.Disks = out }, nil
}

// syncs is how many pages are written to see how long that takes: a single one may meet a checkpoint.
const syncs = 3

func (g *Gatherer) sync(ctx context.Context) (func(*facts.Member), error) {
	var took []time.Duration
	var s facts.Sync
	for range syncs {
		began := time.Now()
		if err := g.cfg.Probe(ctx); err != nil {
			s.Error = err.Error()
			break
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	if len(took) > 0 {
		s.Median, s.Worst = took[len(took)/2], took[len(took)-1]
	}
	return func(m *facts.Member) { m.Sync = &s }, nil
}

// watched are the services that a member lives with, or must not live with. Patterns match what systemd has loaded.
var watched = []string{
	packaging.Unit, packaging.ServerUnit, "postgresql.service", "postgresql@*.service", "repmgrd.service", "repmgrd@*.service", "patroni.service", "patroni@*.service",
	"stolon-keeper.service", "pgautofailover.service", "pacemaker.service", "corosync.service", "keepalived.service", "vip-manager.service", "haproxy.service", "pgchk.service",
	"etcd.service", "earlyoom.service", "systemd-oomd.service",
}

// units asks systemd about all of them at once.
func (g *Gatherer) units(ctx context.Context) (func(*facts.Member), error) {
	if !exists("/run/systemd/system") {
		return nil, nil
	}
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"show", "-p", "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts", "--"}, watched...)...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("systemctl: %w", err)
	}
	units := parseUnits(string(out))
	return func(m *facts.Member) { m.Units = units }, nil
}

// parseUnits reads what "systemctl show" writes: a block of name=value for each unit, an empty line between them.
func parseUnits(text string) []facts.Unit {
	var out []facts.Unit
	for block := range strings.SplitSeq(text, "\n\n") {
		v := map[string]string{}
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			v[name] = value
		}
		if v["Id"] == "" || v["LoadState"] == "not-found" {
			continue
		}
		restarts, _ := strconv.Atoi(v["NRestarts"]) // not every unit has it
		out = append(out, facts.Unit{Name: v["Id"], Active: v["ActiveState"], Sub: v["SubState"], Enabled: v["UnitFileState"], Result: v["Result"], Restart: restarts})
	}
	return out
}
