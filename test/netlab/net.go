package netlab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// netns is the name of a network namespace.
type netns string

func (n netns) path() string { return "/run/netns/" + string(n) }

func (n netns) add(ctx context.Context) error { return within(ctx, "ip", "netns", "add", string(n)) }

func (n netns) remove(ctx context.Context) error {
	if _, err := os.Stat(n.path()); err != nil {
		return nil
	}
	return within(ctx, "ip", "netns", "del", string(n))
}

// ip runs one command of ip(8) in the namespace.
func (n netns) ip(ctx context.Context, command string) error {
	return within(ctx, "ip", append([]string{"-n", string(n)}, strings.Fields(command)...)...)
}

// do calls f in the namespace. Sockets stay in the namespace that they were made in, so f may return them. It must not start
// goroutines that make more.
func (n netns) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine and nobody else gets into the namespace
		done <- n.enter(f)
	}()
	return <-done
}

func (n netns) enter(f func() error) error {
	ns, err := os.Open(n.path())
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace %s: %w", n, err)
	}
	return f()
}

// bridge is the switch's name in its namespace.
const bridge = "sw0"

// rules drop what the test wants dropped, by the switch's ports: broadcasts included, whatever addresses frames bear.
const rules = `table bridge lab {
	set cut { type ifname . ifname; }
	set silent { type ifname; }
	chain forward {
		type filter hook forward priority 0;
		iifname @silent drop
		oifname @silent drop
		iifname . oifname @cut drop
		jump loss
	}
	chain loss { }
}
`

// layCables makes the switch and the client. Each host's own cable is made when it gets power.
func (l *Lab) layCables(ctx context.Context) error {
	l.sw, l.client = netns(l.name+"-sw"), netns(l.name+"-client")
	if err := errors.Join(l.sw.add(ctx), l.client.add(ctx)); err != nil {
		return err
	}
	for _, command := range []string{"link add " + bridge + " type bridge forward_delay 0 mcast_snooping 0", "link set " + bridge + " up"} {
		if err := l.sw.ip(ctx, command); err != nil {
			return err
		}
	}
	if err := l.nft(ctx, rules); err != nil {
		return fmt.Errorf("the switch's filter: %w", err)
	}
	return l.cable(ctx, "client", l.client, 100)
}

func (l *Lab) nft(ctx context.Context, commands string) error {
	return feed(ctx, commands, "ip", "netns", "exec", string(l.sw), "nft", "-f", "-")
}

// port is the switch's end of a cable.
func port(name string) string { return "s-" + name }

// cable connects a namespace to the switch.
func (l *Lab) cable(ctx context.Context, name string, ns netns, number int) error {
	commands := []struct {
		ns      netns
		command string
	}{
		{l.sw, fmt.Sprintf("link add %s type veth peer name %s address 02:00:00:00:00:%02x netns %s", port(name), Interface, number, ns)},
		{ns, "link set lo up"},
		{ns, fmt.Sprintf("addr add %s/%d dev %s", addr4(number), Net4.Bits(), Interface)},
		{ns, fmt.Sprintf("addr add %s/%d dev %s nodad", addr6(number), Net6.Bits(), Interface)},
		{ns, "link set " + Interface + " up"},
		{l.sw, fmt.Sprintf("link set %s master %s up", port(name), bridge)},
	}
	for _, c := range commands {
		if err := c.ns.ip(ctx, c.command); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) netns() netns { return netns(h.lab.name + "-" + h.Name) }

// plug gives a host a fresh network namespace, for nothing of the one before survives a loss of power, and a cable.
func (l *Lab) plug(ctx context.Context, h *Host) error {
	if err := h.netns().remove(ctx); err != nil {
		return err
	}
	if err := h.netns().add(ctx); err != nil {
		return err
	}
	return l.cable(ctx, h.Name, h.netns(), 10+h.Number)
}

// unplug removes the cable, and what was said about it.
func (l *Lab) unplug(ctx context.Context, h *Host) error {
	return errors.Join(l.Delay(h, 0, 0), l.sw.ip(ctx, "link del "+port(h.Name)), l.silence(ctx, h, false))
}

// Cut pulls a host's cable: the card sees that the carrier is gone. Mend plugs it in again.
func (l *Lab) Cut(ctx context.Context, h *Host) error {
	return l.sw.ip(ctx, "link set "+port(h.Name)+" down")
}

// Mend plugs a cut cable in again.
func (l *Lab) Mend(ctx context.Context, h *Host) error {
	return l.sw.ip(ctx, "link set "+port(h.Name)+" up")
}

// silence has the switch drop everything from and to a host; the carrier stays.
func (l *Lab) silence(ctx context.Context, h *Host, on bool) error {
	// Adding twice is no error of nft's, destroying what is not there would be; so it is added first.
	commands := fmt.Sprintf("add element bridge lab silent { %q }\n", port(h.Name))
	if !on {
		commands += fmt.Sprintf("delete element bridge lab silent { %q }\n", port(h.Name))
	}
	return l.nft(ctx, commands)
}

// CutOneWay has the switch drop what from sends to to, and nothing else.
func (l *Lab) CutOneWay(ctx context.Context, from, to *Host) error {
	return l.nft(ctx, fmt.Sprintf("add element bridge lab cut { %q . %q }\n", port(from.Name), port(to.Name)))
}

// CutPair has the switch drop what two hosts send each other, and nothing else.
func (l *Lab) CutPair(ctx context.Context, a, b *Host) error {
	return errors.Join(l.CutOneWay(ctx, a, b), l.CutOneWay(ctx, b, a))
}

// Loss has the switch drop frames from and to a host at random; the share lies between 0 and 1.
func (l *Lab) Loss(ctx context.Context, h *Host, share float64) error {
	random := fmt.Sprintf("numgen random mod 10000 < %d drop", int(share*10000))
	return l.nft(ctx, fmt.Sprintf("add rule bridge lab loss iifname %q %s\nadd rule bridge lab loss oifname %q %s\n",
		port(h.Name), random, port(h.Name), random))
}

// Heal ends every cut, one-way cut, loss and delay. Paused hosts stay paused.
func (l *Lab) Heal(ctx context.Context) error {
	err := l.nft(ctx, "flush set bridge lab cut\nflush chain bridge lab loss\n")
	for _, h := range l.Hosts {
		err = errors.Join(err, l.Delay(h, 0, 0))
		if h.Up() {
			err = errors.Join(err, l.Mend(ctx, h))
		}
	}
	return err
}

// Address is the IPv4 address of host number i, from 1.
func Address(i int) netip.Addr { return addr4(10 + i) }

func addr4(number int) netip.Addr {
	a := Net4.Addr().As4()
	a[3] = byte(number)
	return netip.AddrFrom4(a)
}

func addr6(number int) netip.Addr {
	a := Net6.Addr().As16()
	a[15] = byte(number)
	return netip.AddrFrom16(a)
}
