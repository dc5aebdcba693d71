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
	case s.Term == 1:
		e.Kind = "bootstrap"
	case s.Force:
		e.Kind = "forced"
		e.Lost = "commits acknowledged by the old primary that no reporting member had received"
	case s.Prefer != "":
		e.Kind = "switchover"
	default:
		e.Kind = "failover"
	}
	a.aside.Go(func() {
		ctx, cancel := context.WithTimeout(a.life, 10*time.Second)
		defer cancel()
		if err := a.cfg.Store.PutHistory(ctx, e); err != nil {
			a.log.Warn("write the history", "error", err)
		}
	})
}

func (a *Agent) noteOf(kind, text string) store.Note {
	return store.Note{At: time.Now().UnixMilli(), Member: a.cfg.Self, Kind: kind, Text: text}
}
