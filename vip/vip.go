package vip

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config says which addresses there are and how they are kept.
type Config struct {
	Addresses []Address
	Refresh   time.Duration // between announcements while an address is held; 0: 30 s

	// Members are the cluster's own hosts. Whoever answers for an address with the hardware address of one of them is no
	// stranger, but one that lags behind. It may be nil.
	Members func() []netip.Addr

	// Changed is called after the status of an address has changed; was says whether it was held before, and not only found.
	// It must not block. It may be nil.
	Changed func(s Status, was bool)

	Log *slog.Logger // nil: slog.Default()
}

// Claim is an address that this host should hold.
type Claim struct {
	IP netip.Addr

	// Ask makes sure that nobody answers for the address before it is used (Check). It is left out where this cluster has
	// used it before: then time counts, and who may still hold it is on its way out.
	Ask bool

	// Found claims the address only where an earlier run has left it, and only for as long as Inherit says: whether this host
	// should hold it is not known yet.
	Found bool
}

// Status is the state of one address on this host.
type Status struct {
	Address   Address
	Place     Place     // where it is, or was last
	Wanted    bool      // it is claimed
	Held      bool      // it is on the interface
	Found     bool      // likewise, but only because an earlier run has left it there (Inherit)
	Since     time.Time // of Held's last change
	Announced time.Time // the last announcement; zero: none since it was added
	Err       error     // why it is not as wanted, or not announced; nil: all is well
	Conflict  *Conflict // the newest other host that announced it while it was held here; nil: none
}

// Conflict is another host's announcement of an address that this one holds.
type Conflict struct {
	IP  netip.Addr
	MAC net.HardwareAddr
	At  time.Time
}

// Floating holds addresses. Its methods may be called from any goroutine.
type Floating struct {
	cfg        Config
	log        *slog.Logger
	wake       chan struct{}
	ended      chan struct{}
	conflicts  chan Conflict
	checks     chan checked
	background sync.WaitGroup // checks under way

	mu      sync.Mutex
	running bool
	claims  map[netip.Addr]Claim
	lapse   time.Duration // by boot(): when the claims end
	said    bool          // Set or Drop has been called
	inherit time.Duration // by boot(): until when an address that was left behind may stay unclaimed
	leaving bool          // what is claimed when Run ends stays
	waiting []chan struct{}
	status  map[netip.Addr]Status
	again   map[netip.Addr]bool // to be announced now

	entries []*entry // Run's alone
	kernel  kernel   // Run's alone
}

// New prepares to hold the addresses. Nothing is touched before Run.
func New(cfg Config) *Floating {
	if cfg.Refresh == 0 {
		cfg.Refresh = 30 * time.Second
	}
	if cfg.Members == nil {
		cfg.Members = func() []netip.Addr { return nil }
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Status, bool) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	f := &Floating{
		cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		conflicts: make(chan Conflict, 16), checks: make(chan checked),
		claims: map[netip.Addr]Claim{}, status: map[netip.Addr]Status{}, again: map[netip.Addr]bool{},
	}
	for _, a := range cfg.Addresses {
		f.entries = append(f.entries, &entry{addr: a})
		f.status[a.IP] = Status{Address: a}
	}
	return f
}

// Set says which addresses this host should hold, and for how long that is good: unless it is said again, they are
// removed then. The time is counted with that in which the host is suspended. Set never blocks.
func (f *Floating) Set(claims []Claim, good time.Duration) {
	f.mu.Lock()
	changed := len(claims) != len(f.claims)
	fresh := make(map[netip.Addr]Claim, len(claims))
	for _, c := range claims {
		old, ok := f.claims[c.IP]
		changed = changed || !ok || old != c
		fresh[c.IP] = c
	}
	f.claims, f.lapse, f.said = fresh, boot()+good, true
	f.mu.Unlock()
	if changed {
		f.rouse()
	}
}

// Drop ends the claims on the addresses, all of them if none is named, and waits until they are off their interfaces,
// or ctx ends. The kernel needs no more than a moment for it.
func (f *Floating) Drop(ctx context.Context, ips ...netip.Addr) error {
	f.mu.Lock()
	f.said = true
	for ip := range f.claims {
		if len(ips) == 0 || slices.Contains(ips, ip) {
			delete(f.claims, ip)
		}
	}
	// One that was found is held before Run begins, which first of all sees to it.
	found := slices.ContainsFunc(f.cfg.Addresses, func(a Address) bool { return f.status[a.IP].Held })
	if !f.running && !found {
		f.mu.Unlock()
		return nil // none is held
	}
	done := make(chan struct{})
	f.waiting = append(f.waiting, done)
	f.mu.Unlock()
	f.rouse()
	select {
	case <-done:
	case <-f.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var errs []error
	for _, s := range f.Status() {
		if s.Held && (len(ips) == 0 || slices.Contains(ips, s.Address.IP)) {
			errs = append(errs, s.Err)
		}
	}
	return errors.Join(errs...)
}

// Announce tells the neighbours once more that the address is here, if it is: somebody else has told them otherwise.
func (f *Floating) Announce(ip netip.Addr) {
	f.mu.Lock()
	f.again[ip] = true
	f.mu.Unlock()
	f.rouse()
}

// Status tells the state of each address, in the order of Config.
func (f *Floating) Status() []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Status, 0, len(f.cfg.Addresses))
	for _, a := range f.cfg.Addresses {
		out = append(out, f.status[a.IP])
	}
	return out
}

// Conflicts tells of other hosts that announce an address while it is held here. The oldest are dropped when nobody reads.
func (f *Floating) Conflicts() <-chan Conflict { return f.conflicts }

func (f *Floating) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// claim returns the claim on the address, if there is one and it has not lapsed.
func (f *Floating) claim(ip netip.Addr) (Claim, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.claims[ip]
	return c, ok && !c.Found && boot() < f.lapse
}

// note publishes what has become of an address.
func (f *Floating) note(s Status) {
	f.mu.Lock()
	old := f.status[s.Address.IP]
	if s.Conflict == nil {
		s.Conflict = old.Conflict
	}
	if s.Held != old.Held {
		s.Since, s.Conflict = time.Now(), nil
	} else {
		s.Since = old.Since
	}
	f.status[s.Address.IP] = s
	f.mu.Unlock()
	if s.Held != old.Held || s.Found != old.Found || s.Wanted != old.Wanted || text(s.Err) != text(old.Err) {
		f.cfg.Changed(s, old.Held && !old.Found)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// boot reads CLOCK_BOOTTIME, which goes on while the host is suspended.
func boot() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // it can't fail: the clock exists since Linux 2.6.39
	return time.Duration(t.Nano())
}
