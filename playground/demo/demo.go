// Package demo shows a failover: a small workload writes through the floating address, the primary dies, and at the end
// it is said how long writes were out and whether anything acknowledged was lost. What is shown goes to a Screen.
package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"standfast/cluster"
	"standfast/playground"
	"standfast/playground/load"
)

// Screen shows the demo while it goes on.
type Screen interface {
	Frame(Frame)       // ten times a second
	Event(text string) // something has happened
}

// Frame is one moment.
type Frame struct {
	State     cluster.State
	Members   []string
	Down      string // the member that was struck; "" if none is
	PerSecond int    // commits acknowledged within the last second
	Rate      []int  // commits acknowledged in each bucket of 100 ms, oldest first
}

// bucket is the time that one value of Frame.Rate stands for.
const bucket = 100 * time.Millisecond

// Act is one fault and what came of it.
type Act struct {
	Fault   string // a sentence: what was done
	From    string // primary before
	To      string // primary after
	Outage  time.Duration
	Refused int // connections refused while it went on
}

// Result is what the demo found.
type Result struct {
	Acts         []Act
	Acknowledged int
	Lost         []int64 // rows that were acknowledged and are not there
	Overlaps     []load.Overlap
}

// OK reports whether everything was as promised.
func (r Result) OK() bool { return len(r.Lost) == 0 && len(r.Overlaps) == 0 }

// Times of the demo, long enough to be seen.
const (
	calm     = 3 * time.Second  // before and after a fault
	patience = 30 * time.Second // for commits to go on
)

// Run lets four clients write, kills the primary's postmaster and, with freeze, later freezes a whole host of the primary,
// and reads everything back. An error means that the demo itself did not work, or that writes did not come back.
func Run(ctx context.Context, p *playground.Playground, freeze bool, screen Screen) (Result, error) {
	r, err := load.Start(ctx, load.Config{DSN: p.WriteDSN()})
	if err != nil {
		return Result{}, err
	}
	d := &demo{play: p, run: r, screen: screen}
	screen.Event("four clients commit one row each, through " + p.Address())
	err = d.acts(ctx, freeze)
	ops := r.Stop()
	if err != nil {
		return d.result, err
	}
	screen.Event("reading back every acknowledged row")
	d.result.Acknowledged = load.Count(ops)[load.Acknowledged]
	d.result.Overlaps = load.Overlaps(ops)
	d.result.Lost, err = r.Lost(ctx, "")
	return d.result, err
}

type demo struct {
	play   *playground.Playground
	run    *load.Run
	screen Screen
	down   string
	result Result

	seen int   // attempts counted into rate
	rate []int // acknowledgements by bucket
}

func (d *demo) acts(ctx context.Context, freeze bool) error {
	if err := d.watch(ctx, calm, nil); err != nil {
		return err
	}
	err := d.act(ctx, "the postmaster of %s is killed (SIGKILL)", (*playground.Host).KillPostmaster)
	if err != nil || !freeze {
		return err
	}
	d.screen.Event("waiting until the old primary follows again")
	if err := d.watch(ctx, patience, d.whole(ctx)); err != nil {
		return err
	}
	frozen := d.play.Host(d.play.State().Primary)
	err = d.act(ctx, "every process of %s is frozen (SIGSTOP)", func(h *playground.Host) error { h.Freeze(); return nil })
	frozen.Thaw()
	d.screen.Event(frozen.Name + " goes on, and joins again by itself")
	return errors.Join(err, d.watch(ctx, calm, nil))
}

// act strikes the primary and watches until commits go on elsewhere.
func (d *demo) act(ctx context.Context, fault string, strike func(*playground.Host) error) error {
	before := d.play.State()
	h := d.play.Host(before.Primary)
	if h == nil {
		return errors.New("nobody is primary, so nobody can be struck")
	}
	a := Act{Fault: fmt.Sprintf(fault, h.Name), From: h.Name}
	refused := load.Count(d.run.Ops())[load.Refused]
	began := d.run.Elapsed()
	if err := strike(h); err != nil {
		return err
	}
	d.down = h.Name
	d.screen.Event(a.Fault)
	if err := d.watch(ctx, patience, d.recovered(before)); err != nil {
		return fmt.Errorf("after this: %s: writes did not come back: %w", a.Fault, err)
	}
	a.To = d.play.State().Primary
	d.screen.Event(fmt.Sprintf("%s is primary in term %d", a.To, d.play.State().Term))
	if err := d.watch(ctx, calm, nil); err != nil {
		return err
	}
	d.down = ""
	ops := d.run.Ops()
	a.Outage = load.LongestGap(ops, began-bucket, d.run.Elapsed()).Length()
	a.Refused = load.Count(ops)[load.Refused] - refused
	d.result.Acts = append(d.result.Acts, a)
	return nil
}

// recovered reports whether a newer term's primary has acknowledged something.
func (d *demo) recovered(before cluster.State) func() bool {
	return func() bool {
		s := d.play.State()
		if s.Term == before.Term || s.Phase != cluster.Reigning {
			return false
		}
		for _, op := range d.run.Since(max(0, d.seen-1000)) {
			if op.Outcome == load.Acknowledged && op.Timeline >= uint32(s.Timeline) {
				return true
			}
		}
		return false
	}
}

// whole reports whether every member takes part again.
func (d *demo) whole(ctx context.Context) func() bool {
	return func() bool { return d.play.Whole(ctx) }
}

var errTime = errors.New("waited in vain")

// watch draws until the time is over or, if asked to wait for something, until that is so; if it never is, that is an error.
func (d *demo) watch(ctx context.Context, long time.Duration, until func() bool) error {
	tick := time.NewTicker(bucket)
	defer tick.Stop()
	end := time.After(long)
	for {
		d.draw()
		if until != nil && until() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			if until != nil {
				return fmt.Errorf("%w for %v", errTime, long)
			}
			return nil
		case <-tick.C:
		}
	}
}

func (d *demo) draw() {
	for _, op := range d.run.Since(d.seen) {
		d.seen++
		if op.Outcome != load.Acknowledged {
			continue
		}
		d.reach(int(op.End / bucket))
		d.rate[op.End/bucket]++
	}
	now := int(d.run.Elapsed() / bucket)
	d.reach(now)
	f := Frame{State: d.play.State(), Down: d.down, Rate: d.rate[:now]} // the bucket under way is not full yet
	for _, n := range d.rate[max(0, now-10):now] {
		f.PerSecond += n
	}
	for _, h := range d.play.Hosts {
		f.Members = append(f.Members, h.Name)
	}
	d.screen.Frame(f)
}

func (d *demo) reach(i int) {
	for len(d.rate) <= i {
		d.rate = append(d.rate, 0)
	}
}
