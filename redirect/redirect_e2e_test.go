//go:build e2e

package redirect

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// pair is a server and a client, joined by a cable, in network namespaces without a name.
type pair struct {
	t              *testing.T
	server, client netns.NsHandle
}

// The server's own addresses and the floating ones.
const (
	own4, float4 = "10.78.0.1", "10.78.0.50"
	own6, float6 = "fd78::1", "fd78::50"
)

func newPair(t *testing.T) *pair {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	p := &pair{t: t, server: namespace(t), client: namespace(t)}
	p.in(p.server, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(p.client)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return up(own4+"/24", float4+"/32", own6+"/64", float6+"/128")
	})
	p.in(p.client, func() error { return up("10.78.0.2/24", "fd78::2/64") })
	return p
}

func namespace(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	err := apart(func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = netns.Get()
		}
		return err
	})
	if err != nil {
		t.Skipf("no network namespace can be made here: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// apart runs f on a thread that ends with it.
func apart(f func() error) error {
	ch := make(chan error)
	go func() {
		runtime.LockOSThread()
		ch <- f()
	}()
	return <-ch
}

func (p *pair) in(ns netns.NsHandle, f func() error) {
	p.t.Helper()
	err := apart(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func up(addresses ...string) error {
	for _, name := range []string{"lo", "eth0"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		for _, s := range addresses {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if name == "eth0" {
				if err := netlink.AddrAdd(l, a); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// serve accepts connections at the address; each says who it is and then repeats what it hears.
func (p *pair) serve(at, name string) {
	p.t.Helper()
	p.in(p.server, func() error {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		p.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				p.t.Cleanup(func() { c.Close() })
				go func() {
					fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr().(*net.TCPAddr).IP)
					io.Copy(c, c)
				}()
			}
		}()
		return nil
	})
}

// dial connects from the namespace and returns the connection and the other end's words.
func (p *pair) dial(from netns.NsHandle, to string) (c net.Conn, said string, err error) {
	p.in(from, func() error {
		c, err = net.DialTimeout("tcp", to, 10*time.Second)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	p.t.Cleanup(func() { c.Close() })
	said, err = hear(c)
	return c, said, err
}

func hear(c net.Conn) (string, error) {
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 64)
	n, err := c.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

func (p *pair) mustHear(from netns.NsHandle, to, want string) net.Conn {
	p.t.Helper()
	c, said, err := p.dial(from, to)
	if err != nil || said != want {
		p.t.Fatalf("%s: %q, %v; want %q", to, said, err, want)
	}
	return c
}

func mustEcho(t *testing.T, what string, c net.Conn) {
	t.Helper()
	fmt.Fprintln(c, what)
	if said, err := hear(c); err != nil || said != what {
		t.Fatalf("%s: %q, %v", what, said, err)
	}
}

// TestRedirect: new connections of others go to PostgreSQL while the rule is set, to the router otherwise; what exists goes
// on either way.
func TestRedirect(t *testing.T) {
	for family, a := range map[string]struct{ own, float, client string }{
		"IPv4": {own4, float4, "10.78.0.2"}, "IPv6": {own6, float6, "fd78::2"},
	} {
		t.Run(family, func(t *testing.T) {
			p := newPair(t)
			address, server := net.JoinHostPort(a.float, "5000"), net.JoinHostPort(a.own, "5432")
			p.serve(address, "router")
			p.serve(server, "postgres")
			var tab Table
			rules := []Rule{{netip.MustParseAddrPort(address), netip.MustParseAddrPort(server)}}

			before := p.mustHear(p.client, address, "router "+a.client)
			p.in(p.server, func() error { return tab.Set(rules) })
			fast := p.mustHear(p.client, address, "postgres "+a.client)
			p.mustHear(p.server, address, "router "+a.float) // this host's own go through the router
			mustEcho(t, "a session of before", before)
			mustEcho(t, "a session of the fast path", fast)
			p.in(p.server, tab.Check)

			p.in(p.server, func() error { return tab.Set(nil) })
			p.mustHear(p.client, address, "router "+a.client)
			mustEcho(t, "a session of before, after all", before)
			mustEcho(t, "a session of the fast path, after it", fast)

			p.in(p.server, func() error { return errors.Join(tab.Set(rules), new(Table).Clean()) }) // as after a crash
			p.mustHear(p.client, address, "router "+a.client)
			p.in(p.server, func() error {
				c, err := nftables.New()
				if err != nil {
					return err
				}
				tables, err := c.ListTables()
				if len(tables) > 0 {
					t.Errorf("left behind: %d tables, the first is %s", len(tables), tables[0].Name)
				}
				return err
			})
		})
	}
}

// TestFirewall: where the site's rules drop what is redirected, the rule is taken out again and the client that is trying
// gets through to the router.
func TestFirewall(t *testing.T) {
	p := newPair(t)
	address, server := float4+":5000", own4+":5432"
	p.serve(address, "router")
	p.serve(server, "postgres")
	p.in(p.server, func() error { return forbid(netip.MustParseAddrPort(server)) })
	var tab Table
	rules := []Rule{{netip.MustParseAddrPort(address), netip.MustParseAddrPort(server)}}
	p.in(p.server, func() error { return tab.Set(rules) })
	p.in(p.server, tab.Check) // nobody has tried: nothing is known

	said := make(chan string, 1)
	go func() {
		_, s, err := p.dial(p.client, address)
		said <- fmt.Sprint(s, err)
	}()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var err error
		p.in(p.server, func() error { err = tab.Check(); return nil })
		if errors.Is(err, ErrBlocked) && strings.Contains(err.Error(), "allow port 5432") {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the loss is not noticed: %v", err)
		}
	}
	if got := <-said; got != "router 10.78.0.2<nil>" {
		t.Fatalf("the client that was trying: %s", got)
	}
	p.in(p.server, func() error {
		if err := tab.Set(rules); !errors.Is(err, ErrBlocked) {
			t.Errorf("set again: %v", err)
		}
		return nil
	})
	p.mustHear(p.client, address, "router 10.78.0.2")
}

// forbid drops connections to the address, as a site's firewall does.
func forbid(a netip.AddrPort) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	site := c.AddTable(&nftables.Table{Name: "site", Family: nftables.TableFamilyINet})
	in := c.AddChain(&nftables.Chain{Name: "input", Table: site, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: site, Chain: in, Exprs: append(opens(a), &expr.Verdict{Kind: expr.VerdictDrop})})
	return c.Flush()
}
