package router

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"standfast/cluster"
)

// Router carries sessions from its listeners to the servers of the present route. All methods may be called from any
// goroutine.
type Router struct {
	cfg       Config
	table     *table
	loops     []*loop
	listeners []*listener
	keys      keyring

	ctx      context.Context // ended: what runs beside the loops must end
	stop     context.CancelFunc
	aside    sync.WaitGroup // goroutines beside the loops
	asideMu  sync.Mutex     // orders aside.Add before aside.Wait
	stopping atomic.Bool

	cancelLog pacer

	told   chan *stay    // sessions that have ended, to be logged
	untold atomic.Uint64 // of them those that were too many

	open       atomic.Int64 // clients, of whatever phase
	asides     atomic.Int64 // of them those beside the loops
	accepted   [sides]atomic.Uint64
	refused    [sides]atomic.Uint64
	overLimit  atomic.Uint64
	junk       atomic.Uint64
	cuts       [sides]atomic.Uint64
	cancels    atomic.Uint64
	dialErrors atomic.Uint64

	withheld    atomic.Uint64
	cancelsLost atomic.Uint64
}

// New binds the listeners. Connections are taken from then on and served by Run, which also closes them; one that
// is never run has to be closed. Until the first SetRoute new connections wait.
//
// A port that is taken gives an error that wraps unix.EADDRINUSE and names it.
func New(cfg Config) (*Router, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Router{cfg: cfg, keys: keyring{at: map[cancelKey]home{}}, told: make(chan *stay, toldAhead)}
	r.table = newTable(&r.cfg)
	r.table.lookup = r.lookup
	r.ctx, r.stop = context.WithCancel(context.Background())
	if err := r.bind(); err != nil {
		r.closeFiles()
		r.stop()
		return nil, err
	}
	return r, nil
}

func (r *Router) bind() error {
	for side, addrs := range [][]string{WriteSide: r.cfg.Write, ReadSide: r.cfg.Read} {
		for _, addr := range addrs {
			ln, err := listen(addr, Side(side))
			if err != nil {
				return err
			}
			r.listeners = append(r.listeners, ln)
			if !here(ln.addr) {
				r.cfg.Log.Info("router: listening on an address that this host does not hold now, a floating one?", "addr", ln.addr.String(), "side", ln.side.String())
			}
		}
	}
	for id := range r.cfg.Workers {
		l, err := newLoop(r, id)
		if err != nil {
			return err
		}
		r.loops = append(r.loops, l)
	}
	return nil
}

func (r *Router) closeFiles() {
	for _, ln := range r.listeners {
		unix.Close(int(ln.fd))
	}
	for _, l := range r.loops {
		l.close()
	}
}

// Run serves until ctx ends, then cuts every session, waits for all that it has started and closes the listeners. It
// returns nil. A router runs once.
//
// While it serves, Go's scheduler has as many processors more (GOMAXPROCS) as there are loops, for each keeps one while it is busy,
// though it sleeps in the kernel most of the time (loop.wait). What became runnable behind a busy loop would otherwise be found only
// when the runtime takes the processor back, after 10 ms or several times that.
func (r *Router) Run(ctx context.Context) error {
	processors(len(r.loops))
	defer processors(-len(r.loops))
	r.beside(func() { r.tellStays(r.ctx) })
	var g errgroup.Group
	for _, l := range r.loops {
		g.Go(func() error { l.run(); return nil })
	}
	<-ctx.Done()
	r.stopping.Store(true)
	r.ring()
	err := g.Wait()
	r.stop()
	r.asideMu.Lock() // whoever comes later sees that r.ctx has ended
	r.asideMu.Unlock()
	r.aside.Wait()
	r.closeFiles()
	return err
}

var processorsMu sync.Mutex // there may be several routers in a test

func processors(more int) {
	processorsMu.Lock()
	defer processorsMu.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + more)
}

// Close gives back what a router that is never run has opened; Run does it by itself.
func (r *Router) Close() {
	r.stop()
	r.closeFiles()
}

// Addrs returns the addresses that the side listens on, with the ports that were chosen where 0 was asked for.
func (r *Router) Addrs(side Side) []net.Addr {
	var out []net.Addr
	for _, ln := range r.listeners {
		if ln.side == side {
			out = append(out, ln.addr)
		}
	}
	return out
}

// SetRoute makes the router send clients by route; addrs gives each member's PostgreSQL as host:port. It never blocks.
// After it has returned nothing is read any more, on either side, of a session that the route does not keep (what a loop had
// read by then still passes: one buffer at most). Those sessions are cut, connections that wait are served, and
// connections that their server has not answered get another.
//
// Write sessions are kept while their server is Route.Write; while none is named but one is being chosen (Hold), those of
// the same term's primary go on until the term rises. Hold beside a named primary makes only new connections wait. Read
// sessions are kept while their server is among Route.Reads (see Config.ReadGrace), or, if it was the primary to which
// they fell back, like write sessions.
func (r *Router) SetRoute(route cluster.Route, addrs map[string]string) {
	if r.table.setRoute(route, addrs, time.Now()) {
		r.ring()
	}
}

// SetLimits changes what Config.Limits began with; an error means that they are not usable and those before stay. Sessions
// that there are stay as well, be they more than the new limits allow, and a client that waits goes on waiting.
func (r *Router) SetLimits(l Limits) error {
	if err := l.check(); err != nil {
		return err
	}
	r.table.setLimits(l, time.Now())
	return nil
}

// Limits are those in force.
func (r *Router) Limits() Limits { return *r.table.limits.Load() }

// SetDraining keeps new sessions away from the member, or no longer; those it has go on. New write sessions wait
// while the primary is being drained.
func (r *Router) SetDraining(member string, on bool) { r.table.setDraining(member, on, time.Now()) }

func (r *Router) ring() {
	for _, l := range r.loops {
		l.ring()
	}
}

func (r *Router) farewell() string { return "the router on this host is stopping; connect again" }

// full is the answer to a client over the limit.
func (r *Router) full() refusal {
	r.overLimit.Add(1)
	return refusal{tooManyConnections, fmt.Sprintf("the router's limit of %d client connections is reached; close some, or raise it", r.cfg.MaxSessions)}
}

func (r *Router) listenerOf(fd int32) *listener {
	for _, ln := range r.listeners {
		if ln.fd == fd {
			return ln
		}
	}
	return nil
}

// beside runs f in a goroutine that Run waits for. False: the router has stopped, f does not run.
func (r *Router) beside(f func()) bool {
	r.asideMu.Lock()
	defer r.asideMu.Unlock()
	if r.ctx.Err() != nil {
		return false
	}
	r.aside.Go(f)
	return true
}

const lookupFor = 5 * time.Second

// lookup resolves the host name in the server's address.
func (r *Router) lookup(srv *server, addr string) {
	r.beside(func() {
		ctx, cancel := context.WithTimeout(r.ctx, lookupFor)
		defer cancel()
		at, err := resolve(ctx, addr)
		r.table.resolved(srv, addr, at, err, time.Now())
	})
}

// resolve finds the first address of host:port.
func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address of a server: %w", err)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(port)), nil
}
