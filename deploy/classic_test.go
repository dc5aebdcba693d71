package deploy_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"standfast/config"
	"standfast/deploy"
)

const classic = `{cluster: main, members: [{name: pg1, address: 10.0.0.11}, {name: pg2, address: 10.0.0.12}, {name: pg3, address: 10.0.0.13}],
  vip: [{address: 10.0.0.50, interface: eth0}], routing: haproxy, address: keepalived, applications: [{role: app}]}`

// led fails unless every member's HAProxy and Keepalived run by what lies there, and know all members.
func led(t *testing.T, w *world, when string) {
	t.Helper()
	for _, name := range w.order {
		h := w.hosts[name]
		for unit, path := range configs {
			text := h.texts[path]
			if u := h.others[unit]; !u.Active || !u.Enabled || h.told[unit] != text || !strings.Contains(text, "written by standfast") {
				t.Errorf("%s: %s, %s: %+v runs by\n%s\nand has\n%s", when, name, unit, u, h.told[unit], text)
			}
			if strings.Contains(path, "haproxy") && strings.Count(text, ":5432 check port 8008") != 2*len(w.order) {
				t.Errorf("%s: %s leads not to %d members:\n%s", when, name, len(w.order), text)
			}
		}
		n, err := config.ParseNode(name, []byte(h.texts[config.DefaultPath]), nil, nil)
		if err != nil || n.Routing != config.HAProxy || n.Address != config.Keepalived || h.packages["haproxy"] == "" || h.packages["keepalived"] == "" {
			t.Errorf("%s: %s: %v, %s, %s, %v", when, name, err, n.Routing, n.Address, h.packages)
		}
	}
}

// TestClassicPlane: HAProxy and Keepalived are installed and run; the same again changes nothing; a new member is made known by a reload; and what
// was there before is kept aside. Back to the members' own parts, both are stopped.
func TestClassicPlane(t *testing.T) {
	w, s := bare(t, t.TempDir())
	described(t, w, s, classic)
	w.members = nil
	const before = "# as the distribution has it\n"
	w.hosts["pg1"].files[configs["haproxy.service"]], w.hosts["pg1"].texts[configs["haproxy.service"]] = deploy.FileState{Sum: "x"}, before
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	led(t, w, "deployed")
	if got := w.hosts["pg1"].texts[configs["haproxy.service"]+".before-standfast"]; got != before {
		t.Errorf("set aside: %q", got)
	}
	if changed, told, err := run(t, s, deploy.Options{}); err != nil || changed != 0 {
		t.Errorf("again: %d changes, %v, %v", changed, err, told)
	}

	described(t, w, s, strings.Replace(classic, "10.0.0.13}", "10.0.0.13}, {name: pg4, address: 10.0.0.14}", 1))
	w.members = []string{"pg1", "pg2", "pg3"}
	var told []deploy.Event
	if _, err := deploy.Add(t.Context(), s, options(&told)); err != nil {
		t.Fatal(err)
	}
	led(t, w, "with pg4")

	described(t, w, s, strings.Replace(strings.Replace(classic, "10.0.0.13}", "10.0.0.13}, {name: pg4, address: 10.0.0.14}", 1), "routing: haproxy, address: keepalived,", "", 1))
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	for name, h := range w.hosts {
		if len(h.others) > 0 {
			t.Errorf("%s: the member has its parts back, and %v run on", name, h.others)
		}
	}
}

// TestClassicPlaneInterrupted: cut anywhere, a second run ends with programs that have read what lies there.
func TestClassicPlaneInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []bool{false, true} {
			for budget := 0; ; budget += 5 {
				w, s := bare(t, t.TempDir())
				described(t, w, s, classic)
				w.members = nil
				w.budget, w.after = budget, after
				_, _, err := run(t, s, deploy.Options{})
				w.budget = 1 << 30
				if _, _, err := run(t, s, deploy.Options{}); err != nil {
					t.Fatalf("cut after %d changes, then: %v", budget, err)
				}
				if led(t, w, "interrupted"); t.Failed() {
					t.Fatalf("cut after %d changes", budget)
				}
				if err == nil {
					break
				}
			}
		}
	})
}
