// Package whatif answers what would happen if a host, a cable or a program failed now. A small world is made that stands as the cluster
// does (package sim: the members with their priorities, who is primary, who is away, the agreed settings), the same decision core
// that runs on the members decides in it (package decide), and the fault is made there. Nothing is asked of the cluster but its status.
//
// What it can't know: which standby will have received more WAL at that moment, and how quick disks and networks are. It plays several
// worlds, which differ in that, and tells of all of them.
package whatif

import (
	"fmt"
	"slices"
	"strings"

	"standfast/api"
	"standfast/sim"
)

// Fault is one thing that happens.
type Fault struct {
	Kind   sim.BlowKind `json:"kind"`
	Member string       `json:"member"`
	From   []string     `json:"from,omitempty"` // those that it is cut off from
}

func (f Fault) String() string {
	switch f.Kind {
	case sim.Cut:
		return "cut " + f.Member + " from " + strings.Join(f.From, ", ")
	case sim.KillPostgres, sim.KillAgent, sim.StopStore, sim.HangDisk:
		return string(f.Kind) + " on " + f.Member
	}
	return string(f.Kind) + " " + f.Member
}

// Question is what is asked: what is to have happened already, and what happens then, all at once.
type Question struct {
	Before []Fault
	Faults []Fault
}

// Grammar is told to whoever asks in words that are not understood.
const Grammar = `write such as "power off pg2", "lose pg1 and pg2", "pause pg1", "cut pg1 from pg2, pg3", "cut off pg1", "kill postgres on pg1", "kill agent on pg1", "stop etcd on pg3", "hang disk on pg1", or one "then" another; "primary" stands for the member that is`

var verbs = []struct {
	words string
	kind  sim.BlowKind
}{
	{"power off", sim.PowerOff}, {"poweroff", sim.PowerOff}, {"switch off", sim.PowerOff}, {"lose", sim.PowerOff}, {"crash", sim.PowerOff},
	{"pause", sim.Pause}, {"freeze", sim.Pause},
	{"kill postgresql on", sim.KillPostgres}, {"kill postgres on", sim.KillPostgres},
	{"kill agent on", sim.KillAgent}, {"kill standfast on", sim.KillAgent},
	{"stop etcd on", sim.StopStore}, {"kill etcd on", sim.StopStore},
	{"hang disk on", sim.HangDisk}, {"hang disk of", sim.HangDisk},
	{"cut off", sim.Cut}, {"isolate", sim.Cut}, {"cut", sim.Cut},
}

// Parse reads a question about the cluster that st tells of.
func Parse(text string, st *api.Status) (Question, error) {
	var q Question
	parts := strings.Split(" "+strings.ToLower(strings.Join(strings.Fields(text), " "))+" ", " then ")
	for i, part := range parts {
		faults, err := parsePart(strings.TrimSpace(part), st)
		if err != nil {
			return q, err
		}
		if i < len(parts)-1 {
			q.Before = append(q.Before, faults...)
		} else {
			q.Faults = faults
		}
	}
	return q, nil
}

func parsePart(part string, st *api.Status) ([]Fault, error) {
	for _, v := range verbs {
		rest, ok := strings.CutPrefix(part, v.words+" ")
		if !ok {
			continue
		}
		who, from, isCut := strings.Cut(rest, " from ")
		if isCut && v.kind != sim.Cut {
			return nil, fmt.Errorf("%q: only a member that is cut is so from others; %s", part, Grammar)
		}
		names, err := membersIn(who, st)
		if err != nil {
			return nil, err
		}
		return spread(v.kind, names, from, st)
	}
	return nil, fmt.Errorf("%q is not understood: %s", part, Grammar)
}

func spread(kind sim.BlowKind, names []string, from string, st *api.Status) ([]Fault, error) {
	var out []Fault
	for _, name := range names {
		m := st.Member(name)
		if m.Role == api.Witness && kind == sim.KillPostgres {
			return nil, fmt.Errorf("%s is a witness and has no PostgreSQL", name)
		}
		f := Fault{Kind: kind, Member: name}
		if kind == sim.Cut {
			others, err := others(name, names, from, st)
			if err != nil {
				return nil, err
			}
			f.From = others
		}
		out = append(out, f)
	}
	return out, nil
}

// others are those that a member is cut off from; with nobody named, all but those that are cut off with it.
func others(name string, with []string, from string, st *api.Status) ([]string, error) {
	if from == "" || from == "everybody" || from == "all" || from == "the others" {
		var out []string
		for _, m := range st.Members {
			if !slices.Contains(with, m.Name) {
				out = append(out, m.Name)
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("all members cut off from nobody: name fewer")
		}
		return out, nil
	}
	out, err := membersIn(from, st)
	if err == nil && slices.Contains(out, name) {
		err = fmt.Errorf("%s can't be cut off from itself", name)
	}
	return out, err
}

// membersIn reads a list of members: "pg1", "pg1 and pg2", "pg1, pg2", "the primary".
func membersIn(text string, st *api.Status) ([]string, error) {
	var out []string
	for _, name := range strings.FieldsFunc(strings.ReplaceAll(" "+text+" ", " and ", " "), func(r rune) bool { return r == ',' || r == ' ' }) {
		if name == "the" {
			continue
		}
		if name == "primary" {
			name = st.Primary
		}
		i := slices.IndexFunc(st.Members, func(m api.Member) bool { return strings.EqualFold(m.Name, name) })
		if i < 0 {
			var names []string
			for _, m := range st.Members {
				names = append(names, m.Name)
			}
			return nil, fmt.Errorf("there is no member %q; there are %s", name, strings.Join(names, ", "))
		}
		if !slices.Contains(out, st.Members[i].Name) {
			out = append(out, st.Members[i].Name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no member is named: %s", Grammar)
	}
	return out, nil
}
