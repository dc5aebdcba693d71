package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// entry is the worker's memory of one address.
type entry struct {
	addr     Address
	place    Place
	held     bool
	found    bool      // it is held because an earlier run has left it, and has not been taken since
	running  bool      // the interface has a carrier
	lostAt   time.Time // when somebody else took it off last
	wire     wire      // to the neighbours, while it is held; nil on a silent interface
	told     int       // announcements since it was added
	tellAt   time.Time // the next announcement
	toldAt   time.Time
	free     bool // Check has found that nobody answers for it
	checking bool
	tryAt    time.Time // not to be tried before: the last attempt failed
	err      error
	noise    error // why it could not be announced
}

// checked is the outcome of a check that ran beside the worker.
type checked struct {
	e   *entry
	err error
}

const (
	retryPause = time.Second            // after a failure, and between two times that an address is put back
	resubPause = time.Second            // before the kernel is asked again to tell of changes
	tellFirst  = 5                      // announcements after an address has been added
	idle       = 24 * time.Hour         // nothing is due
	defendTime = 200 * time.Millisecond // least time between two announcements on request
)

// tellGaps are the pauses after each of the first announcements: a neighbour may miss the first because its own link, or
// the switch's port, has just come up.
var tellGaps = [tellFirst]time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// Run removes addresses that an earlier run left behind, but for those that Inherit has found, then does what Set says until
// ctx ends, and removes all, but for those that Leave is for. Only the addresses of Config, and IPv4 addresses with our
// label, are ever touched.
func (f *Floating) Run(ctx context.Context) error {
	var err error
	if f.kernel, err = openKernel(); err != nil {
		return fmt.Errorf("floating addresses: %w", err)
	}
	defer f.kernel.close()
	f.mu.Lock()
	f.running = true
	f.mu.Unlock()
	f.clean()
	defer close(f.ended)
	life, stop := context.WithCancel(ctx)
	f.follow(life)
	stop()
	f.background.Wait()
	return f.end()
}

// clean takes off what an earlier run left behind: it died, and its guard perhaps too.
func (f *Floating) clean() {
	kept := map[netip.Addr]bool{}
	for _, e := range f.entries {
		kept[e.addr.IP] = e.found
	}
	n, err := f.kernel.remove(func(ip netip.Addr, label string) bool {
		return !kept[ip] && (f.ours(ip) || strings.HasSuffix(label, labelSuffix))
	})
	if n > 0 {
		f.log.Warn("removed floating addresses that were left behind", "number", n)
	}
	if err != nil {
		f.log.Error("remove floating addresses that were left behind", "error", err)
	}
}

func (f *Floating) ours(ip netip.Addr) bool {
	for _, e := range f.entries {
		if e.addr.IP == ip {
			return true
		}
	}
	return false
}

// end removes everything, whatever is claimed, unless a successor is to find it.
func (f *Floating) end() error {
	left := f.left()
	f.mu.Lock()
	f.running, f.claims = false, map[netip.Addr]Claim{}
	f.mu.Unlock()
	var errs []error
	for _, e := range f.entries {
		if left[e] {
			f.hush(e)
			f.log.Info("floating address left to the next agent", "address", e.addr.IP.String(), "interface", e.place.Interface)
			continue
		}
		f.lose(e)
		errs = append(errs, e.err)
	}
	return errors.Join(errs...)
}

// follow is the worker's loop. All changes of the kernel's addresses are made by it.
func (f *Floating) follow(ctx context.Context) {
	changed, unwatch := f.subscribe()
	defer func() { unwatch() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		look := false
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-timer.C:
		case c := <-f.checks:
			f.judged(c)
		case _, ok := <-changed:
			look = true
			if !ok {
				unwatch()
				time.AfterFunc(resubPause, f.rouse)
				changed, unwatch = f.subscribe()
			}
		}
		timer.Reset(f.work(ctx, look))
	}
}

// subscribe watches the kernel's changes. Without them an address that somebody removes comes back with the next refresh.
func (f *Floating) subscribe() (<-chan struct{}, func()) {
	changed, unwatch, err := watch()
	if err != nil {
		f.log.Warn("floating addresses are not watched", "error", err)
		return nil, func() {}
	}
	return changed, unwatch
}

// work brings every address to where it should be, what has to go first, and says when to look again.
func (f *Floating) work(ctx context.Context, look bool) time.Duration {
	f.mu.Lock()
	waiting := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	var keep []*entry
	for _, e := range f.entries {
		if _, wanted := f.claim(e.addr.IP); wanted {
			keep = append(keep, e)
		} else if !f.waits(e) {
			f.lose(e)
		}
	}
	for _, w := range waiting {
		close(w)
	}
	now := time.Now()
	for _, e := range keep {
		if e.held && !e.found && (look || !now.Before(e.tellAt)) {
			f.verify(e)
		}
		if c, wanted := f.claim(e.addr.IP); wanted && (!e.held || e.found) && !now.Before(e.tryAt) {
			f.take(ctx, e, c)
		}
		f.tell(e, now)
		f.publish(e)
	}
	return f.next(keep, time.Now())
}

