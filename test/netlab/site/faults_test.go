//go:build e2e

package site_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// soon is how long a new primary may take after any fault. On an idle machine it is a tenth of that.
const soon = 30 * time.Second

func TestPowerLossOfThePrimary(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.PowerOff())
	s.reign(soon)
	s.flow(s.anywhere...)
	ok(t, s.primary.Boot(all))
	s.moved()
}

func TestPausedPrimary(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.Pause(all))
	paused := time.After(10 * time.Second)
	s.reign(soon)
	<-paused // the host comes back in the middle of another's reign
	ok(t, s.primary.Resume(all))
	s.moved()
}

// TestKilledAgent: systemd starts another, which takes over the PostgreSQL that runs.
func TestKilledAgent(t *testing.T) {
	s := begin(t)
	before := postmaster(t, s.primary)
	ok(t, s.primary.Signal(unix.SIGKILL, site.Agent))
	s.unmoved()
	if now := postmaster(t, s.primary); now != before {
		t.Errorf("PostgreSQL was started anew: process %d, then %d", before, now)
	}
}

// TestRestartedAgent is an upgrade: another binary, and systemctl restart. The floating address stays all the time, so that its
// clients miss no more than the clients of that host's own port do while its router is away.
func TestRestartedAgent(t *testing.T) {
	s := begin(t)
	before := postmaster(t, s.primary)
	_, err := s.primary.Shell(all, "cp /usr/bin/standfast /usr/bin/standfast.new && mv /usr/bin/standfast.new /usr/bin/standfast && systemctl restart standfast")
	ok(t, err)
	s.unmoved()
	router, floating := s.gaps[s.primary.Name], s.gaps[byFloating]
	t.Logf("writes were out for %d ms through the port of %s", router.Milliseconds(), s.primary.Name)
	if floating > router+3*time.Second { // the address was away for 1 to 5 s when it was taken off
		t.Errorf("clients of the floating address were out for %v, those of the router on its host for %v", floating, router)
	}
	said, err := s.primary.Shell(all, "journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID standfast)")
	ok(t, err)
	if !strings.Contains(said, "floating address taken over") || strings.Contains(said, "floating address added") {
		t.Errorf("the agent did not find the floating address where its predecessor had it:\n%s", said)
	}
	if now := postmaster(t, s.primary); now != before {
		t.Errorf("PostgreSQL was started anew: process %d, then %d", before, now)
	}
}

// TestStoppedAgent: an agent that hangs for longer than the lease leaves no primary behind, though nobody can ask it to go.
func TestStoppedAgent(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.Signal(unix.SIGSTOP, site.Agent))
	s.emptied(s.primary)
	s.reign(soon)
	s.moved() // systemd's watchdog has ended the agent that hangs, and started another
}

// TestAgentStaysStopped: the guard does not leave a primary that nobody looks after.
func TestAgentStaysStopped(t *testing.T) {
	s := begin(t)
	_, err := s.primary.Run(all, "systemctl", "stop", "standfast")
	ok(t, err)
	on, err := s.primary.Run(all, "ip", "-o", "address", "show", "to", site.Floating.String())
	ok(t, err)
	if on != "" {
		t.Errorf("an agent that is stopped for good has left the floating address: %s", on)
	}
	s.reign(soon)        // revocation waits for nobody's lease
	s.emptied(s.primary) // the guard does
	_, err = s.primary.Run(all, "systemctl", "start", "standfast")
	ok(t, err)
	s.moved()
}

