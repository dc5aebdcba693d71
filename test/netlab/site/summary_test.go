//go:build e2e

package site_test

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// summary is what a random run came to.
type summary struct {
	rounds, failed, failovers  int
	acknowledged, unknown      int
	lost, overlaps, broken     int
	vanished                   int // rows that a primary had shown
	away, whole                time.Duration
	struck                     map[string]map[role]int // how often, by the fault's name
	longest, slowest, complain string                  // rounds with the longest time away, until whole, and those that failed
}

func newSummary() *summary { return &summary{struck: map[string]map[role]int{}} }

// add takes in a round; s is nil if it did not come to an end.
func (m *summary) add(n int, r round, s *scene, passed bool) {
	m.rounds++
	for _, k := range r.strikes {
		if m.struck[k.fault.name] == nil {
			m.struck[k.fault.name] = map[role]int{}
		}
		m.struck[k.fault.name][k.on]++
	}
	if !passed {
		m.failed++
		m.complain += fmt.Sprintf("FAILED round %03d: %s\n", n, r)
	}
	if s == nil || s.verdict == nil {
		return
	}
	m.failovers += int(s.latest - s.term)
	m.acknowledged, m.unknown = m.acknowledged+s.verdict.Acknowledged, m.unknown+s.verdict.Unknown
	m.lost, m.overlaps, m.broken = m.lost+len(s.verdict.Lost), m.overlaps+len(s.verdict.Overlaps), m.broken+len(s.verdict.Registers.Broken)
	m.vanished += s.verdict.VisibleThenLost.OnPrimary
	if s.away > m.away {
		m.away, m.longest = s.away, fmt.Sprintf("round %03d: %s", n, r)
	}
	if s.healed > m.whole {
		m.whole, m.slowest = s.healed, fmt.Sprintf("round %03d: %s", n, r)
	}
}

func (m *summary) String() string {
	var b strings.Builder
	columns := []role{thePrimary, aStandby, theLeader, theSame, theThird}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "struck\t")
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c)
	}
	fmt.Fprintln(w)
	for _, f := range everyFault {
		if m.struck[f.name] == nil {
			continue
		}
		fmt.Fprintf(w, "%s\t", f.name)
		for _, c := range columns {
			fmt.Fprintf(w, "%d\t", m.struck[f.name][c])
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // a builder takes everything
	fmt.Fprintf(&b, "%d rounds, %d failed; %d terms began\n", m.rounds, m.failed, m.failovers)
	fmt.Fprintf(&b, "%d commits acknowledged, %d unknown; lost: %d; two servers at once: %d; registers broken: %d; shown by a primary, then lost: %d\n",
		m.acknowledged, m.unknown, m.lost, m.overlaps, m.broken, m.vanished)
	fmt.Fprintf(&b, "longest time without a commit: %.1f s in %s\n", m.away.Seconds(), m.longest)
	fmt.Fprintf(&b, "longest time from the last fault's end until whole: %.1f s in %s\n", m.whole.Seconds(), m.slowest)
	return b.String() + m.complain
}
