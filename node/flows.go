package node

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"standfast/beat"
	"standfast/internal/grid"
	"standfast/vip"
)

// flows are the connections that clients have to floating addresses, as far as the members tell each other. Whoever takes an
// address over from a host that has died without a word can then let its clients know at once (vip.Tickle): one that waits for
// an answer would otherwise wait until it sends something, or gives up.
type flows struct {
	held func() []netip.Addr // the addresses that are here
	list func(to []netip.Addr, most int) ([]vip.Flow, error)
	tell func(body []byte) error
	wake func([]vip.Flow) error // the clients
	log  *slog.Logger

	taken chan netip.Addr
	gone  chan netip.Addr

	mu    sync.Mutex
	known map[netip.Addr]*told // by floating address: one for each that there is
}

// told is what has been said of one address.
type told struct {
	last time.Time // when it was
	at   map[vip.Flow]naming
}

// naming is when a connection was named last.
type naming struct {
	at  time.Time
	own bool // by this member
}

const (
	flowPace  = time.Second
	mostFlows = 1000            // told of, and remembered for each address: 13 datagrams a second for IPv4
	flowTime  = 3 * time.Second // a connection that is not named for so long, while others are, has ended
)

// tickles are the times after an address has been taken at which its clients are let know. What is sent first may find a switch
// that has not learned yet, and Linux answers such a segment only twice a second.
var tickles = []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second}

func newFlows(of []vip.Address, held func() []netip.Addr, tell func([]byte) error, log *slog.Logger) *flows {
	f := &flows{held: held, list: vip.Flows, tell: tell, wake: vip.Tickle, log: log, taken: make(chan netip.Addr, 16), gone: make(chan netip.Addr, 16), known: map[netip.Addr]*told{}}
	for _, a := range of {
		f.known[a.IP] = &told{at: map[vip.Flow]naming{}}
	}
	return f
}

// took is called when an address has come to this host. It does not block.
func (f *flows) took(ip netip.Addr) {
	select {
	case f.taken <- ip:
	default: // so many at once are not taken
	}
}

// left is called when an address has gone from this host. It does not block.
func (f *flows) left(ip netip.Addr) {
	select {
	case f.gone <- ip:
	default:
	}
}

// run tells the others of the connections to the addresses that are here, and those of addresses that come here that
// they have a new holder, until ctx ends.
func (f *flows) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case ip := <-f.taken:
			wg.Go(func() { f.tickle(ctx, ip) })
		case ip := <-f.gone:
			// Those that came since the last telling: while nobody is primary the router lets new ones wait, and it can't even close
			// their connections any more, for nothing goes out from an address that is not here.
			f.share([]netip.Addr{ip})
		case <-timer.C:
			f.share(f.held())
			timer.Reset(grid.Until(time.Now(), flowPace))
		}
	}
}

// tickle lets clients know. One that was let know already has another connection, and answers that it knows no such one. What the
// last holder says as it gives the address up may come after it is here.
func (f *flows) tickle(ctx context.Context, ip netip.Addr) {
	var clients []vip.Flow
	begun := time.Now()
	for _, after := range tickles {
		select {
		case <-ctx.Done():
			return
		case <-time.After(after - time.Since(begun)):
		}
		more := f.take(ip, after == 0)
		if len(more) > 0 {
			f.log.Info("letting the clients of a floating address know that it is here now", "address", ip.String(), "connections", len(more))
		}
		if clients = append(clients, more...); len(clients) == 0 {
			continue
		}
		if err := f.wake(clients); err != nil {
			f.log.Warn("not all clients of a floating address were let know that it is here now", "address", ip.String(), "error", err)
			return
		}
	}
}

// share tells the others of the connections that are open here, and this member too: it may lose the address and get it back.
func (f *flows) share(ips []netip.Addr) {
	if len(ips) == 0 {
		return
	}
	open, err := f.list(ips, mostFlows)
	for _, body := range encodeFlows(open, beat.MaxAside) {
		f.hear("", body)
		if err == nil {
			err = f.tell(body)
		}
	}
	if err != nil {
		f.log.Debug("connections are not told of", "error", err)
	}
}

// hear takes in what a member has told.
func (f *flows) hear(from string, body []byte) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.known {
		if len(t.at) >= 2*mostFlows { // those that have ended are among them
			t.forget(now)
		}
	}
	for flow := range decodeFlows(body) {
		t := f.known[flow.Local.Addr()]
		if t == nil {
			continue // this member's file does not name the address
		}
		if t.last = now; len(t.at) < 2*mostFlows {
			t.at[flow] = naming{now, from == ""}
		}
	}
}

// forget drops connections that were not named any more when others were.
func (t *told) forget(now time.Time) {
	for flow, n := range t.at {
		if now.Sub(n.at) > flowTime {
			delete(t.at, flow)
		}
	}
}

// take returns the connections to an address as its last holder told of them, and forgets them. Own: that may have been this
// member; once it is the holder again, what it has told of is what works.
func (f *flows) take(ip netip.Addr, own bool) []vip.Flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.known[ip]
	if t == nil {
		return nil
	}
	t.forget(t.last) // the holder may have been silent for long
	out := make([]vip.Flow, 0, len(t.at))
	for flow, n := range t.at {
		if own || !n.own {
			out = append(out, flow)
			delete(t.at, flow)
		}
	}
	return out
}
