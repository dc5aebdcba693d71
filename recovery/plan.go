package recovery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/cluster"
)

// Ahead is how far term and timeline of a new founding lie above all that the survivor knows of: so many elections may have been
// held without it before a timeline's number could be used twice.
const Ahead = 100

// Situation is all that can be found out on the survivor.
type Situation struct {
	Self      string
	Operator  string
	Now       time.Time
	Known     Known
	Promised  cluster.Term
	Data      cluster.DataState
	SystemID  string           // of the data here
	End       cluster.Position // of the WAL here; zero: not known
	Committed time.Time        // the newest commit in the WAL here; zero: not known
	Others    []Other
}

// Other is what another member of the cluster says when it is asked, or that it says nothing.
type Other struct {
	Name   string
	Silent string // why nothing was heard; "": it answers
	Epoch  cluster.Epoch
	Term   cluster.Term
	Kind   cluster.Kind
	End    cluster.Position // zero: it does not tell
}

// Plan is what is to be founded, and what that means.
type Plan struct {
	Seed Seed
	Sure bool     // every commit is here that was acknowledged while this member knew what went on
	Here []string // sentences: what is here and what the others say
	Lost []string // sentences: what may be lost
	Do   []string // sentences: what is done, in order
}

// Refused says why a cluster is not founded anew. Nothing was changed.
type Refused struct{ Reason string }

// Error is the reason, with what to do instead.
func (r *Refused) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }

// Make decides what is founded anew. The error is a *Refused.
func Make(s Situation) (Plan, error) {
	if err := possible(s); err != nil {
		return Plan{}, err
	}
	if err := sensible(s); err != nil {
		return Plan{}, err
	}
	p := Plan{Seed: seed(s), Here: here(s)}
	p.Lost, p.Sure = lost(s)
	p.Seed.State.Lost, p.Seed.State.LostIn = strings.Join(p.Lost, "; "), p.Seed.State.Term
	p.Do = steps(s, p.Seed)
	return p, nil
}

func self(s Situation) (cluster.Member, bool) {
	for _, m := range s.Known.Members {
		if m.Name == s.Self {
			return m, true
		}
	}
	return cluster.Member{}, false
}

// possible refuses where this host can't be what a cluster is founded from.
func possible(s Situation) error {
	me, ok := self(s)
	switch {
	case s.Known.State.Term == 0:
		return refuse("%s does not know what was agreed (it has no record of it in its state directory): recover on another survivor, or set up a new cluster and restore a backup", s.Self)
	case !ok:
		return refuse("%s was not a member of the cluster when it last knew of it: recover on one that was", s.Self)
	case me.Kind == cluster.Witness:
		return refuse("%s is a witness and holds no data: recover on a host that does", s.Self)
	case s.Data == cluster.NoData:
		return refuse("%s holds no data: recover on a host that does", s.Self)
	case s.Data == cluster.DataPartial:
		return refuse("the data on %s is half made (a clone or rewind was not finished): recover on another survivor, or restore a backup", s.Self)
	case s.Known.State.SystemID != "" && s.SystemID != s.Known.State.SystemID:
		return refuse("the data on %s belongs to another cluster (system identifier %s, this cluster's is %s)", s.Self, s.SystemID, s.Known.State.SystemID)
	case len(s.Known.Members) == 1:
		return refuse("%s is the only member: nothing was lost but itself, and starting it is enough (standfast node start)", s.Self)
	}
	return nil
}

// sensible refuses where something better can be done.
func sensible(s Situation) error {
	answer := []string{s.Self}
	for _, o := range s.Others {
		if o.Silent != "" {
			continue
		}
		if o.Epoch > s.Known.State.Epoch {
			return refuse("the cluster was founded anew already, says %s: standfast node rejoin takes this host in", o.Name)
		}
		answer = append(answer, o.Name)
	}
	if len(answer) > len(s.Known.Members)/2 {
		return refuse("%s answer, a majority of %d members: nothing is to be founded anew. They go on by themselves, or say at the top of standfast status what they wait for; if what they wait for is gone for good, see standfast promote --dry-run",
			strings.Join(answer, ", "), len(s.Known.Members))
	}
	for _, o := range s.Others {
		if o.Silent == "" && o.Kind != cluster.Witness && s.End.Before(o.End) {
			return refuse("%s has more than %s (%s, here %s): recover on %s", o.Name, s.Self, o.End, s.End, o.Name)
		}
	}
	return nil
}

