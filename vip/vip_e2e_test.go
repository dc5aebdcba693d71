//go:build e2e

package vip

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	four = "10.77.0.50"
	six  = "fd77::50"
)

// within waits until ok, for as long as a host may take, and says how long it took.
func (l *lab) within(bound time.Duration, what string, ok func() bool) time.Duration {
	l.t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > bound {
			l.t.Fatalf("%s: not within %v", what, bound)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begun)
}

func (h *host) holds(ips ...string) func() bool {
	return func() bool {
		on := h.Addrs()
		for _, ip := range ips {
			bits := "/32"
			if strings.Contains(ip, ":") {
				bits = "/128"
			}
			if _, ok := on[ip+bits]; !ok {
				return false
			}
		}
		return len(on) == len(ips)
	}
}

// listen accepts connections to the port on any of the host's addresses, and answers each with the host's name.
func (h *host) listen(port string) {
	h.lab.t.Helper()
	h.lab.must(h.In(func() error {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		h.lab.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				h.lab.t.Cleanup(func() { c.Close() })
				fmt.Fprint(c, h.Name)
			}
		}()
		return nil
	}))
}

// dial connects from the host and returns the connection and who answered.
func (h *host) dial(to string) (c net.Conn, name string, err error) {
	err = h.In(func() error {
		var err error
		if c, err = net.DialTimeout("tcp", to, 3*time.Second); err != nil {
			return err
		}
		h.lab.t.Cleanup(func() { c.Close() })
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		buf := make([]byte, 16)
		n, err := c.Read(buf)
		name = string(buf[:n])
		return err
	})
	return c, name, err
}

func (h *host) mustReach(to, name string) net.Conn {
	h.lab.t.Helper()
	c, who, err := h.dial(to)
	if err != nil || who != name {
		h.lab.t.Fatalf("%s dials %s: %q answers, %v; want %s", h.Name, to, who, err, name)
	}
	return c
}

// TestTakeover: a host is cut off, another takes its addresses, and a third one's neighbour table follows without its
// having asked.
func TestTakeover(t *testing.T) {
	l := newLab(t, "a", "b", "client")
	a, b, client := l.hosts["a"], l.hosts["b"], l.hosts["client"]
	for _, h := range []*host{a, b} {
		h.listen("5000")
		h.start(four, six)
	}
	a.say("set 1m 10.77.0.50 fd77::50", "done")
	l.within(2*time.Second, "a holds both", a.holds(four, six))
	client.mustReach(four+":5000", "a")
	client.mustReach("["+six+"]:5000", "a")
	for _, ip := range []string{four, six} {
		if got := client.Knows(ip); got != a.MAC.String() {
			t.Fatalf("the client knows %s at %s, want a's %s", ip, got, a.MAC)
		}
	}
	a.Cable(false)
	b.say("set 1m 10.77.0.50 fd77::50", "done")
	for _, ip := range []string{four, six} {
		took := l.within(time.Second, "the client knows b for "+ip, func() bool { return client.Knows(ip) == b.MAC.String() })
		t.Logf("%s moved in the client's neighbour table after %v", ip, took)
	}
	client.mustReach(four+":5000", "b")
	client.mustReach("["+six+"]:5000", "b")

	b.say("drop", "done")
	if !b.holds()() {
		t.Errorf("b still has %v after its drop was confirmed", b.Addrs())
	}
}

// TestForm: how the addresses sit on the interface, and that a host does not speak from them by itself.
func TestForm(t *testing.T) {
	l := newLab(t, "a", "client")
	a, client := l.hosts["a"], l.hosts["client"]
	a.start(four, six)
	a.say("set 1m 10.77.0.50 fd77::50", "done")
	l.within(2*time.Second, "a holds both", a.holds(four, six))
	on := a.Addrs()
	v4, v6 := on[four+"/32"], on[six+"/128"]
	for _, x := range []netlink.Addr{v4, v6} {
		if x.Flags&unix.IFA_F_NOPREFIXROUTE == 0 || x.Flags&unix.IFA_F_DEPRECATED == 0 || x.Flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("%s: flags %#x", x.IPNet, x.Flags)
		}
	}
	if v4.Label != "eth0:sf" {
		t.Errorf("label %q", v4.Label)
	}
	client.listen("9")
	for _, to := range []string{client.IP4.String() + ":9", "[" + client.IP6.String() + "]:9"} {
		c, _, err := a.dial(to)
		if err != nil {
			t.Fatal(err)
		}
		if from := c.LocalAddr().(*net.TCPAddr).IP.String(); from == four || from == six {
			t.Errorf("a speaks to %s from %s, its floating address", to, from)
		}
	}
}

