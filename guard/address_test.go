package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestAddresses: a standby's guard takes off what the member held, and has nothing to do with its PostgreSQL.
func TestAddresses(t *testing.T) {
	err := apart(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		held := []Address{{lo.Attrs().Index, netip.MustParsePrefix("192.0.2.50/32")}, {lo.Attrs().Index, netip.MustParsePrefix("2001:db8::50/128")}}
		for _, h := range held {
			a, err := netlink.ParseAddr(h.Prefix.String())
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(lo, a); err != nil {
				return err
			}
		}
		g, err := Start(context.Background(), Config{Name: t.Name(), Program: program})
		if err != nil {
			return err
		}
		defer func() {
			if err := errors.Join(g.Disarm(), g.Close()); err != nil {
				t.Error(err)
			}
		}()
		for range 20 {
			if err := g.Feed(200*time.Millisecond, Target{Addresses: held}); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
		if left, err := netlink.AddrList(lo, netlink.FAMILY_ALL); err != nil || len(left) != len(held) {
			t.Errorf("while it is fed: %v, %v", left, err)
		}
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			left, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			if len(left) == 0 {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("not removed: %v", left)
			}
		}
		if err := g.Feed(time.Second, Target{Addresses: held}); !errors.Is(err, ErrFired) {
			t.Errorf("fed after it has fired: %v", err)
		}
		return g.Disarm()
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace needs root")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAddressesSucceeded: an agent that ends leaves its addresses under its guard's deadline, and so does the next guard's arrival:
// it tells how much is left, and takes them off when nobody feeds it.
func TestAddressesSucceeded(t *testing.T) {
	err := apart(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		on := func() (int, error) {
			l, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
			return len(l), err
		}
		held := Address{lo.Attrs().Index, netip.MustParsePrefix("192.0.2.50/32")}
		a, err := netlink.ParseAddr(held.Prefix.String())
		if err == nil {
			err = netlink.AddrAdd(lo, a)
		}
		if err != nil {
			return err
		}
		const lease = 2 * time.Second
		first, err := Start(context.Background(), Config{Name: t.Name(), Program: program})
		if err != nil {
			return err
		}
		fed := time.Now()
		if err := errors.Join(first.Feed(lease, Target{Addresses: []Address{held}}), first.Close()); err != nil {
			return err
		}
		next, err := Start(context.Background(), Config{Name: t.Name(), Program: program})
		if err != nil {
			return err
		}
		defer func() {
			if err := errors.Join(next.Disarm(), next.Close()); err != nil {
				t.Error(err)
			}
		}()
		left, spent := next.Status().Left, time.Since(fed)
		if n, err := on(); err != nil || n != 1 && spent < lease {
			t.Errorf("%d addresses after %v, %v", n, spent, err)
		}
		if left <= 0 && spent < lease || left > lease {
			t.Errorf("%v are left %v after the last feed for %v", left, spent, lease)
		}
		for n := 1; n > 0; time.Sleep(time.Millisecond) {
			if n, err = on(); err != nil {
				return err
			}
			if time.Since(fed) > lease+5*time.Second {
				return errors.New("nobody has taken the address off")
			}
		}
		if after := time.Since(fed); after < lease {
			t.Errorf("taken off after %v of %v", after, lease)
		}
		return nil
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace needs root")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// apart runs f in a network namespace of its own, as what f starts does too, on a thread that ends with it.
func apart(f func() error) error {
	ch := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		ch <- err
	}()
	return <-ch
}