// seed is the first record of the new founding: an election that this member's report alone decides.
func seed(s Situation) Seed {
	old := s.Known.State
	term, timeline := max(old.Term, s.Promised), max(old.Timeline, s.End.Timeline)
	var former []cluster.Member
	for _, m := range s.Known.Members {
		if m.Name != s.Self {
			former = append(former, m)
		}
	}
	for _, o := range s.Others {
		term, timeline = max(term, o.Term), max(timeline, o.End.Timeline)
	}
	return Seed{
		At: s.Now, Config: s.Known.Config, Authority: s.Known.Authority, Former: former,
		State: cluster.State{
			Cluster: old.Cluster, SystemID: old.SystemID, Epoch: max(old.Epoch+1, cluster.Epoch(s.Now.UnixMilli())),
			Term: term + Ahead, Timeline: timeline + Ahead, Phase: cluster.Electing, Last: s.Self, Solo: true,
			Reason: fmt.Sprintf("%s founded the cluster anew from %s, after the loss of a majority", s.Operator, s.Self), By: s.Self,
			Steps: []cluster.Step{{Name: "founded anew", By: s.Self, At: s.Now.UnixMilli()}},
		},
	}
}

const clock = "2006-01-02 15:04:05 MST"

func here(s Situation) []string {
	at := "where the WAL of " + s.Self + " ends can't be told"
	if s.End.LSN > 0 {
		at = fmt.Sprintf("the WAL of %s ends on %s", s.Self, s.End)
		if !s.Committed.IsZero() {
			at += ", its newest commit is of " + s.Committed.UTC().Format(clock)
		}
	}
	old := s.Known.State
	out := []string{at, fmt.Sprintf("%s last knew of term %d (%s), and heard from a majority at about %s", s.Self, old.Term, reigned(old), s.Known.Contact.UTC().Format(clock))}
	for _, o := range s.Others {
		switch {
		case o.Silent != "":
			out = append(out, fmt.Sprintf("%s does not answer: %s", o.Name, o.Silent))
		case o.End.LSN > 0:
			out = append(out, fmt.Sprintf("%s answers; its WAL ends on %s, which is no more than here", o.Name, o.End))
		default:
			out = append(out, fmt.Sprintf("%s answers, and does not tell where its WAL ends: if its data is whole, compare it first (start PostgreSQL there)", o.Name))
		}
	}
	return out
}

func reigned(s cluster.State) string {
	if s.Primary == "" {
		return "electing; " + s.Last + " was the last primary"
	}
	return s.Primary + " was the primary"
}

// lost says what may be lost, by what the survivor last knew: the rule that commits were acknowledged by, and who was the last to
// acknowledge them. What others did without it later it can't know.
func lost(s Situation) (out []string, sure bool) {
	old := s.Known.State
	others := slices.DeleteFunc(slices.Clone(old.Rule.Of), func(n string) bool { return n == s.Self })
	switch {
	case old.Last == s.Self:
		sure = true
		out = append(out, fmt.Sprintf("%s was the last primary that it knows of: every commit that it ever acknowledged is here", s.Self))
	case old.Rule.K > 0 && old.Rule.Has(s.Self) && old.Rule.Electors() == 1:
		sure = true
		out = append(out, fmt.Sprintf("each commit that %s acknowledged in term %d was on %s too (%s): all of them are here", old.Last, old.Term, s.Self, old.Rule))
	case old.Rule.K > 0 && old.Rule.Has(s.Self):
		out = append(out, fmt.Sprintf("commits that %s acknowledged are lost if of %s only %s had them (each was on %d of them): those of its last moments, or since %s fell behind", old.Last, strings.Join(old.Rule.Of, ", "), strings.Join(others, ", "), old.Rule.K, s.Self))
	default:
		out = append(out, fmt.Sprintf("no acknowledged commit had to be on %s (%s): what %s acknowledged after the end of the WAL here is lost", s.Self, old.Rule, old.Last))
	}
	return append(out, fmt.Sprintf("whatever the others acknowledged without %s after %s is lost", s.Self, s.Known.Contact.UTC().Format(clock))), sure
}

func steps(s Situation, seed Seed) []string {
	var names []string
	for _, m := range seed.Former {
		names = append(names, m.Name)
	}
	gone := strings.Join(names, ", ")
	return []string{
		fmt.Sprintf("%s becomes a cluster of one, in term %d on timeline %d, with an etcd founded anew and the configuration as it was agreed", s.Self, seed.State.Term, seed.State.Timeline),
		"commits are on " + s.Self + " alone until other hosts are taken in",
		fmt.Sprintf("%s are members no more: one that comes back, and can reach %s, serves nobody and starts nothing; its data stays as it is", gone, s.Self),
	}
}
