//go:build e2e

package site_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// exposed is the most that "systemd-analyze security" may find.
const exposed = 3.0

// TestService looks at a member as systemd runs it.
func TestService(t *testing.T) {
	primary, _, err := cluster.AwaitWhole(all, healTime)
	ok(t, err)
	out, err := primary.Run(all, "systemd-analyze", "security", "--no-pager", "standfast.service")
	ok(t, err)
	level := regexp.MustCompile(`exposure level for standfast.service: ([0-9.]+)`).FindStringSubmatch(out)
	if level == nil {
		t.Fatalf("systemd-analyze says no level: %s", out)
	}
	if v, err := strconv.ParseFloat(level[1], 64); err != nil || v > exposed {
		t.Errorf("exposure %s, at most %.1f is wanted", level[1], exposed)
	}
	t.Logf("exposure %s", level[1])
	const netAdminAndRaw = "0000000000003000"
	if got := status(t, primary, site.Agent, "CapEff"); got != netAdminAndRaw {
		t.Errorf("the agent has capabilities %s, want CAP_NET_ADMIN and CAP_NET_RAW only", got)
	}
	for _, kind := range []string{"CapEff", "CapBnd", "CapAmb"} {
		if got := status(t, primary, site.Postmaster, kind); got != "0000000000000000" {
			t.Errorf("PostgreSQL has capabilities: %s is %s", kind, got)
		}
	}
	if got := proc(t, primary, site.Postmaster, "cgroup"); !strings.HasSuffix(strings.TrimSpace(got), "/standfast-postgres.service/postgres") {
		t.Errorf("PostgreSQL's control group is %s", got)
	}
	_, err = primary.Shell(all, "runuser -u postgres -- test -w /sys/fs/cgroup/system.slice/standfast-postgres.service/postgres/cgroup.kill")
	ok(t, err)
	out, err = primary.Run(all, "systemctl", "show", "-p", "StatusText", "--value", "standfast")
	ok(t, err)
	if !strings.Contains(out, "primary of term") {
		t.Errorf("systemctl status says %q of the primary", out)
	}
}

// TestGuardIsHardened reads what the unit's limits have made possible.
func TestGuardIsHardened(t *testing.T) {
	if bounding, err := strconv.ParseUint(strings.TrimSpace(statusLine(outside(t, "/proc/self/status"), "CapBnd")), 16, 64); err != nil || bounding&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		t.Skipf("root of this machine has no CAP_SYS_RESOURCE (%v), so no host's systemd can raise limits", err)
	}
	h := cluster.Lab.Hosts[0]
	if got := status(t, h, site.Guard, "VmLck"); strings.HasPrefix(got, "0 ") {
		t.Errorf("the guard has locked %s of memory\n%s", got, proc(t, h, site.Guard, "limits"))
	}
	if got := strings.TrimSpace(proc(t, h, site.Guard, "oom_score_adj")); got != "-1000" {
		t.Errorf("the guard's oom_score_adj is %s", got)
	}
}

// TestPostgresStartsOnlyOnce: whoever starts the service by hand starts nothing.
func TestPostgresStartsOnlyOnce(t *testing.T) {
	h := cluster.Lab.Hosts[0]
	out, err := h.Shell(all, "runuser -u postgres -- /usr/bin/standfast postgres /run/standfast/postgres.json 2>&1 || :")
	ok(t, err)
	if !strings.Contains(out, "only the agent starts") {
		t.Errorf("started by hand, it says %q", out)
	}
}

// proc reads a file of /proc about the only process of a part.
func proc(t *testing.T, h *netlab.Host, part site.Part, file string) string {
	t.Helper()
	pids, err := site.PIDs(h, part)
	ok(t, err)
	if len(pids) != 1 {
		t.Fatalf("%s: processes %v, want one", h.Name, pids)
	}
	return outside(t, fmt.Sprintf("/proc/%d/%s", pids[0], file))
}

// status reads a line of /proc/pid/status.
func status(t *testing.T, h *netlab.Host, part site.Part, key string) string {
	t.Helper()
	return statusLine(proc(t, h, part, "status"), key)
}

func statusLine(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, _ := strings.Cut(line, ":"); k == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
