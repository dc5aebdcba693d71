package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"standfast/api"
	"standfast/playground/load"
	"standfast/test/bench/plot"
	"standfast/test/system/rig"
)

// kinds of failover, with what the median of the write outages has to stay below.
var kinds = []struct {
	name   string
	goal   time.Duration
	strike func(context.Context, *rig.Rig, *rig.Node) error
	undo   func(*rig.Node)
}{
	{"postmaster SIGKILL", 300 * time.Millisecond, killPostmaster, func(*rig.Node) {}},
	{"whole node SIGSTOP", 1200 * time.Millisecond, freeze, func(n *rig.Node) { n.Thaw() }},
	{"switchover", 500 * time.Millisecond, switchOver, func(*rig.Node) {}},
}

func killPostmaster(_ context.Context, _ *rig.Rig, n *rig.Node) error { return n.KillPostmaster() }

func freeze(_ context.Context, _ *rig.Rig, n *rig.Node) error {
	n.Freeze()
	return nil
}

func switchOver(ctx context.Context, r *rig.Rig, n *rig.Node) error {
	_, err := r.Client().Switchover(ctx, r.Others(n)[0].Name, false, nil)
	return err
}

const (
	before  = 500 * time.Millisecond // commits before the fault
	after   = time.Second            // and after the new primary reigns, before what was frozen may go on
	binned  = 10 * time.Millisecond
	shown   = 200 * time.Millisecond // before the fault and after the outage, in the bins
	healing = time.Minute
)

// failover is one of them, as its clients saw it. Times are milliseconds; those of bins and steps are since the fault.
type failover struct {
	Kind         string  `json:"kind"`
	Old          string  `json:"old"`
	New          string  `json:"new"`
	Term         uint64  `json:"term"`
	Reason       string  `json:"reason"`
	Outage       float64 `json:"outage_ms"`
	OutageFrom   float64 `json:"outage_from_ms"`
	Acknowledged int     `json:"acknowledged"`
	Failed       int     `json:"failed"`     // sessions that broke during a statement
	Refused      int     `json:"refused"`    // connections refused
	NoSession    int     `json:"no_session"` // connections that ended in another error
	Lost         int     `json:"lost"`       // acknowledged and not there afterwards
	Overlaps     int     `json:"overlaps"`   // proofs that two servers acknowledged at one time
	Healed       float64 `json:"healed_s"`   // until the cluster was whole, seconds
	FirstBin     float64 `json:"first_bin_ms"`
	Bins         []int   `json:"bins"` // commits in each 10 ms
	Steps        []step  `json:"steps"`
	At           string  `json:"at"`
}

// step is one of the history's.
type step struct {
	Name string  `json:"name"`
	By   string  `json:"by"`
	At   float64 `json:"at_ms"`
}

func failovers(ctx context.Context, l limits, done map[string]int) (err error) {
	// A primary that lives and was replaced may be replaced again at once, or each round would have to wait a minute.
	r, err := rig.Start(ctx, rig.Binary(), "bootstrap.anti_flap=1s")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Stop(err != nil)) }()
	for round := range l.rounds {
		for k := range kinds {
			if round < done[kinds[k].name] {
				continue
			}
			f, err := once(ctx, r, k)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", kinds[k].name, round+1, err)
			}
			fmt.Fprintf(os.Stderr, "%s %d/%d: writes out for %.0f ms, %d lost, %d refused, whole after %.1f s\n", f.Kind, round+1, l.rounds, f.Outage, f.Lost, f.Refused, f.Healed)
			if err := send("failover", f); err != nil {
				return err
			}
		}
	}
	return nil
}

// once measures one failover, from a whole cluster to a whole cluster.
func once(ctx context.Context, r *rig.Rig, kind int) (failover, error) {
	k := kinds[kind]
	old, term, err := r.AwaitWhole(ctx, healing)
	if err != nil {
		return failover{}, err
	}
	run, err := load.Start(ctx, load.Config{DSN: r.WriteDSN(), Clients: 4})
	if err != nil {
		return failover{}, err
	}
	defer run.Stop()
	if err := commits(ctx, run, before); err != nil {
		return failover{}, err
	}
	fault, wall := run.Elapsed(), time.Now()
	err = k.strike(ctx, r, old)
	if err == nil {
		err = r.AwaitReign(ctx, term, healing)
	}
	if err == nil {
		err = commits(ctx, run, after)
	}
	k.undo(old)
	if err != nil {
		return failover{}, err
	}
	now, newTerm, err := r.AwaitWhole(ctx, healing)
	if err != nil {
		return failover{}, err
	}
	f := failover{Kind: k.name, Old: old.Name, New: now.Name, Term: newTerm, Healed: time.Since(wall).Seconds(), At: wall.UTC().Format(time.RFC3339)}
	f.count(run.Stop(), fault)
	lost, err := run.Lost(ctx, r.WriteDSN())
	if err != nil {
		return failover{}, err
	}
	f.Lost = len(lost)
	return f, f.tell(ctx, r, wall)
}

