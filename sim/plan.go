package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"standfast/cluster"
)

// Plan is a kind of schedule: the members, the promise, and which faults are drawn how often.
type Plan struct {
	Name          string
	Data, Witness int
	Clients       int
	Copies        int
	Durability    cluster.Durability
	Single        bool // allow_single_copy
	Adopted       bool // the cluster is made of a primary that ran before

	Faults []string      // drawn evenly from these; a fault named twice is drawn twice as often
	Every  time.Duration // mean time between two faults
	Start  time.Duration // of the faults
	Length time.Duration // of the schedule, before the quiet
	Break  float64       // chance that an action fails
	Die    float64       // chance that the agent is killed in an action
	Hang   float64       // chance that the agent is stopped in an action
	Refuse float64       // chance that PostgreSQL does not start
}

func memberName(i int) string { return fmt.Sprintf("pg%d", i+1) }

func (p Plan) settings() cluster.Settings {
	return cluster.Settings{
		Durability: p.Durability, Copies: p.Copies, AllowSingleCopy: p.Single,
		Detect: 700 * ms, Lease: 3 * time.Second, AgentGrace: 2 * time.Second, GuardDelay: time.Second, AntiFlap: 5 * time.Second,
	}
}

// Ordinary is a plan with every fault, drawn from the seed.
func Ordinary(seed uint64) Plan {
	rng := rand.New(rand.NewPCG(seed, 0xbeef))
	p := Plan{
		Name: "ordinary", Data: 3, Clients: 3, Copies: 1, Durability: cluster.Quorum, Faults: everyFault(),
		Every: time.Duration(200+rng.IntN(1500)) * ms, Start: 4 * time.Second, Length: 25 * time.Second,
		Break: 0.02, Die: 0.003, Hang: 0.003, Refuse: 0.01,
	}
	switch rng.IntN(8) {
	case 0:
		p.Data, p.Copies = 5, 2
	case 1:
		p.Data, p.Witness, p.Single = 2, 1, rng.IntN(2) == 0
	case 2:
		p.Durability = cluster.Async
	case 3:
		p.Single = true
	}
	if rng.IntN(6) == 0 {
		p.Adopted = true // what happens to its server before it is founded is no affair of a cluster's
	} else if rng.IntN(10) == 0 {
		p.Start = 0 // the founding, too, is disturbed
	}
	if rng.IntN(3) == 0 {
		p.Die, p.Hang, p.Break = 0.02, 0.02, 0.05
	}
	return p
}

func (w *world) host(name string) *host {
	for _, h := range w.hosts {
		if h.name == name {
			return h
		}
	}
	panic("sim: no host " + name)
}
