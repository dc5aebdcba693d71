package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// listen opens a port; what it says when it can't names the remedy.
func listen(ctx context.Context, what, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets don't inherit the listener's options, and cost more
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address) // it was good enough to be tried
		return nil, fmt.Errorf("listen for %s on %s: the port is taken; see who has it with \"ss -ltnp sport = :%s\", or choose another: %w", what, address, port, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen for %s on %s: this host does not have that address; see \"ip -br address\": %w", what, address, err)
	case err != nil:
		return nil, fmt.Errorf("listen for %s on %s: %w", what, address, err)
	}
	return l, nil
}

// gate bounds the connections that are open at once, in all and from each remote host, so that one client that never
// finishes, or opens thousands, leaves room for the balancers.
type gate struct {
	all, each int

	mu     sync.Mutex
	open   int
	remote map[netip.Addr]int
}

func newGate(all, each int) *gate { return &gate{all: all, each: each, remote: map[netip.Addr]int{}} }

// enter takes a place for the remote host, if there is one.
func (g *gate) enter(host netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.all || g.remote[host] >= g.each {
		return false
	}
	g.open++
	g.remote[host]++
	return true
}

// leave gives the place back.
func (g *gate) leave(host netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.remote[host]--; g.remote[host] == 0 {
		delete(g.remote, host)
	}
}

// gated is a listener whose connections pass a gate; one that finds no place is closed at once.
type gated struct {
	net.Listener
	gate    *gate
	refused func()
}

func (l gated) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(c.RemoteAddr())
		if l.gate.enter(host) {
			return &gatedConn{Conn: c, leave: sync.OnceFunc(func() { l.gate.leave(host) })}, nil
		}
		l.refused()
		_ = c.Close() // it has not been used
	}
}

func hostOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

type gatedConn struct {
	net.Conn
	leave func()
}

func (c *gatedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