// commits waits for so much time, and for as many commits as show that the clients are at work in it.
func commits(ctx context.Context, run *load.Run, length time.Duration) error {
	seen := len(run.Ops())
	until := time.After(length)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-until:
	}
	deadline := time.Now().Add(healing)
	for load.Count(run.Since(seen))[load.Acknowledged] < 20 {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return errors.New("the clients commit nothing")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// count fills in what the attempts say.
func (f *failover) count(ops []load.Op, fault time.Duration) {
	n := load.Count(ops)
	f.Acknowledged, f.Failed, f.Refused, f.NoSession = n[load.Acknowledged], n[load.Failed], n[load.Refused], n[load.NoSession]
	f.Overlaps = len(load.Overlaps(ops))
	end := ops[len(ops)-1].End
	gap := load.LongestGap(ops, 0, end)
	f.Outage, f.OutageFrom = millis(gap.Length()), millis(gap.From-fault)
	first := -shown
	last := min(gap.To-fault+shown, 5*time.Second)
	f.FirstBin = millis(first)
	f.Bins = make([]int, int((last-first)/binned)+1)
	for _, op := range ops {
		i := int((op.End - fault - first) / binned)
		if op.Outcome == load.Acknowledged && op.End-fault >= first && i < len(f.Bins) {
			f.Bins[i]++
		}
	}
}

// tell adds the history's account. Its clock is the wall's, in milliseconds, which on one machine is the same for all.
func (f *failover) tell(ctx context.Context, r *rig.Rig, wall time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, healing)
	defer cancel()
	for ; ; time.Sleep(100 * time.Millisecond) { // members read the history anew every so often
		history, err := r.Client().History(ctx)
		if err != nil {
			return err
		}
		for _, e := range history {
			if uint64(e.Term) == f.Term && len(e.Steps) > 0 {
				f.Reason, f.Steps = e.Reason, since(e, wall)
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("term %d does not appear in the history: %w", f.Term, ctx.Err())
		}
	}
}

func since(e api.Entry, wall time.Time) []step {
	var out []step
	for _, s := range e.Steps {
		out = append(out, step{s.Name, s.By, millis(time.UnixMilli(s.At).Sub(wall))})
	}
	return out
}

func millis(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// timeline is the picture of the failover of this kind that is the most ordinary: the one nearest to the median.
func timeline(all []failover, kind string) (plot.Timeline, bool) {
	var outages []time.Duration
	for _, f := range all {
		if f.Kind == kind {
			outages = append(outages, duration(f.Outage))
		}
	}
	median := plot.Median(outages)
	var best *failover
	for i := range all {
		f := &all[i]
		if f.Kind == kind && (best == nil || (duration(f.Outage)-median).Abs() < (duration(best.Outage)-median).Abs()) {
			best = f
		}
	}
	if best == nil {
		return plot.Timeline{}, false
	}
	t := plot.Timeline{
		Title: "One failover: the primary's PostgreSQL is killed (SIGKILL)",
		Note:  fmt.Sprintf("four clients commit one row each, again and again, through the floating address; %s was primary, %s takes over; %d commits lost", best.Old, best.New, best.Lost),
		From:  duration(best.FirstBin), Bin: binned, Commits: best.Bins,
		OutFrom: duration(best.OutageFrom), OutTo: duration(best.OutageFrom + best.Outage),
		Marks: []plot.Mark{{At: 0, Text: "SIGKILL"}},
	}
	end := t.From + time.Duration(len(t.Commits))*t.Bin
	for _, s := range best.Steps {
		if at := duration(s.At); at >= t.From && at <= end {
			t.Marks = append(t.Marks, plot.Mark{At: max(at, time.Microsecond), Text: s.Name + " (" + s.By + ")"})
		}
	}
	return t, true
}
