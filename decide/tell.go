package decide

import (
	"standfast/cluster"
)

// Beat is what the member tells the others about itself and about whom it hears. The sender's identity, sequence and
// stall are filled in where it is sent; sessions, notes and the like by the agent.
func Beat(v cluster.View) cluster.Beat {
	p := v.Postgres
	b := cluster.Beat{
		From: v.Self, Epoch: v.Epoch, Promised: v.Promised, Admitted: v.Admitted, Attached: v.Relay.Term,
		Position: p.Position, Replayed: p.Replayed, Data: p.Data, Up: p.Up, Recovery: p.Recovery,
		Readable: Readable(v), NeedsOut: NeedsOut(v), Suspects: Suspects(v), Holding: held(v), Asked: v.Asked,
	}
	b.Term = newestTerm(v)
	for _, m := range v.Members {
		if m.Name != v.Self && hears(v, m.Name, v.Settings.Detect) {
			b.Hears = append(b.Hears, m.Name)
		}
	}
	return b
}
