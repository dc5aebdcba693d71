package checker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/playground/load"
)

// History is everything that was asked for and what came of it. Times are on one clock.
type History struct {
	Writes    map[int64][]load.Op // by run, each in the order of the ends
	Reads     []Read
	Seen      map[Version]Sighting
	Registers []RegisterOp
}

// Verdict is what a history and the final state prove. The package comment says what is claimed.
type Verdict struct {
	Whole bool `json:"whole"` // nothing that is claimed is broken, and everything was decided

	Acknowledged int `json:"acknowledged"` // commits
	Unknown      int `json:"unknown"`
	Refused      int `json:"refused"`
	Reads        int `json:"reads"`
	ReadErrors   int `json:"read_errors"`

	Servers         []Server       `json:"servers"` // that were read at the end, the first as the primary
	Lost            []Loss         `json:"lost,omitempty"`
	Overlaps        []load.Overlap `json:"overlaps,omitempty"`
	VisibleThenLost Vanished       `json:"visible_then_lost"`
	Registers       Registers      `json:"registers"`
}

// Server is one that was read at the end.
type Server struct {
	Name string `json:"name"`
	By   string `json:"by"` // who answered
	Rows int    `json:"rows"`
}

// Loss is an acknowledged commit that a server does not have.
type Loss struct {
	Server string  `json:"server"`
	Run    int64   `json:"run"`
	Op     load.Op `json:"op"`
}

// Vanished counts versions that plain reads showed and the primary does not have in the end.
type Vanished struct {
	OnPrimary int       `json:"on_primary"`      // of them shown by a server that was not in recovery
	OnStandby int       `json:"on_standby"`      // only ever by one in recovery
	First     []Version `json:"first,omitempty"` // at most ten, to look for in the servers' logs
}

// decideTime is how long porcupine may take for one register. It takes milliseconds.
const decideTime = 20 * time.Second

// Judge stops the clients, waits as long as ctx allows for a primary and until each of the servers has replayed, reads what they
// hold, and passes judgement. Every server should be named by its own address, standbys too. The error is about what could
// not be read; then there is no verdict.
func (r *Run) Judge(ctx context.Context, servers []Way) (*Verdict, error) {
	r.Stop()
	finals, err := r.finals(ctx, servers)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	return r.History().Judge(finals, decideTime), nil
}

// History is what was recorded so far.
func (r *Run) History() *History {
	h := &History{Writes: r.writes(), Seen: map[Version]Sighting{}, Registers: r.registers.history()}
	for _, reader := range r.Readers {
		reads, seen := reader.history()
		h.Reads = append(h.Reads, reads...)
		for v, s := range seen {
			if old, twice := h.Seen[v]; !twice || s.OnPrimary && !old.OnPrimary {
				h.Seen[v] = s
			}
		}
	}
	return h
}

// Judge compares the history with what servers held in the end, the first of them the primary. It decides on each register for
// at most so long.
func (h *History) Judge(finals []Final, each time.Duration) *Verdict {
	v := &Verdict{Registers: linearizable(h.Registers, each)}
	v.count(h)
	for _, f := range finals {
		rows := 0
		for run, ops := range h.Writes {
			rows += len(f.Rows[run])
			v.Lost = append(v.Lost, losses(f, run, ops)...)
		}
		v.Servers = append(v.Servers, Server{f.Name, f.String(), rows})
	}
	v.Overlaps = load.Overlaps(load.Merge(h.Writes))
	v.VisibleThenLost = vanished(h.Seen, finals[0])
	v.Whole = len(v.Lost) == 0 && len(v.Overlaps) == 0 && len(v.Registers.Broken) == 0 && len(v.Registers.Undecided) == 0
	return v
}

func (v *Verdict) count(h *History) {
	for _, ops := range h.Writes {
		n := load.Count(ops)
		v.Acknowledged += n[load.Acknowledged]
		v.Unknown += n[load.Failed]
		v.Refused += n[load.Refused] + n[load.NoSession]
	}
	for _, read := range h.Reads {
		if read.Outcome == load.Acknowledged {
			v.Reads++
		} else {
			v.ReadErrors++
		}
	}
}

func losses(f Final, run int64, ops []load.Op) []Loss {
	var out []Loss
	for _, op := range load.Missing(ops, f.Rows[run]) {
		out = append(out, Loss{f.Name, run, op})
	}
	return out
}

func vanished(seen map[Version]Sighting, primary Final) Vanished {
	var out Vanished
	for v, s := range seen {
		if attempt, there := primary.Rows[v.Run][v.ID]; there && attempt == v.Attempt {
			continue
		}
		if s.OnPrimary {
			out.OnPrimary++
		} else {
			out.OnStandby++
		}
		out.First = append(out.First, v)
	}
	slices.SortFunc(out.First, func(a, b Version) int { return int(seen[a].At - seen[b].At) })
	out.First = out.First[:min(len(out.First), 10)]
	return out
}

// Complaints says in words what is broken, nothing if the verdict is good.
func (v *Verdict) Complaints() []string {
	var out []string
	missing := map[string]int{}
	for _, l := range v.Lost {
		missing[l.Server]++
	}
	for _, s := range v.Servers {
		if n := missing[s.Name]; n > 0 {
			out = append(out, fmt.Sprintf("%d acknowledged commits are not on %s", n, s.Name))
		}
	}
	for _, o := range v.Overlaps {
		out = append(out, fmt.Sprintf("two servers acknowledged at the same time: %s %s after %s had", o.Older.Executor, (o.Older.Begin-o.Newer.End).Round(time.Microsecond), o.Newer.Executor))
	}
	if n := len(v.Registers.Broken); n > 0 {
		out = append(out, fmt.Sprintf("the operations on %d of %d registers are not what one server could have done", n, v.Registers.Registers))
	}
	if n := len(v.Registers.Undecided); n > 0 {
		out = append(out, fmt.Sprintf("%d of %d registers could not be decided in time", n, v.Registers.Registers))
	}
	return out
}

// String says it all in plain words, a line for each thing.
func (v *Verdict) String() string {
	lines := []string{
		fmt.Sprintf("%d commits acknowledged, %d unknown, %d refused; %d reads, %d failed", v.Acknowledged, v.Unknown, v.Refused, v.Reads, v.ReadErrors),
		fmt.Sprintf("%d operations on %d registers, %d unknown", v.Registers.Operations, v.Registers.Registers, v.Registers.Unknown),
		fmt.Sprintf("visible, then lost: %d rows on a primary, %d on a standby only", v.VisibleThenLost.OnPrimary, v.VisibleThenLost.OnStandby),
	}
	for _, s := range v.Servers {
		lines = append(lines, fmt.Sprintf("read back from %s: %s, %d rows", s.Name, s.By, s.Rows))
	}
	if v.Whole {
		lines = append(lines, "every acknowledged commit is there, no two servers acknowledged at the same time, the registers are linearizable")
	}
	for _, c := range v.Complaints() {
		lines = append(lines, "BROKEN: "+c)
	}
	return strings.Join(lines, "\n")
}
