package agent

import (
	"context"
	"time"

	"standfast/cluster"
	"standfast/store"
)

// recordReign writes the term into the history, with each step's time, once clients are let in. It runs beside the
// lanes: nobody waits for the history.
func (a *Agent) recordReign(v cluster.View) {
	s := v.State.Next("clients admitted", v.Self, time.Now().UnixMilli())
	e := store.Entry{
		Term: s.Term, Timeline: s.Timeline, Primary: s.Primary, Reason: s.Reason, By: s.By, Fork: s.Fork,
		Steps: s.Steps, At: time.Now().UnixMilli(),
	}
	if len(s.Steps) > 0 {
		e.OutageMS = s.Steps[len(s.Steps)-1].At - s.Steps[0].At
	}
	switch {
	case s.Term == 1 && v.Postgres.InPlace:
		e.Kind = "adoption"
	case s.Term == 1, s.Steps[0].Name == "founded": // on restored data it begins as an election, in a later term
		e.Kind = "bootstrap"
	case s.Force:
		e.Kind = "forced"
	case s.Prefer != "":
		e.Kind = "switchover"
	default:
		e.Kind = "failover"
	}
	a.aside.Go(func() {
		ctx, cancel := context.WithTimeout(a.life, 10*time.Second)
		defer cancel()
		e.Lost = a.untold(ctx, s)
		if err := a.cfg.Store.PutHistory(ctx, e); err != nil {
			a.log.Warn("write the history", "error", err)
		}
	})
}

// untold is what may have been lost in this term's election, or in an earlier one whose winner did not live to tell: then no
// term since has an entry.
func (a *Agent) untold(ctx context.Context, s cluster.State) string {
	if s.Lost == "" {
		return ""
	}
	told, err := a.cfg.Store.History(ctx)
	if err != nil {
		a.log.Warn("read the history", "error", err) // better told twice
	}
	for _, e := range told {
		if e.Term >= s.LostIn && e.Term < s.Term {
			return ""
		}
	}
	return s.Lost
}

func (a *Agent) noteOf(kind, text string) store.Note {
	return store.Note{At: time.Now().UnixMilli(), Member: a.cfg.Self, Kind: kind, Text: text}
}
