//go:build e2e

package deployed_test

import (
	"strings"
	"testing"
	"time"
)

const floating = "vip: [{address: 10.99.0.50}]\n"

// plan looks at bare hosts: nothing is in the way, and nothing is left there.
func plan(t *testing.T) {
	ok(t, admin.Describe(floating))
	began := time.Now()
	code, said, err := admin.Standfast(all, "plan")
	ok(t, err)
	t.Logf("plan took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	if code != 0 || !strings.Contains(said, "10.99.0.50: each host carried it in turn; the others heard of it within") {
		t.Errorf("plan exits with %d", code)
	}
	for _, h := range admin.Lab.Hosts {
		left, err := h.Shell(all, "ls -d /var/tmp/standfast* /etc/standfast /usr/bin/standfast 2>/dev/null || :")
		ok(t, err)
		if left != "" {
			t.Errorf("%s: left behind: %s", h.Name, left)
		}
		on, err := h.Shell(all, "ip -o address show to 10.99.0.50")
		ok(t, err)
		if on != "" {
			t.Errorf("%s: the floating address is left there: %s", h.Name, on)
		}
	}
}

// planBehindFirewalls: the printed rules are what a host needs that lets nothing else in or out.
func planBehindFirewalls(t *testing.T) {
	ok(t, admin.Describe(floating))
	code, rules, err := admin.Standfast(all, "plan", "--firewall", "nft")
	ok(t, err)
	if code != 0 {
		t.Fatalf("it exits with %d: %s", code, rules)
	}
	t.Cleanup(func() {
		for _, h := range admin.Lab.Hosts {
			_, err := h.Shell(all, "nft delete table inet filter")
			ok(t, err)
		}
	})
	for _, h := range admin.Lab.Hosts {
		_, own, _ := strings.Cut(rules, "# ---- on "+h.Name+"\n")
		own, _, _ = strings.Cut(own, "# ---- on ")
		_, err := h.Shell(all, `nft -f - <<'END'
table inet filter {
	chain input { type filter hook input priority 0; policy drop; ct state established,related accept; iifname lo accept; meta l4proto { icmp, icmpv6 } accept; }
	chain output { type filter hook output priority 0; policy drop; ct state established,related accept; oifname lo accept; meta l4proto { icmp, icmpv6 } accept; }
}
END
`+own)
		ok(t, err)
	}
	code, said, err := admin.Standfast(all, "plan")
	ok(t, err)
	if code != 0 {
		t.Errorf("behind the firewalls plan exits with %d:\n%s", code, said)
	}
}

// planFindsAFilter: a switch that lets a host speak for its own address only.
func planFindsAFilter(t *testing.T) {
	ok(t, admin.Describe(floating))
	pg2 := admin.Lab.Hosts[1]
	// On the host itself, at the very edge: that is what the switch's port would do.
	_, err := pg2.Shell(all, `nft -f - <<'END'
table netdev port {
	chain out {
		type filter hook egress device "enp0s2" priority 0
		arp saddr ip 10.99.0.50 drop
		ip saddr 10.99.0.50 drop
	}
}
END
`)
	ok(t, err)
	t.Cleanup(func() {
		_, err := pg2.Shell(all, "nft delete table netdev port")
		ok(t, err)
	})
	code, said, err := admin.Standfast(all, "plan")
	ok(t, err)
	// A kernel may tell the sender that its own edge dropped the announcement; a switch would not.
	found := strings.Contains(said, "carried 10.99.0.50, and pg3 did not reach it") || strings.Contains(said, "can't carry 10.99.0.50 for a trial: announce 10.99.0.50")
	if code != 3 || !found {
		t.Errorf("plan exits with %d, want 3:\n%s", code, said)
	}
}

// planFindsWhatIsInTheWay: a firewall between two hosts, a port that is taken, and a floating address that is in use.
func planFindsWhatIsInTheWay(t *testing.T) {
	ok(t, admin.Describe("vip: [{address: 10.99.0.100}]\n")) // the client's own
	pg1, pg2, pg3 := admin.Lab.Hosts[0], admin.Lab.Hosts[1], admin.Lab.Hosts[2]
	_, err := pg2.Shell(all, "nft add table inet t; nft 'add chain inet t in { type filter hook input priority 0; }'; nft add rule inet t in ip saddr "+pg1.Addr.String()+" udp dport 8301 drop")
	ok(t, err)
	_, err = pg3.Shell(all, "systemd-socket-activate -l 0.0.0.0:8008 sleep 1000 >/dev/null 2>&1 & echo $! >/run/squatter")
	ok(t, err)
	t.Cleanup(func() {
		_, err := pg2.Shell(all, "nft delete table inet t")
		ok(t, err)
		_, err = pg3.Shell(all, "kill $(cat /run/squatter)")
		ok(t, err)
	})
	code, said, err := admin.Standfast(all, "plan")
	ok(t, err)
	t.Log(said)
	if code != 3 {
		t.Errorf("plan exits with %d, want 3", code)
	}
	for _, want := range []string{"no answer on udp " + pg2.Addr.String() + ":8301", "8008 is taken by", "10.99.0.100 answers already, from MAC"} {
		if !strings.Contains(said, want) {
			t.Errorf("plan does not say %q", want)
		}
	}
}
