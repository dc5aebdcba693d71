//go:build e2e

package wires

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Switch is a bridge in a namespace with no way out.
type Switch struct {
	t     testing.TB
	at    *netlink.Handle
	hosts map[string]*Host
}

// Host is a namespace with one interface, eth0, and addresses in 10.77.0.0/24 and fd77::/64.
type Host struct {
	Name string
	IP4  netip.Addr
	IP6  netip.Addr
	MAC  net.HardwareAddr
	At   *netlink.Handle // changes the host's interfaces and addresses

	sw *Switch
	ns netns.NsHandle
}

// New makes a switch with hosts, numbered from 1 in their order. The test is skipped, and says why, where that can't be
// done.
func New(t testing.TB, names ...string) *Switch {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	s := &Switch{t: t, hosts: map[string]*Host{}}
	_, s.at = s.namespace()
	s.must(s.at.LinkAdd(bridge()))
	s.must(s.at.LinkSetUp(bridge()))
	for i, n := range names {
		s.hosts[n] = s.plug(n, i+1)
	}
	return s
}

// Host returns the host of that name.
func (s *Switch) Host(name string) *Host { return s.hosts[name] }

// Hosts are all of them.
func (s *Switch) Hosts() map[string]*Host { return s.hosts }

func bridge() *netlink.Bridge { return &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}} }

func (s *Switch) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// namespace makes one and returns how to reach it.
func (s *Switch) namespace() (netns.NsHandle, *netlink.Handle) {
	s.t.Helper()
	var ns netns.NsHandle
	err := apart(func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = netns.Get()
		}
		return err
	})
	if err != nil {
		s.t.Skipf("no network namespace can be made here: %v", err)
	}
	h, err := netlink.NewHandleAt(ns)
	s.must(err)
	s.t.Cleanup(func() {
		h.Close()
		ns.Close()
	})
	return ns, h
}

// apart runs f on a thread that ends with it.
func apart(f func() error) error {
	ch := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		ch <- f()
	}()
	return <-ch
}

// plug makes a host and its cable to the switch.
func (s *Switch) plug(name string, n int) *Host {
	s.t.Helper()
	h := &Host{Name: name, sw: s, IP4: netip.AddrFrom4([4]byte{10, 77, 0, byte(n)}), IP6: netip.MustParseAddr(fmt.Sprintf("fd77::%d", n))}
	h.ns, h.At = s.namespace()
	s.must(h.In(func() error { // no second of duplicate address detection
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644)
	}))
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "to-" + name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.ns)}
	s.must(s.at.LinkAdd(veth))
	s.must(s.at.LinkSetMaster(veth, bridge()))
	s.must(s.at.LinkSetUp(veth))
	lo, err := h.At.LinkByName("lo")
	s.must(err)
	s.must(h.At.LinkSetUp(lo))
	h.Add(h.IP4.String() + "/24")
	h.Add(h.IP6.String() + "/64")
	s.must(h.At.LinkSetUp(h.Eth0()))
	h.MAC = h.Eth0().Attrs().HardwareAddr
	return h
}

// In runs f on a thread in the host's namespace. Sockets that f opens stay there.
func (h *Host) In(f func() error) error {
	return apart(func() error {
		if err := netns.Set(h.ns); err != nil {
			return err
		}
		return f()
	})
}

// Eth0 is the host's interface as it is now.
func (h *Host) Eth0() netlink.Link {
	h.sw.t.Helper()
	l, err := h.At.LinkByName("eth0")
	h.sw.must(err)
	return l
}

// Add puts an address with its prefix length onto eth0.
func (h *Host) Add(prefix string) { h.sw.t.Helper(); h.change(h.At.AddrAdd, prefix) }

// Remove takes one off.
func (h *Host) Remove(prefix string) { h.sw.t.Helper(); h.change(h.At.AddrDel, prefix) }

func (h *Host) change(how func(netlink.Link, *netlink.Addr) error, prefix string) {
	h.sw.t.Helper()
	a, err := netlink.ParseAddr(prefix)
	h.sw.must(err)
	a.Flags |= unix.IFA_F_NODAD
	h.sw.must(how(h.Eth0(), a))
}

// Addrs are the addresses on eth0, by prefix, but the host's own and link-local ones.
func (h *Host) Addrs() map[string]netlink.Addr {
	h.sw.t.Helper()
	all, err := h.At.AddrList(h.Eth0(), netlink.FAMILY_ALL)
	h.sw.must(err)
	out := map[string]netlink.Addr{}
	for _, a := range all {
		ip, _ := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ip != h.IP4 && ip != h.IP6 && !ip.IsLinkLocalUnicast() {
			out[a.IPNet.String()] = a
		}
	}
	return out
}

// Cable connects the host, or cuts it off without its noticing, as when a switch fails.
func (h *Host) Cable(on bool) {
	h.sw.t.Helper()
	port, err := h.sw.at.LinkByName("to-" + h.Name)
	h.sw.must(err)
	if on {
		err = h.sw.at.LinkSetMaster(port, bridge())
	} else {
		err = h.sw.at.LinkSetNoMaster(port)
	}
	h.sw.must(err)
}

// Knows is the hardware address that the host's kernel has for ip, "" if none.
func (h *Host) Knows(ip string) string {
	h.sw.t.Helper()
	ns, err := h.At.NeighList(h.Eth0().Attrs().Index, netlink.FAMILY_ALL)
	h.sw.must(err)
	for _, n := range ns {
		if n.IP.String() == ip {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// Start starts the command on the host as a member's service runs: as the user postgres, with CAP_NET_ADMIN and CAP_NET_RAW
// and nothing else. It is killed when the test ends.
func (h *Host) Start(cmd *exec.Cmd) {
	t := h.sw.t
	t.Helper()
	cred := Postgres(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGKILL,
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}}
	started, over := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the child begins in this thread's namespace, and Pdeathsig means this thread
		err := netns.Set(h.ns)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		<-over
	}()
	h.sw.must(<-started)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
		close(over)
	})
}

// Postgres is the user postgres.
func Postgres(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skipf("no user postgres to run as: %v", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatalf("the user postgres is %s, its group %s", u.Uid, u.Gid)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
