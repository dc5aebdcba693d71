package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"standfast/api"
	"standfast/cluster"
)

type historyCmd struct {
	Output string `help:"How to show it: text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
	Last   int    `help:"Only the last N terms; 0 for all." default:"20" placeholder:"N"`
	Term   uint64 `help:"One term, with each step and its time." placeholder:"N"`
}

func (historyCmd) Help() string {
	return `OUT is how long nobody took writes; WAS, who was primary before. Times are the members' own clocks.

Examples:

    standfast history
    standfast history --term 7`
}

func (c *historyCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	entries, err := cl.History(a.ctx)
	if err != nil {
		return err
	}
	if c.Term != 0 {
		return c.one(a, entries)
	}
	if c.Last > 0 && len(entries) > c.Last {
		entries = entries[len(entries)-c.Last:]
	}
	switch c.Output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(entries)
	case "yaml":
		return writeYAML(a.stdout, entries)
	}
	if len(entries) == 0 {
		fmt.Fprintln(a.stdout, "no primary was ever chosen yet")
		return nil
	}
	writeHistory(a, entries)
	return nil
}

func writeHistory(a *app, entries []api.Entry) {
	get := func(f func(e api.Entry) string) []string {
		out := make([]string, len(entries))
		for i, e := range entries {
			out[i] = f(e)
		}
		return out
	}
	columns := []column{
		{head: "TERM", right: true, cells: get(func(e api.Entry) string { return fmt.Sprint(e.Term) })},
		{head: "WHEN", cells: get(func(e api.Entry) string { return time.UnixMilli(e.At).Format("2006-01-02 15:04:05") })},
		{head: "PRIMARY", cells: get(func(e api.Entry) string { return e.Primary })},
		{head: "WAS", drop: 1, cells: get(func(e api.Entry) string { return e.Old })},
		{head: "KIND", drop: 2, cells: get(func(e api.Entry) string { return e.Kind })},
		{head: "OUT", right: true, cells: get(outText)},
	}
	s := a.out
	room := 1 << 20 // in a pipe nothing is cut: nobody could widen it
	if s.terminal {
		columns = fit(columns, s.width-leastWhy-2)
		room = max(s.width-widthOf(columns)-2, 8)
	} else {
		s.width = 1 << 20
	}
	columns = append(columns, column{head: "WHY", cells: get(func(e api.Entry) string { return cut(why(e), room) })})
	writeTable(a.stdout, s, columns, len(entries))
}

// leastWhy is the room that a reason gets before other columns do.
const leastWhy = 40

func why(e api.Entry) string {
	if e.Lost != "" {
		return e.Lost + "; " + e.Reason
	}
	return e.Reason
}

// outText: before a cluster is founded nobody writes, so its first term interrupted nothing.
func outText(e api.Entry) string {
	if e.OutageMS == 0 || e.Kind == "bootstrap" || e.Kind == "adoption" {
		return "-"
	}
	if e.OutageMS < 10000 {
		return fmt.Sprintf("%d ms", e.OutageMS)
	}
	return fmt.Sprintf("%.0f s", float64(e.OutageMS)/1000)
}

// writeSteps shows what happened when. Members write down their own steps, so that they come in another order than that of
// their times.
func writeSteps(w io.Writer, steps []cluster.Step) {
	steps = slices.Clone(steps)
	slices.SortStableFunc(steps, func(a, b cluster.Step) int { return cmp.Compare(a.At, b.At) })
	for _, s := range steps {
		fmt.Fprintf(w, "  %6d ms  %-8s %s\n", s.At-steps[0].At, s.By, s.Name)
	}
}

func cut(text string, width int) string {
	r := []rune(text)
	if len(r) <= width {
		return text
	}
	return string(r[:width-1]) + "…"
}

// one shows everything that is known of a single term.
func (c *historyCmd) one(a *app, entries []api.Entry) error {
	for _, e := range entries {
		if uint64(e.Term) != c.Term {
			continue
		}
		switch c.Output {
		case "json":
			enc := json.NewEncoder(a.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(e)
		case "yaml":
			return writeYAML(a.stdout, e)
		}
		fmt.Fprintf(a.stdout, "term %d, timeline %d: %s\n", e.Term, e.Timeline, a.out.bold(e.Primary))
		for _, line := range [][2]string{{"was", e.Old}, {"kind", e.Kind}, {"begun by", e.By}, {"why", e.Reason}, {"writes out", outText(e)}, {"set aside", e.Discarded}, {"lost", e.Lost}} {
			if line[1] != "" {
				fmt.Fprintf(a.stdout, "%-11s %s\n", line[0], wrap(line[1], a.out.width-12, "            "))
			}
		}
		writeSteps(a.stdout, e.Steps)
		return nil
	}
	return usage("there is no term %d in the history; see standfast history --last 0", c.Term)
}
