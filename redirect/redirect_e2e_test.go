//go:build e2e

package redirect

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"standfast/test/wires"
)

// pair is a server and a client.
type pair struct {
	t              *testing.T
	server, client *wires.Host
}

// The server's own addresses and the floating ones.
const (
	own4, float4 = "10.77.0.1", "10.77.0.50"
	own6, float6 = "fd77::1", "fd77::50"
)

func newPair(t *testing.T) *pair {
	t.Helper()
	s := wires.New(t, "server", "client")
	p := &pair{t: t, server: s.Host("server"), client: s.Host("client")}
	p.server.Add(float4 + "/32")
	p.server.Add(float6 + "/128")
	return p
}

func (p *pair) in(h *wires.Host, f func() error) {
	p.t.Helper()
	if err := h.In(f); err != nil {
		p.t.Fatal(err)
	}
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
func (p *pair) dial(from *wires.Host, to string) (c net.Conn, said string, err error) {
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

func (p *pair) mustHear(from *wires.Host, to, want string) net.Conn {
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
		"IPv4": {own4, float4, "10.77.0.2"}, "IPv6": {own6, float6, "fd77::2"},
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
	if got := <-said; got != "router 10.77.0.2<nil>" {
		t.Fatalf("the client that was trying: %s", got)
	}
	p.in(p.server, func() error {
		if err := tab.Set(rules); !errors.Is(err, ErrBlocked) {
			t.Errorf("set again: %v", err)
		}
		return nil
	})
	p.mustHear(p.client, address, "router 10.77.0.2")
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
