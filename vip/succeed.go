package vip

import (
	"errors"
	"fmt"
	"time"
)

// Leave lets the addresses that are claimed when Run ends stay on their interfaces, for a successor that is about to start and
// calls Inherit. Somebody else, who outlives this process, has to take them off if none comes: the guard does.
func (f *Floating) Leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaving = true
}

// Inherit looks for addresses that an earlier run has left where they belong. Those are held from now on, and stay for at most
// that long, which is how long the earlier run has answered for them, until Set claims them for good. They go earlier if
// Set comes without a claim on them. It has to be called before Run; with nothing left of the time it does nothing. An error
// means that some could not be looked for: Run removes them.
func (f *Floating) Inherit(left time.Duration) error {
	if left <= 0 {
		return nil
	}
	f.mu.Lock()
	f.inherit = boot() + left
	f.mu.Unlock()
	k, err := openKernel()
	if err != nil {
		return fmt.Errorf("look for floating addresses that an earlier agent has left: %w", err)
	}
	defer k.close()
	var errs []error
	for _, e := range f.entries {
		place, err := e.addr.Find()
		if errors.Is(err, ErrNoInterface) {
			continue // it isn't here then
		}
		there := false
		if err == nil {
			there, _, err = k.has(place)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("look for the floating address that an earlier agent has left: %w", err))
		}
		if there {
			e.place, e.held, e.found = place, true, true
			f.log.Info("floating address found", "address", e.addr.IP.String(), "interface", place.Interface)
			f.publish(e)
		}
	}
	return errors.Join(errs...)
}

// waits reports whether an address that an earlier run has left, and nobody has claimed for good, may stay.
func (f *Floating) waits(e *entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return e.found && boot() < f.inherit && (!f.said || f.claims[e.addr.IP].Found)
}

// unclaimed is the time until addresses that are found and not claimed have to go; 0: there are none.
func (f *Floating) unclaimed() time.Duration {
	for _, e := range f.entries {
		if _, wanted := f.claim(e.addr.IP); e.found && !wanted {
			f.mu.Lock()
			defer f.mu.Unlock()
			return max(f.inherit-boot(), time.Millisecond)
		}
	}
	return 0
}

// left are the addresses that stay when Run ends.
func (f *Floating) left() map[*entry]bool {
	f.mu.Lock()
	leaving := f.leaving
	f.mu.Unlock()
	left := map[*entry]bool{}
	for _, e := range f.entries {
		_, wanted := f.claim(e.addr.IP)
		left[e] = leaving && e.held && (wanted || f.waits(e))
	}
	return left
}
