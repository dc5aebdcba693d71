//go:build e2e

package vip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"standfast/test/wires"
)

// TestMain lets this program also be one host's holder of addresses: in the host's network namespace, as the user
// postgres, with the two capabilities that a member has.
func TestMain(m *testing.M) {
	if os.Getenv("VIP_TEST_HOST") != "" {
		os.Exit(beHost())
	}
	os.Exit(m.Run())
}

// lab is a switch whose hosts can hold addresses.
type lab struct {
	*wires.Switch
	t     *testing.T
	hosts map[string]*host
}

type host struct {
	*wires.Host
	lab  *lab
	proc *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner

	left string // what the holder before it has left of its time, for Inherit; "": nothing
}

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	l := &lab{Switch: wires.New(t, names...), t: t, hosts: map[string]*host{}}
	for name, h := range l.Hosts() {
		l.hosts[name] = &host{Host: h, lab: l}
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// start runs the holder on the host, for the addresses.
func (h *host) start(addresses ...string) {
	h.lab.t.Helper()
	h.proc = &exec.Cmd{Path: "/proc/self/exe", Args: []string{"host"}, Stderr: os.Stderr,
		Env: []string{"VIP_TEST_HOST=" + strings.Join(addresses, ","), "VIP_TEST_NAME=" + h.Name, "VIP_TEST_MEMBERS=" + h.members(), "VIP_TEST_INHERIT=" + h.left}}
	var err error
	h.in, err = h.proc.StdinPipe()
	h.lab.must(err)
	out, err := h.proc.StdoutPipe()
	h.lab.must(err)
	h.out = bufio.NewScanner(out)
	h.Start(h.proc)
	h.say("up", "")
}

// members are all hosts that are no strangers.
func (h *host) members() string {
	var out []string
	for _, m := range h.lab.hosts {
		if m.Name != "stranger" {
			out = append(out, m.IP4.String(), m.IP6.String())
		}
	}
	return strings.Join(out, ",")
}

// say gives the host an order and returns its answer, which must begin with want.
func (h *host) say(order, want string) string {
	h.lab.t.Helper()
	fmt.Fprintln(h.in, order)
	if !h.out.Scan() {
		h.lab.t.Fatalf("%s ended: %v", h.Name, h.out.Err())
	}
	if !strings.HasPrefix(h.out.Text(), want) {
		h.lab.t.Fatalf("%s: %s: %s", h.Name, order, h.out.Text())
	}
	return h.out.Text()
}

// beHost is the program on a host: it reads orders, a line each, and answers with a line each.
func beHost() int {
	var addresses []Address
	for s := range strings.SplitSeq(os.Getenv("VIP_TEST_HOST"), ",") {
		addresses = append(addresses, Address{IP: netip.MustParseAddr(s)})
	}
	var members []netip.Addr
	for s := range strings.SplitSeq(os.Getenv("VIP_TEST_MEMBERS"), ",") {
		members = append(members, netip.MustParseAddr(s))
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", os.Getenv("VIP_TEST_NAME"))
	f := New(Config{Addresses: addresses, Members: func() []netip.Addr { return members }, Log: log})
	if s := os.Getenv("VIP_TEST_INHERIT"); s != "" {
		left, err := time.ParseDuration(s)
		if err = errors.Join(err, f.Inherit(left)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if w := strings.Fields(in.Text()); w[0] == "quit" {
			cancel()
			err := <-ended
			fmt.Println("ended", errors.Join(err, goleak.Find()))
			return 0
		} else {
			fmt.Println(obey(f, w))
		}
	}
	cancel()
	<-ended
	return 0
}

func obey(f *Floating, w []string) string {
	switch w[0] {
	case "set": // for how long, then the addresses; with a question mark: after a check; with an exclamation mark: if found
		good, err := time.ParseDuration(w[1])
		if err != nil {
			return err.Error()
		}
		var claims []Claim
		for _, s := range w[2:] {
			bare, ask := strings.CutSuffix(s, "?")
			bare, found := strings.CutSuffix(bare, "!")
			claims = append(claims, Claim{IP: netip.MustParseAddr(bare), Ask: ask, Found: found})
		}
		f.Set(claims, good)
	case "leave":
		f.Leave()
	case "drop":
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := f.Drop(ctx); err != nil {
			return err.Error()
		}
	case "check":
		if err := Check(context.Background(), Address{IP: netip.MustParseAddr(w[1])}); err != nil {
			return err.Error()
		}
	case "tickle":
		if err := Tickle([]Flow{{netip.MustParseAddrPort(w[1]), netip.MustParseAddrPort(w[2])}}); err != nil {
			return err.Error()
		}
	case "flows":
		flows, err := Flows([]netip.Addr{netip.MustParseAddr(w[1])}, 10)
		return fmt.Sprint("flows ", flows, err)
	case "found":
		return fmt.Sprint("found ", f.Status()[0].Held, f.Status()[0].Found)
	case "error":
		return "error " + text(f.Status()[0].Err)
	case "conflict":
		select {
		case c := <-f.Conflicts():
			return fmt.Sprintf("conflict %s %s", c.IP, c.MAC)
		case <-time.After(3 * time.Second):
			return "none"
		}
	}
	return "done"
}
