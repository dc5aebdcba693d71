package plan_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"standfast/config"
	"standfast/deploy/plan"
)

var update = flag.Bool("update", false, "write what is printed now as what is wanted")

const guarded = `cluster: main
members:
  - {name: pg1, address: 10.0.0.11}
  - {name: pg2, address: "fd00::12"}
  - {name: w1, address: w1.example, kind: witness, ports: {health: 9008}, ssh: "192.168.1.13:2222"}
vip: [{address: 10.0.0.50}]
applications: [{role: app, from: [10.0.5.0/24, "fd05::/64"]}]
`

func rules(t *testing.T, text string) []plan.Rule {
	t.Helper()
	d, err := config.ParseDeployment("cluster.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out, err := plan.Rules(d, func(name string) ([]string, error) {
		return map[string][]string{"w1.example": {"10.0.0.13"}}[name], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCommands compares with files that are meant to be read: testdata/firewall.*.
func TestCommands(t *testing.T) {
	for _, firewall := range []string{"ufw", "firewalld", "nft"} {
		got, err := plan.Commands(rules(t, guarded), firewall)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "firewall."+firewall)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s (%v): got\n%s", firewall, err, got)
		}
	}
	if _, err := plan.Commands(nil, "iptables"); err == nil || !strings.Contains(err.Error(), "ufw, firewalld and nft") {
		t.Errorf("an unknown firewall gives %v", err)
	}
}

// TestRulesCoverWhatIsTried: whatever one member tries of another before a deployment is let through there, and let out here.
func TestRulesCoverWhatIsTried(t *testing.T) {
	all := rules(t, site)
	lets := func(host string, dir plan.Direction, peer, protocol string, port int) bool {
		return slices.ContainsFunc(all, func(r plan.Rule) bool {
			return r.Host == host && r.Direction == dir && r.Protocol == protocol && slices.Contains(r.Ports, port) && slices.Contains(r.Peers, peer)
		})
	}
	for protocol, ports := range map[string][]int{"tcp": {5000, 5001, 5432, 8008, 8301, 8443, 2379, 2380}, "udp": {8301}} {
		for _, port := range ports {
			if !lets("pg1", plan.In, "10.0.0.13", protocol, port) || !lets("pg3", plan.Out, "10.0.0.11", protocol, port) {
				t.Errorf("pg3 does not reach %s port %d of pg1", protocol, port)
			}
		}
	}
	anywhere := slices.ContainsFunc(all, func(r plan.Rule) bool {
		return r.Host == "pg1" && len(r.Peers) == 0 && slices.Equal(r.Ports, []int{5000, 5001})
	})
	if !anywhere {
		t.Error("no application reaches pg1: none was named, so all may")
	}
}

func TestRulesWantNumbers(t *testing.T) {
	d, err := config.ParseDeployment("cluster.yml", []byte(guarded))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Rules(d, func(string) ([]string, error) { return nil, errors.New("no such host") }); err == nil || !strings.Contains(err.Error(), "w1") {
		t.Errorf("a name that is none gives %v", err)
	}
}

// TestKeepalivedMayTalk: where Keepalived holds the addresses its messages are let through, between members with data and no others.
func TestKeepalivedMayTalk(t *testing.T) {
	const classic = `cluster: main
members:
  - {name: pg1, address: 10.0.0.11}
  - {name: pg2, address: 10.0.0.12}
  - {name: w1, address: 10.0.0.13, kind: witness}
vip: [{address: 10.0.0.50}]
address: keepalived
`
	for firewall, want := range map[string]string{
		"ufw":       "ufw allow in proto vrrp from 10.0.0.12\n",
		"firewalld": `firewall-cmd --permanent --add-rich-rule='rule family="ipv4" source address="10.0.0.12" protocol value="vrrp" accept'`,
		"nft":       "nft 'insert rule inet filter output ip daddr { 10.0.0.12 } meta l4proto 112 accept'",
	} {
		got, err := plan.Commands(rules(t, classic), firewall)
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s (%v): %s is not in\n%s", firewall, err, want, got)
		}
		got, _ = plan.Commands(rules(t, strings.Replace(classic, "address: keepalived\n", "", 1)), firewall)
		if strings.Contains(got, "vrrp") || strings.Contains(got, "112") {
			t.Errorf("%s: rules for Keepalived, which is not there:\n%s", firewall, got)
		}
	}
	for _, r := range rules(t, classic) {
		if r.Protocol == "vrrp" && (r.Host == "w1" || slices.Contains(r.Peers, "10.0.0.13")) {
			t.Errorf("a witness has no Keepalived: %+v", r)
		}
	}
}