// next is the time until something is due.
func (f *Floating) next(keep []*entry, now time.Time) time.Duration {
	wait := idle
	for _, e := range keep {
		at := e.tryAt
		if e.held && !e.found {
			at = e.tellAt
		} else if e.checking {
			continue
		}
		wait = min(wait, max(at.Sub(now), time.Millisecond))
	}
	if len(keep) > 0 {
		f.mu.Lock()
		wait = min(wait, max(f.lapse-boot(), time.Millisecond))
		f.mu.Unlock()
	}
	if left := f.unclaimed(); left > 0 {
		wait = min(wait, left)
	}
	return wait
}

// lose takes an address off. It is tried again and again while it fails, for a second holder does harm.
func (f *Floating) lose(e *entry) {
	f.hush(e)
	if e.held {
		_, err := f.kernel.remove(func(ip netip.Addr, _ string) bool { return ip == e.addr.IP })
		e.held, e.err = err != nil, err
		if err != nil {
			f.log.Error("floating address not removed", "error", err)
			time.AfterFunc(retryPause, f.rouse)
		} else {
			f.log.Info("floating address removed", "address", e.addr.IP.String(), "interface", e.place.Interface)
		}
	} else {
		e.err = nil
	}
	e.found, e.tryAt = false, time.Time{}
	f.publish(e)
}

// hush ends what is said to the neighbours.
func (f *Floating) hush(e *entry) {
	if e.wire != nil {
		e.wire.close()
		e.wire = nil
	}
}

// take puts an address onto its interface, after a check if that is asked for.
func (f *Floating) take(ctx context.Context, e *entry, c Claim) {
	if e.checking {
		return
	}
	place, err := e.addr.Find()
	if err != nil {
		f.failed(e, err)
		return
	}
	e.place = place
	if c.Ask && !e.free && !place.Silent && !e.found { // nobody but this host answers for one that is here
		e.checking = true
		members := f.cfg.Members()
		f.background.Go(func() {
			err := check(ctx, place, members)
			select {
			case f.checks <- checked{e, err}:
			case <-ctx.Done():
			}
		})
		return
	}
	if err := f.kernel.add(place); err != nil {
		f.failed(e, err)
		return
	}
	what := "floating address added"
	if e.found {
		what = "floating address taken over from this host's agent before"
	}
	e.held, e.found, e.running, e.err = true, false, true, nil
	e.told, e.tellAt, e.toldAt = 0, time.Time{}, time.Time{}
	f.log.Info(what, "address", e.addr.IP.String(), "interface", place.Interface)
	if !place.Silent {
		e.wire, e.noise = openWire(place, f.clash)
	}
}

func (f *Floating) failed(e *entry, err error) {
	if text(err) != text(e.err) {
		f.log.Error("floating address not taken", "error", err)
	}
	e.err, e.tryAt = err, time.Now().Add(retryPause)
}

// judged takes the outcome of a check.
func (f *Floating) judged(c checked) {
	c.e.checking = false
	if c.err != nil {
		f.failed(c.e, c.err)
		return
	}
	c.e.free, c.e.tryAt = true, time.Time{}
}

// verify makes sure that a held address is still there. Who removes it (an administrator, NetworkManager, a DHCP client
// that renews its own) seldom means to; it is put back.
func (f *Floating) verify(e *entry) {
	there, running, err := f.kernel.has(e.place)
	if err != nil {
		return
	}
	if there {
		if e.wire == nil && !e.place.Silent {
			e.wire, e.noise = openWire(e.place, f.clash)
		}
		if running && !e.running { // the cable is back: the switch may be another one
			e.told, e.tellAt = 0, time.Time{}
		}
		e.running = running
		return
	}
	f.log.Warn("floating address was removed by somebody else", "address", e.addr.IP.String(), "interface", e.place.Interface)
	f.hush(e)
	e.held, e.tryAt = false, e.lostAt.Add(retryPause) // at once, but not in a fight
	e.lostAt = time.Now()
}

// tell announces the address when that is due, or asked for.
func (f *Floating) tell(e *entry, now time.Time) {
	f.mu.Lock()
	asked := f.again[e.addr.IP] && now.Sub(e.toldAt) > defendTime
	delete(f.again, e.addr.IP)
	f.mu.Unlock()
	if !e.held || now.Before(e.tellAt) && !asked {
		return
	}
	if e.wire != nil {
		e.noise = e.wire.announce()
	}
	e.toldAt = now
	gap := f.cfg.Refresh
	switch {
	case e.noise != nil:
		gap = retryPause
	case e.told < tellFirst-1:
		gap = tellGaps[e.told]
		e.told++
	}
	e.tellAt = now.Add(gap)
}

// publish makes the entry's state known.
func (f *Floating) publish(e *entry) {
	s := Status{Address: e.addr, Place: e.place, Held: e.held, Found: e.found, Err: e.err}
	_, s.Wanted = f.claim(e.addr.IP)
	if e.held && e.wire != nil && e.noise == nil {
		s.Announced = e.toldAt
	}
	if e.held && e.noise != nil && s.Err == nil {
		s.Err = fmt.Errorf("announce %s on %s: %w", e.addr.IP, e.place.Interface, e.noise)
	}
	f.note(s)
}

// clash notes that another host announces an address that is held here. It is called from a wire's goroutine.
func (f *Floating) clash(c Conflict) {
	f.mu.Lock()
	s := f.status[c.IP]
	if !s.Held {
		f.mu.Unlock()
		return
	}
	s.Conflict = &c
	f.status[c.IP] = s
	f.mu.Unlock()
	for {
		select {
		case f.conflicts <- c:
			return
		default:
		}
		select {
		case <-f.conflicts:
		default:
		}
	}
}
