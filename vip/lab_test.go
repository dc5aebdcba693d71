//go:build e2e

package vip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain lets this program also be one host's holder of addresses: in the host's network namespace, as the user
// postgres, with the two capabilities that a member has.
func TestMain(m *testing.M) {
	if os.Getenv("VIP_TEST_HOST") != "" {
		os.Exit(beHost())
	}
	os.Exit(m.Run())
}

// lab is a switch with hosts on it, each in a network namespace of its own. Nothing of it has a name on this machine, so
// it goes with the process whatever happens.
type lab struct {
	t     *testing.T
	wires netns.NsHandle
	at    *netlink.Handle // in wires
	hosts map[string]*host
}

type host struct {
	lab  *lab
	name string
	ns   netns.NsHandle
	at   *netlink.Handle
	mac  net.HardwareAddr
	ip4  netip.Addr
	ip6  netip.Addr
	proc *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l := &lab{t: t, hosts: map[string]*host{}}
	l.wires, l.at = l.namespace()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	l.must(l.at.LinkAdd(bridge))
	l.must(l.at.LinkSetUp(bridge))
	for i, n := range names {
		l.hosts[n] = l.plug(n, i+1, bridge)
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// namespace makes one and returns how to reach it.
func (l *lab) namespace() (netns.NsHandle, *netlink.Handle) {
	l.t.Helper()
	type made struct {
		ns  netns.NsHandle
		err error
	}
	ch := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ch <- made{err: err}
			return
		}
		ns, err := netns.Get()
		ch <- made{ns, err}
	}()
	m := <-ch
	if m.err != nil {
		l.t.Skipf("no network namespace can be made here: %v", m.err)
	}
	h, err := netlink.NewHandleAt(m.ns)
	l.must(err)
	l.t.Cleanup(func() {
		h.Close()
		m.ns.Close()
	})
	return m.ns, h
}

// in runs f on a thread in the namespace.
func in(ns netns.NsHandle, f func() error) error {
	ch := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(ns)
		if err == nil {
			err = f()
		}
		ch <- err
	}()
	return <-ch
}

// plug makes the host and its cable to the switch.
func (l *lab) plug(name string, n int, bridge netlink.Link) *host {
	l.t.Helper()
	h := &host{lab: l, name: name}
	h.ns, h.at = l.namespace()
	h.ip4, h.ip6 = netip.AddrFrom4([4]byte{10, 77, 0, byte(n)}), netip.MustParseAddr(fmt.Sprintf("fd77::%d", n))
	l.must(in(h.ns, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644)
	}))
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "to-" + name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.ns)}
	l.must(l.at.LinkAdd(veth))
	l.must(l.at.LinkSetMaster(veth, bridge))
	l.must(l.at.LinkSetUp(veth))
	lo, err := h.at.LinkByName("lo")
	l.must(err)
	l.must(h.at.LinkSetUp(lo))
	eth0 := h.eth0()
	for _, a := range []string{h.ip4.String() + "/24", h.ip6.String() + "/64"} {
		h.addAddr(a)
	}
	l.must(h.at.LinkSetUp(eth0))
	h.mac = eth0.Attrs().HardwareAddr
	return h
}

func (h *host) eth0() netlink.Link {
	h.lab.t.Helper()
	l, err := h.at.LinkByName("eth0")
	h.lab.must(err)
	return l
}

func (h *host) addAddr(s string) {
	h.lab.t.Helper()
	a, err := netlink.ParseAddr(s)
	h.lab.must(err)
	a.Flags |= unix.IFA_F_NODAD
	h.lab.must(h.at.AddrAdd(h.eth0(), a))
}

func (h *host) delAddr(s string) {
	h.lab.t.Helper()
	a, err := netlink.ParseAddr(s)
	h.lab.must(err)
	h.lab.must(h.at.AddrDel(h.eth0(), a))
}

// addrs are the addresses on eth0 but the host's own and link-local ones.
func (h *host) addrs() map[string]netlink.Addr {
	h.lab.t.Helper()
	all, err := h.at.AddrList(h.eth0(), netlink.FAMILY_ALL)
	h.lab.must(err)
	out := map[string]netlink.Addr{}
	for _, a := range all {
		if p, _ := prefixOf(a.IPNet); p.Addr() != h.ip4 && p.Addr() != h.ip6 && !p.Addr().IsLinkLocalUnicast() {
			out[p.String()] = a
		}
	}
	return out
}

// cable connects the host, or cuts it off without its noticing more than a host does whose switch has failed.
func (h *host) cable(on bool) {
	h.lab.t.Helper()
	port, err := h.lab.at.LinkByName("to-" + h.name)
	h.lab.must(err)
	if on {
		err = h.lab.at.LinkSetMaster(port, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	} else {
		err = h.lab.at.LinkSetNoMaster(port)
	}
	h.lab.must(err)
}

// knows is the hardware address that the host's kernel has for ip, "" if none.
func (h *host) knows(ip string) string {
	h.lab.t.Helper()
	ns, err := h.at.NeighList(h.eth0().Attrs().Index, netlink.FAMILY_ALL)
	h.lab.must(err)
	for _, n := range ns {
		if n.IP.String() == ip {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// start runs the holder on the host, for the addresses.
func (h *host) start(addresses ...string) {
	h.lab.t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		h.lab.t.Skipf("no user postgres to run as: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	h.proc = &exec.Cmd{Path: "/proc/self/exe", Args: []string{"host"}, Stderr: os.Stderr,
		Env: []string{"VIP_TEST_HOST=" + strings.Join(addresses, ","), "VIP_TEST_NAME=" + h.name, "VIP_TEST_MEMBERS=" + h.members()},
		SysProcAttr: &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGKILL,
			AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
		}}
	h.in, err = h.proc.StdinPipe()
	h.lab.must(err)
	out, err := h.proc.StdoutPipe()
	h.lab.must(err)
	h.out = bufio.NewScanner(out)
	started, kept := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the child is begun from this thread's namespace, and lives as long as the thread
		err := netns.Set(h.ns)
		if err == nil {
			err = h.proc.Start()
		}
		started <- err
		<-kept
	}()
	h.lab.must(<-started)
	h.lab.t.Cleanup(func() {
		h.proc.Process.Kill()
		h.proc.Wait()
		close(kept)
	})
	h.say("up", "")
}

// members are all hosts that are no strangers.
func (h *host) members() string {
	var out []string
	for _, m := range h.lab.hosts {
		if m.name != "stranger" {
			out = append(out, m.ip4.String(), m.ip6.String())
		}
	}
	return strings.Join(out, ",")
}

// say gives the host an order and returns its answer, which must begin with want.
func (h *host) say(order, want string) string {
	h.lab.t.Helper()
	fmt.Fprintln(h.in, order)
	if !h.out.Scan() {
		h.lab.t.Fatalf("%s ended: %v", h.name, h.out.Err())
	}
	if !strings.HasPrefix(h.out.Text(), want) {
		h.lab.t.Fatalf("%s: %s: %s", h.name, order, h.out.Text())
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
	case "set": // for how long, then the addresses; with a question mark: after a check
		good, err := time.ParseDuration(w[1])
		if err != nil {
			return err.Error()
		}
		var claims []Claim
		for _, s := range w[2:] {
			bare, ask := strings.CutSuffix(s, "?")
			claims = append(claims, Claim{netip.MustParseAddr(bare), ask})
		}
		f.Set(claims, good)
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
