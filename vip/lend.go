package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// LoanTime is for how long a Loan leaves an address on its interface at most. The kernel takes it off then, whatever has become of
// this process.
const LoanTime = 20 * time.Second

// repeatGap is how often a lent address is announced: one announcement may be lost.
const repeatGap = 300 * time.Millisecond

// Loan is an address that nobody uses, to be held for a trial.
type Loan struct {
	place  Place
	kernel kernel
	wire   wire
	stop   chan struct{}
	wait   sync.WaitGroup
}

// Lend makes sure that nobody has the address (a *TakenError says who does), and prepares to hold it. Begin does; End has to be called
// in any case.
func Lend(ctx context.Context, a Address) (*Loan, error) {
	p, err := a.Find()
	if err != nil {
		return nil, err
	}
	if p.Silent {
		return nil, fmt.Errorf("lend %s: %s has no neighbours to tell", a, p.Interface)
	}
	if err := check(ctx, p, nil); err != nil {
		return nil, err
	}
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	// This host itself does not answer its own question. What it has it keeps.
	if err := k.lacks(a.IP); err != nil {
		k.close()
		return nil, err
	}
	w, err := openWire(p, func(Conflict) {})
	if err != nil {
		k.close()
		return nil, err
	}
	return &Loan{place: p, kernel: k, wire: w, stop: make(chan struct{})}, nil
}

// Begin puts the address onto its interface and announces it, at once and again until the end. It is called once.
func (l *Loan) Begin() error {
	if err := l.kernel.addFor(l.place, LoanTime); err != nil {
		return err
	}
	if err := l.wire.announce(); err != nil {
		return fmt.Errorf("announce %s: %w", l.place.Prefix.Addr(), err)
	}
	l.wait.Go(func() {
		tick := time.NewTicker(repeatGap)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				_ = l.wire.announce() // the next one may get through; who hears none says so
			}
		}
	})
	return nil
}

// End takes the address off, if it is there.
func (l *Loan) End() error {
	close(l.stop)
	l.wait.Wait()
	_, err := l.kernel.remove(func(ip netip.Addr, _ string) bool { return ip == l.place.Prefix.Addr() })
	l.wire.close()
	l.kernel.close()
	return err
}

// Hear calls heard, from a goroutine of its own, for every announcement of the address that another host on its network makes, until
// stop.
func Hear(a Address, heard func(Conflict)) (stop func(), err error) {
	p, err := a.Find()
	if err != nil {
		return nil, err
	}
	if p.Silent {
		return nil, errors.New("hear of " + a.String() + ": " + p.Interface + " has no neighbours")
	}
	w, err := openWire(p, heard)
	if err != nil {
		return nil, err
	}
	return w.close, nil
}