// TestBrokenUpgrade: the agent leaves the floating address to a successor that never starts. The guard takes it off, and another
// member goes on with it.
func TestBrokenUpgrade(t *testing.T) {
	s := begin(t)
	run := func(script string) string {
		t.Helper()
		out, err := s.primary.Shell(all, script)
		ok(t, err)
		return strings.TrimSpace(out)
	}
	const left = "journalctl --no-pager -o cat -u standfast | grep -c 'floating address left to the next agent' || true"
	before := run(left)
	run("cp -p /usr/bin/standfast /usr/bin/standfast.good")
	mend := func() {
		run("if [ -e /usr/bin/standfast.good ]; then mv /usr/bin/standfast.good /usr/bin/standfast; fi")
	}
	t.Cleanup(mend)
	run("printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/standfast.new && chmod 755 /usr/bin/standfast.new && mv /usr/bin/standfast.new /usr/bin/standfast && systemctl restart --no-block standfast")
	s.reign(soon)
	s.emptied(s.primary) // what the guard does second
	if run(left) == before {
		t.Error("the agent has not left the floating address, so this shows nothing")
	}
	if on := run("ip -o address show to " + site.Floating.String()); on != "" {
		t.Errorf("nobody has taken the floating address off: %s", on)
	}
	s.flow(s.anywhere...)
	mend()
	s.moved()
}

func TestRebootOfThePrimary(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.Reboot(all))
	s.moved()
	if why := reason(t); !strings.Contains(why, "shutdown of "+s.primary.Name) {
		t.Errorf("the role was not handed over at the shutdown: %s", why)
	}
}

// TestNodeStop is maintenance of the primary's host.
func TestNodeStop(t *testing.T) {
	s := begin(t)
	out, err := s.primary.Run(all, "standfast", "node", "stop")
	ok(t, err)
	t.Log(strings.TrimSpace(out))
	if pids, err := site.PIDs(s.primary, site.Postgres); err != nil || len(pids) > 0 {
		t.Errorf("processes of PostgreSQL are left: %v, %v", pids, err)
	}
	if why := reason(t); !strings.Contains(why, "switchover") {
		t.Errorf("the role was not handed over: %s", why)
	}
	_, err = s.primary.Run(all, "standfast", "node", "start")
	ok(t, err)
	s.moved()
}

// TestPrimaryCutFromStandbys: clients still reach all three.
func TestPrimaryCutFromStandbys(t *testing.T) { cutFromStandbys(begin(t)) }

// TestImpatientClients: those of the primary that is cut off give each commit up after a second, again and again, and try the same
// row once more. PostgreSQL takes a commit whose wait is cancelled for done: without the routers' withholding seven rows of 3,000
// were lost each time.
func TestImpatientClients(t *testing.T) { cutFromStandbys(beginWith(t, time.Second)) }

func cutFromStandbys(s *scene) {
	t := s.t
	t.Helper()
	for _, h := range s.standbys() {
		ok(t, cluster.Lab.CutPair(all, s.primary, h))
	}
	s.reign(soon)
	s.flow(s.anywhere...)
	ok(t, cluster.Lab.Heal(all))
	s.moved()
}

// TestBothStandbysOff: no copy, no acknowledgement; one standby is enough to go on.
func TestBothStandbysOff(t *testing.T) {
	s := begin(t)
	standbys := s.standbys()
	for _, h := range standbys {
		ok(t, h.PowerOff())
	}
	time.Sleep(time.Second) // what was on its way is acknowledged or not by now
	before := s.acknowledged()
	time.Sleep(3 * time.Second) // nothing may happen in this time
	if after := s.acknowledged(); after != before {
		t.Errorf("%d commits were acknowledged with no standby", after-before)
	}
	s.refused(s.primary)
	ok(t, standbys[0].Boot(all))
	s.flow(s.anywhere...)
	ok(t, standbys[1].Boot(all))
	s.end()
}

func TestAllPoweredOffAndOn(t *testing.T) {
	s := begin(t)
	for _, h := range cluster.Lab.Hosts {
		ok(t, h.PowerOff())
	}
	for _, h := range cluster.Lab.Hosts {
		ok(t, h.Boot(all))
	}
	s.end()
}

func postmaster(t *testing.T, h *netlab.Host) int {
	t.Helper()
	pids, err := site.PIDs(h, site.Postmaster)
	ok(t, err)
	if len(pids) != 1 {
		t.Fatalf("postmasters of %s: %v, want one", h.Name, pids)
	}
	return pids[0]
}