// TestTakenAlready: an address that a stranger uses is not taken as long as it does, one that a member lags with is.
func TestTakenAlready(t *testing.T) {
	for _, ip := range []string{four, six} {
		t.Run(ip, func(t *testing.T) {
			l := newLab(t, "a", "b", "stranger")
			a, b, stranger := l.hosts["a"], l.hosts["b"], l.hosts["stranger"]
			a.start(ip)
			long := ip + "/24"
			if ip == six {
				long = ip + "/64"
			}
			a.say("check "+ip, "done")
			stranger.Add(long)
			want := fmt.Sprintf("%s answers already, from MAC %s; ", ip, stranger.MAC)
			a.say("check "+ip, want)
			a.say("set 1m "+ip+"?", "done")
			l.within(3*time.Second, "the error", func() bool { return strings.HasPrefix(a.say("error", "error"), "error "+want) })
			if len(a.Addrs()) > 0 {
				t.Fatalf("a holds %v", a.Addrs())
			}
			stranger.Remove(long)
			l.within(3*time.Second, "a holds it once it is free", a.holds(ip))
			a.say("error", "error ")
			a.say("drop", "done")

			b.Add(long)
			b.listen("9")
			a.mustReach(net.JoinHostPort(map[string]string{four: b.IP4.String(), six: b.IP6.String()}[ip], "9"), "b") // so that a knows b
			a.say("quit", "ended <nil>")
			a.start(ip)
			a.say("set 1m "+ip+"?", "done")
			l.within(2*time.Second, "a takes what only a member has", a.holds(ip))
		})
	}
}

// TestLeftBehind: what a killed holder left is taken off by the next, and nothing else is.
func TestLeftBehind(t *testing.T) {
	l := newLab(t, "a")
	a := l.hosts["a"]
	a.start(four, six)
	a.say("set 1m 10.77.0.50 fd77::50", "done")
	l.within(2*time.Second, "a holds both", a.holds(four, six))
	a.proc.Process.Kill()
	a.proc.Wait()
	a.Add("10.77.0.99/24")
	if len(a.Addrs()) != 3 {
		t.Fatalf("%v", a.Addrs())
	}
	a.start("10.77.0.51", six) // the configuration has changed meanwhile: 10.77.0.50 is known by its label
	l.within(2*time.Second, "only the site's own is left", func() bool {
		on := a.Addrs()
		_, own := on["10.77.0.99/24"]
		return own && len(on) == 1
	})
}

// TestRestart: what a holder leaves to the next one stays on the interface all the time, and no longer than it may.
func TestRestart(t *testing.T) {
	l := newLab(t, "a", "client")
	a := l.hosts["a"]
	inherit := func(left string) {
		t.Helper()
		a.start(four, six)
		a.say("set 1m 10.77.0.50 fd77::50", "done")
		l.within(2*time.Second, "a holds both", a.holds(four, six))
		a.say("leave", "done")
		a.say("quit", "ended <nil>")
		if !a.holds(four, six)() {
			t.Fatalf("only %v were left", a.Addrs())
		}
		a.left = left
		a.start(four, six)
		a.left = ""
	}

	inherit("1m")
	a.say("found", "found true true")
	a.say("set 1m 10.77.0.50! fd77::50!", "done") // whose they are is not known yet
	a.say("set 1m 10.77.0.50? fd77::50!", "done") // nobody is asked about one that is here
	l.within(time.Second, "the first is taken over", func() bool { return a.say("found", "found true") == "found true false" })
	if !a.holds(four, six)() {
		t.Errorf("%v is here after one was taken over", a.Addrs())
	}
	a.say("set 1m 10.77.0.50", "done") // the other one is another host's
	l.within(time.Second, "what is not claimed goes", a.holds(four))
	a.say("set 1m 10.77.0.50! fd77::50!", "done")
	l.within(time.Second, "what was taken once is no longer found", a.holds())
	a.say("quit", "ended <nil>")

	inherit("300ms")
	a.say("set 1m 10.77.0.50 fd77::50!", "done")
	l.within(2*time.Second, "who can't tell in time lets go", a.holds(four))
	a.say("quit", "ended <nil>")

	inherit("1m")
	a.say("drop", "done")
	if !a.holds()() {
		t.Errorf("%v after a drop was confirmed", a.Addrs())
	}
	a.say("quit", "ended <nil>")

	inherit("") // the guard has fired meanwhile
	l.within(time.Second, "what nobody answers for goes", a.holds())
}

