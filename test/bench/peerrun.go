package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"standfast/playground/load"
	"standfast/test/netlab"
	"standfast/test/netlab/peers"
	"standfast/test/netlab/site"
)

// peerRun is one fault on one stack, as clients saw it. Times are milliseconds.
type peerRun struct {
	Stack        string  `json:"stack"`
	With         string  `json:"with"` // versions
	Fault        string  `json:"fault"`
	Old          string  `json:"old"`
	New          string  `json:"new"`
	Outage       float64 `json:"outage_ms"`            // of all clients of the floating address together
	OutageFrom   float64 `json:"outage_from_ms"`       // since the fault
	Sessions     float64 `json:"sessions_outage_ms"`   // of those whose sessions were open
	Arrivals     float64 `json:"arrivals_outage_ms"`   // of those that came meanwhile
	OtherSide    float64 `json:"other_side_outage_ms"` // of those at a standby's port 5000
	Acknowledged int     `json:"acknowledged"`         // by all of them
	Failed       int     `json:"failed"`               // sessions that broke during a statement
	Refused      int     `json:"refused"`              // connections refused
	NoSession    int     `json:"no_session"`           // connections that ended in another error
	Lost         int     `json:"lost"`                 // acknowledged and not on the primary afterwards
	Overlaps     int     `json:"overlaps"`             // proofs that two servers acknowledged at one time
	Reason       string  `json:"reason,omitempty"`     // Standfast's history
	Steps        []step  `json:"steps,omitempty"`      // likewise
	LoadAverage  string  `json:"load_average"`         // of the machine, before
	At           string  `json:"at"`
}

const (
	quiet     = 2 * time.Second // commits before the fault
	watched   = 6 * time.Second // at least, after the fault or its end
	calm      = 3 * time.Second // commits at the end with no gap of a second
	forEver   = 2 * time.Minute // an outage that lasts so long does not end
	limit     = 5 * time.Second // an application's, for one commit: longer than Standfast's lease
	newcomers = 50 * time.Millisecond
)

// crowd is a run's clients. Four have sessions through the floating address that they open anew when they break, as a
// connection pool's; others come to it with a new connection each; two have theirs at a standby's port 5000.
type crowd struct{ sessions, arrivals, side *load.Run }

func gather(ctx context.Context, s peers.Stack, standby *netlab.Host) (c crowd, err error) {
	base := load.Config{DSN: peers.FloatingDSN(), Dial: s.Lab().Dial, Think: 5 * time.Millisecond, Timeout: limit, Epoch: time.Now()}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if c.sessions, err = load.Start(ctx, base); err != nil {
		return c, err
	}
	arriving := base
	arriving.Every, arriving.Timeout = newcomers, 2*time.Second
	if c.arrivals, err = load.Start(ctx, arriving); err != nil {
		return c, err
	}
	base.DSN, base.Clients = peers.DSN(standby.Addr.String(), site.WritePort), 2
	c.side, err = load.Start(ctx, base)
	return c, err
}

func (c crowd) all() []*load.Run {
	return slices.DeleteFunc([]*load.Run{c.sessions, c.arrivals, c.side}, func(r *load.Run) bool { return r == nil })
}

func (c crowd) stop() {
	for _, r := range c.all() {
		r.Stop()
	}
}

// merged are the attempts of some clients in the order of their ends.
func merged(runs ...*load.Run) []load.Op {
	var out []load.Op
	for _, r := range runs {
		out = append(out, r.Ops()...)
	}
	slices.SortStableFunc(out, func(a, b load.Op) int { return cmp.Compare(a.End, b.End) })
	return out
}

// settle waits until commits have gone through the floating address for a while, as a user would say: it works again.
func (c crowd) settle(ctx context.Context) error {
	for began := time.Now(); ; {
		now := c.sessions.Elapsed()
		if time.Since(began) > watched && load.LongestGap(merged(c.sessions, c.arrivals), now-calm, now).Length() < time.Second {
			return nil
		}
		if time.Since(began) > forEver {
			return nil // that is a result, too
		}
		if !rest(ctx, 200*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// onePeerRun strikes one blow, from a whole cluster on.
func onePeerRun(ctx context.Context, s peers.Stack, b blow) (peerRun, error) {
	primary, err := s.Whole(ctx)
	if err != nil {
		return peerRun{}, err
	}
	r := peerRun{With: s.With(), Fault: b.name, Old: primary.Name, LoadAverage: loadAverage()}
	c, err := gather(ctx, s, others(s, primary)[0])
	if err != nil {
		return r, err
	}
	defer c.stop()
	if !rest(ctx, quiet) {
		return r, context.Cause(ctx)
	}
	at, wall := c.sessions.Elapsed(), time.Now()
	r.At = wall.UTC().Format(time.RFC3339)
	err = b.strike(ctx, s, primary)
	if !rest(ctx, b.hold-time.Since(wall)) {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err = errors.Join(err, b.undo(ctx, s, primary)); err != nil {
		return r, err
	}
	if err := c.settle(ctx); err != nil {
		return r, err
	}
	end := c.sessions.Elapsed()
	c.stop()
	r.count(c, at, end)
	return r, r.look(ctx, s, c, wall)
}

// count fills in what clients were told.
func (r *peerRun) count(c crowd, at, end time.Duration) {
	gap := load.LongestGap(merged(c.sessions, c.arrivals), 0, end)
	r.Outage, r.OutageFrom = millis(gap.Length()), millis(gap.From-at)
	longest := func(run *load.Run) float64 { return millis(load.LongestGap(run.Ops(), 0, end).Length()) }
	r.Sessions, r.Arrivals, r.OtherSide = longest(c.sessions), longest(c.arrivals), longest(c.side)
	all := merged(c.all()...)
	n := load.Count(all)
	r.Acknowledged, r.Failed, r.Refused, r.NoSession = n[load.Acknowledged], n[load.Failed], n[load.Refused], n[load.NoSession]
	r.Overlaps = len(load.Overlaps(all))
}

// look asks the cluster what it has, before anything is repaired.
func (r *peerRun) look(ctx context.Context, s peers.Stack, c crowd, wall time.Time) error {
	primary, err := s.Primary(ctx)
	if err != nil {
		return err
	}
	r.New = primary.Name
	for _, run := range c.all() {
		lost, err := run.Lost(ctx, peers.DSN(primary.Addr.String(), site.PostgresPort))
		if err != nil {
			return err
		}
		r.Lost += len(lost)
	}
	if own, ok := s.(*peers.Standfast); ok {
		return r.tell(ctx, own, wall)
	}
	return nil
}

// tell adds what Standfast's history says of the first change of primary after the fault. All hosts share this machine's clock.
func (r *peerRun) tell(ctx context.Context, s *peers.Standfast, wall time.Time) error {
	history, err := s.History(ctx)
	if err != nil {
		return err
	}
	for _, e := range history {
		if len(e.Steps) > 0 && e.Steps[0].At >= wall.UnixMilli() {
			r.Reason, r.Steps = e.Reason, since(e, wall)
			return nil
		}
	}
	return nil // nobody was replaced
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
