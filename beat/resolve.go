package beat

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	resolveAgain = 30 * time.Second // a name's address may change
	resolveRetry = time.Second      // after a failure
	resolveLimit = 5 * time.Second  // for one question
)

// resolver turns host:port into addresses without ever making the sender wait: names are asked for in a goroutine of
// their own, and an answer stays in use while a later question fails.
type resolver struct {
	log   *slog.Logger
	local netip.Addr // bound to; says which family of addresses can be sent to
	wake  chan struct{}

	mu    sync.Mutex
	names map[string]*resolved
}

type resolved struct {
	addr   netip.AddrPort // invalid: none yet
	next   time.Time      // when to ask again
	wanted time.Time      // when last looked up; unused names are dropped
	failed bool
}

func newResolver(log *slog.Logger, local net.Addr) *resolver {
	bound, _ := netip.ParseAddrPort(local.String()) // invalid: any family
	return &resolver{log: log, local: bound.Addr().Unmap(), wake: make(chan struct{}, 1), names: make(map[string]*resolved)}
}

// lookup returns the address of host:port if it is one already or is known.
func (r *resolver) lookup(hostport string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddrPort(hostport); err == nil {
		return a, true
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[hostport]
	if n == nil {
		n = &resolved{}
		r.names[hostport] = n
	}
	n.wanted = now
	if !now.Before(n.next) {
		signal(r.wake)
	}
	return n.addr, n.addr.IsValid()
}

// run asks for the names that are due, whenever a lookup finds one.
func (r *resolver) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for _, name := range r.due(time.Now()) {
			r.ask(ctx, name)
		}
	}
}

func (r *resolver) due(now time.Time) (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, n := range r.names {
		switch {
		case now.Sub(n.wanted) > 2*resolveAgain:
			delete(r.names, name)
		case !now.Before(n.next):
			names = append(names, name)
		}
	}
	return names
}

func (r *resolver) ask(ctx context.Context, hostport string) {
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	addr, err := resolve(ctx, hostport, r.local)
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[hostport]
	if n == nil {
		return
	}
	if err != nil {
		n.next = time.Now().Add(resolveRetry)
		if !n.failed {
			r.log.Warn("beat cannot resolve a peer's name", "name", hostport, "err", err)
		}
		n.failed = true
		return
	}
	n.addr, n.next, n.failed = addr, time.Now().Add(resolveAgain), false
}

// resolve returns the first address of host:port that can be reached from a socket bound to local.
func resolve(ctx context.Context, hostport string, local netip.Addr) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); !local.IsValid() || local == netip.IPv6Unspecified() || ip.Is4() == local.Is4() {
			return netip.AddrPortFrom(ip, uint16(port)), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%s has only addresses that cannot be reached from %s", host, local)
}
