package whatif

import (
	"fmt"
	"strings"

	"standfast/cluster"
	"standfast/sim"
)

// words is the answer in plain sentences.
func (s *stage) words(q Question, a *Answer, shown sim.Ending) []string {
	out := []string{s.who(a, shown)}
	if a.Writes && a.OutageMS[2] > 0 {
		out = append(out, s.howLong(a))
	}
	out = append(out, a.Lost)
	if a.Writes {
		out = append(out, "Then "+a.Commit.Text+".")
	}
	if next := nextWords(a.Next); next != "" {
		out = append(out, next)
	}
	for _, t := range a.Assumed {
		out = append(out, "Taken for granted: "+t+".")
	}
	for _, v := range a.Violations {
		out = append(out, "The decision core broke a promise in the simulation: "+v+". That is a fault of Standfast's: please report it with the output of standfast status -o json.")
	}
	return out
}

func (s *stage) who(a *Answer, shown sim.Ending) string {
	var names []string
	for _, w := range a.Winners {
		names = append(names, w.Member)
	}
	switch {
	case len(names) == 0:
		return "Nobody takes writes any more, until a host is back: " + s.whyNobody(shown) + "."
	case !a.Writes:
		return fmt.Sprintf("It depends on the moment: %s takes writes in %d of %d worlds that were played, nobody in the others, until a host is back.", strings.Join(names, " or "), worlds(a), Worlds)
	case len(names) == 1 && names[0] == a.Primary && shown.Terms == 0 && a.OutageMS[2] == 0:
		return fmt.Sprintf("Clients notice nothing: %s stays the primary and takes writes.", a.Primary)
	case len(names) == 1 && names[0] == a.Primary && shown.Terms == 0:
		return fmt.Sprintf("%s stays the primary.", a.Primary)
	case len(names) == 1 && names[0] == a.Primary:
		return fmt.Sprintf("%s becomes primary again, in a new term.", a.Primary)
	case len(names) == 1:
		return fmt.Sprintf("%s becomes the primary.", names[0])
	}
	return fmt.Sprintf("%s becomes the primary: whichever has received more of the write-ahead log at that moment; among equals priority decides, then the name.", strings.Join(names, " or "))
}

func worlds(a *Answer) int {
	n := 0
	for _, w := range a.Winners {
		n += w.Worlds
	}
	return n
}

func (s *stage) whyNobody(e sim.Ending) string {
	switch {
	case len(e.Up) < len(s.names)/2+1:
		return fmt.Sprintf("a change takes %d of %d members that hear each other, and fewer are left", len(s.names)/2+1, len(s.names))
	case s.settings.Paused && e.Terms == 0:
		return "automatic failover is paused, so the primary is not replaced (standfast resume)"
	case e.State.Phase == cluster.Reigning && len(e.Attached) < e.State.Rule.K:
		return fmt.Sprintf("%s stays the primary, and each commit waits for %s", s.real(e.State.Primary), s.real(e.State.Rule.String()))
	case e.State.Phase == cluster.Electing:
		return fmt.Sprintf("the election waits for reports: %s are needed to be sure that no acknowledged commit is left behind", s.real(fmt.Sprintf("%d of %s", e.State.Rule.Electors(), strings.Join(e.State.Rule.Of, ", "))))
	}
	return fmt.Sprintf("the term is %s", e.State.Phase)
}

func (s *stage) howLong(a *Answer) string {
	text := fmt.Sprintf("Writes are out for about %s", about(a.OutageMS[1]))
	if a.OutageMS[0] != a.OutageMS[2] {
		text += fmt.Sprintf(" (%s to %s in %d simulated worlds)", about(a.OutageMS[0]), about(a.OutageMS[2]), Worlds)
	}
	if a.OutageMS[1] > a.DetectMS {
		text += fmt.Sprintf("; %s of it passes before silence counts as a failure", about(a.DetectMS))
	}
	text += "."
	if a.LastMS > 0 {
		text += fmt.Sprintf(" The last failover here took %s.", about(a.LastMS))
	}
	return text
}

// nextWords groups the members whose loss would mean the same.
func nextWords(next []Next) string {
	var order []string
	who := map[string][]string{}
	for _, n := range next {
		if len(who[n.Text]) == 0 {
			order = append(order, n.Text)
		}
		who[n.Text] = append(who[n.Text], n.Member)
	}
	var parts []string
	for _, text := range order {
		parts = append(parts, fmt.Sprintf("of %s: %s", strings.Join(who[text], " or "), text))
	}
	if len(parts) == 0 {
		return ""
	}
	return "One more loss, " + strings.Join(parts, "; ") + "."
}
