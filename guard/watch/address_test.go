package watch

import (
	"errors"
	"net"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"standfast/guard/feed"
)

// inNamespace runs f in a network namespace of its own, on a thread that ends with it.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is thrown away
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		entered <- err
	}()
	if err := <-entered; errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace needs root")
	} else if err != nil {
		t.Fatal(err)
	}
}

func TestRemoveAddress(t *testing.T) {
	inNamespace(t, func() {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Error(err)
			return
		}
		addresses := []string{"192.0.2.10/32", "192.0.2.11/24", "2001:db8::10/128"}
		for _, s := range addresses {
			a, err := netlink.ParseAddr(s)
			if err == nil {
				err = netlink.AddrAdd(lo, a)
			}
			if err != nil {
				t.Errorf("add %s: %v", s, err)
				return
			}
		}
		for i, s := range addresses {
			ip, n, _ := net.ParseCIDR(s)
			if v4 := ip.To4(); v4 != nil {
				ip = v4
			}
			bits, _ := n.Mask.Size()
			a := feed.Address{Index: int32(lo.Attrs().Index), Bits: uint8(bits), IP: ip}
			for range 2 { // the second time it is gone already, which is as good
				if err := RemoveAddress(a); err != nil {
					t.Errorf("remove %s: %v", s, err)
				}
			}
			left, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
			if err != nil {
				t.Error(err)
			}
			var got []string
			for _, l := range left {
				got = append(got, l.IPNet.String())
			}
			if !slices.Equal(got, addresses[i+1:]) {
				t.Errorf("after removing %s: %v", s, got)
			}
		}
		if err := RemoveAddress(feed.Address{Index: 9999, Bits: 32, IP: []byte{192, 0, 2, 1}}); err == nil {
			t.Error("removing from an interface that does not exist succeeded")
		}
	})
}
