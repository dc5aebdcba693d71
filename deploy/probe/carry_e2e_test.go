//go:build e2e

package probe

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"standfast/test/wires"
)

// on asks a question on a host. What is held there is let go by release.
func on(t *testing.T, h *wires.Host, r Request) (a Answer, release func(), cmd *exec.Cmd) {
	t.Helper()
	cmd = &exec.Cmd{Path: "/proc/self/exe", Args: []string{"probe"}, Stderr: os.Stderr, Env: []string{"PROBE_TEST_ASKED=1"}}
	in, err := cmd.StdinPipe()
	ok(t, err)
	out, err := cmd.StdoutPipe()
	ok(t, err)
	h.Start(cmd)
	ok(t, json.NewEncoder(in).Encode(r))
	ok(t, json.NewDecoder(out).Decode(&a))
	return a, func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out) // until it has ended
	}, cmd
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCarry: each of two hosts in turn, and the third hears of the second though it knew the first.
func TestCarry(t *testing.T) {
	s := wires.New(t, "a", "b", "c")
	for _, ip := range []string{"10.77.0.50", "fd77::50"} {
		for _, name := range []string{"a", "b"} {
			h := s.Host(name)
			own := h.IP4.String()
			if strings.Contains(ip, ":") {
				own = h.IP6.String()
			}
			c := Carry{Address: ip, At: net.JoinHostPort(own, "8301")}
			a, release, _ := on(t, h, Request{Carry: &c})
			if a.Carry != "" {
				t.Fatalf("%s does not carry %s: %s", name, ip, a.Carry)
			}
			if carries(h, ip) {
				t.Errorf("%s has %s before it was told", name, ip)
			}
			met, done, _ := on(t, s.Host("c"), Request{Meet: &Meet{c}})
			done()
			if m := met.Meet; m == nil || m.Error != "" || m.Heard <= 0 || m.Reached <= 0 || m.Reached > meetTime {
				t.Errorf("%s on %s: %+v", ip, name, m)
			} else {
				t.Logf("%s on %s: heard after %s, reached after %s", ip, name, m.Heard, m.Reached)
			}
			if !carries(h, ip) {
				t.Errorf("%s does not have %s", name, ip)
			}
			release()
			if carries(h, ip) {
				t.Errorf("%s still has %s", name, ip)
			}
		}
	}
}

func carries(h *wires.Host, ip string) bool {
	for on := range h.Addrs() {
		if strings.HasPrefix(on, ip+"/") {
			return true
		}
	}
	return false
}

// TestCarryWhatIsUsed is refused, wherever it is used.
func TestCarryWhatIsUsed(t *testing.T) {
	s := wires.New(t, "a", "b")
	s.Host("b").Add("10.77.0.50/32")
	s.Host("a").Add("10.77.0.51/24")
	for ip, want := range map[string]string{"10.77.0.50": "answers already, from MAC", "10.77.0.51": "is on this host already"} {
		a, release, _ := on(t, s.Host("a"), Request{Carry: &Carry{Address: ip, At: "10.77.0.1:8301"}})
		release()
		if !strings.Contains(a.Carry, want) {
			t.Errorf("%s: %q", ip, a.Carry)
		}
	}
	if !carries(s.Host("a"), "10.77.0.51") || !carries(s.Host("b"), "10.77.0.50") {
		t.Error("an address that was there is gone")
	}
}

// TestCarrierIsKilled: the kernel keeps the address no longer than it was told to.
func TestCarrierIsKilled(t *testing.T) {
	s := wires.New(t, "a", "b")
	c := Carry{Address: "10.77.0.50", At: "10.77.0.1:8301"}
	_, release, cmd := on(t, s.Host("a"), Request{Carry: &c})
	_, done, _ := on(t, s.Host("b"), Request{Meet: &Meet{c}})
	done()
	ok(t, cmd.Process.Kill())
	release()
	links, err := s.Host("a").At.AddrList(s.Host("a").Eth0(), 2) // AF_INET
	ok(t, err)
	for _, l := range links {
		if l.IP.String() == "10.77.0.50" && l.ValidLft > 0 && time.Duration(l.ValidLft)*time.Second <= 20*time.Second {
			return
		}
	}
	t.Errorf("no address with an end: %v", links)
}