// TestEnds: the addresses go when the holder ends, and when nobody renews what it was told.
func TestEnds(t *testing.T) {
	l := newLab(t, "a")
	a := l.hosts["a"]
	a.start(four, six)
	a.say("set 300ms 10.77.0.50 fd77::50", "done")
	l.within(2*time.Second, "a holds both", a.holds(four, six))
	l.within(2*time.Second, "the claims lapse", a.holds())
	a.say("set 1m 10.77.0.50", "done")
	l.within(2*time.Second, "a holds one", a.holds(four))
	a.say("quit", "ended <nil>")
	if !a.holds()() {
		t.Errorf("left behind: %v", a.Addrs())
	}
}

// TestPutBack: an address that somebody else removes comes back, also with an interface that was down.
func TestPutBack(t *testing.T) {
	l := newLab(t, "a")
	a := l.hosts["a"]
	a.start(four, six)
	a.say("set 1m 10.77.0.50 fd77::50", "done")
	l.within(2*time.Second, "a holds both", a.holds(four, six))
	a.Remove(four + "/32")
	t.Logf("put back after %v", l.within(3*time.Second, "it is put back", a.holds(four, six)))
	l.must(a.At.LinkSetDown(a.Eth0())) // the kernel removes IPv6 addresses then
	if a.holds(four, six)() {
		t.Fatal("the kernel has kept the IPv6 address, so this test shows nothing")
	}
	l.must(a.At.LinkSetUp(a.Eth0()))
	a.Add(a.IP6.String() + "/64") // as whatever configures the host does
	l.within(3*time.Second, "it is back with the interface", a.holds(four, six))
}

// TestConflict: a holder hears that another host announces its address.
func TestConflict(t *testing.T) {
	for _, ip := range []string{four, six} {
		t.Run(ip, func(t *testing.T) {
			l := newLab(t, "a", "b")
			a, b := l.hosts["a"], l.hosts["b"]
			a.start(ip)
			b.start(ip)
			a.say("set 1m "+ip, "done")
			l.within(2*time.Second, "a holds it", a.holds(ip))
			b.say("set 1m "+ip, "done")
			a.say("conflict", fmt.Sprintf("conflict %s %s", ip, b.MAC))
		})
	}
}

// TestTickle: a client that waits for an answer learns that its connection is gone as soon as the new holder says so.
func TestTickle(t *testing.T) {
	for _, ip := range []string{four, six} {
		t.Run(ip, func(t *testing.T) {
			l := newLab(t, "a", "b", "client")
			a, b, client := l.hosts["a"], l.hosts["b"], l.hosts["client"]
			a.listen("5000")
			a.start(ip)
			b.start(ip)
			a.say("set 1m "+ip, "done")
			l.within(2*time.Second, "a holds it", a.holds(ip))
			at := net.JoinHostPort(ip, "5000")
			c := client.mustReach(at, "a")
			if got, want := a.say("flows "+ip, "flows "), fmt.Sprintf("flows [{%s %s}] <nil>", at, c.LocalAddr()); got != want {
				t.Errorf("a has %s, want %s", got, want)
			}
			a.Cable(false)
			b.say("set 1m "+ip, "done")
			l.within(2*time.Second, "the client knows b", func() bool { return client.Knows(ip) == b.MAC.String() })
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("before: %v", err)
			}
			c.SetReadDeadline(time.Now().Add(3 * time.Second))
			begun := time.Now()
			b.say("tickle "+at+" "+c.LocalAddr().String(), "done")
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("after: %v", err)
			}
			t.Logf("reset after %v", time.Since(begun))
		})
	}
}
