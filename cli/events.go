package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/events"
)

type eventsCmd struct {
	Follow  bool     `help:"Show each new event as it comes, until Ctrl-C." short:"f"`
	Since   string   `help:"From when on: a duration before now, such as 1h, or a time, such as 2026-01-02T15:04:05Z; 0 for all that is kept." default:"24h" placeholder:"1h"`
	Kind    []string `help:"Only these kinds, such as election,primary." placeholder:"KIND,…"`
	Verbose bool     `help:"With what was seen and each step's time." short:"v"`
	Output  string   `help:"How to show it: text, or json, a line for each event." short:"o" enum:"text,json" default:"text"`
}

func (eventsCmd) Help() string {
	return `What happened in the cluster, from all members, by time: elections and changes of primary, changes of the commit rule, members that fell silent and came back, clones and rewinds, what was unusual and for how long, what operators changed. The cluster keeps the newest 500 (docs/EVENTS.md). Times are the members' own clocks.

It needs the cluster's token: run it as root or as the user that standfast runs as.

Examples:

    standfast events
    standfast events -f
    standfast events --since 1h --kind election,primary -v
    standfast events --since 0 -o json | jq -r 'select(.severity != "info") | .text'`
}

func (c *eventsCmd) Run(a *app) error {
	since, err := parseSince(c.Since, time.Now())
	if err != nil {
		return err
	}
	for _, k := range c.Kind {
		if !slices.Contains(events.Kinds, k) {
			return usage("--kind %s: there is no such kind; there are %s", k, strings.Join(events.Kinds, ", "))
		}
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	if c.Follow {
		err := cl.FollowEvents(a.ctx, since, func(e api.Event) { c.show(a, e) }, func(at string, err error) { tellTrouble(a, at, err) })
		if errors.Is(err, context.Canceled) {
			return nil // Ctrl-C is how it ends
		}
		return err
	}
	es, failed, err := cl.Events(a.ctx, since)
	if err != nil {
		return err
	}
	for _, err := range failed {
		tellTrouble(a, "", err)
	}
	if shown := slices.ContainsFunc(es, c.wanted); !shown && c.Output == "text" {
		fmt.Fprintln(a.stderr, "no such events since", since.Format("2006-01-02 15:04:05")+"; --since 0 shows all that are kept")
	}
	for _, e := range es {
		c.show(a, e)
	}
	return nil
}

// tellTrouble says that a member can't be followed, or can be again.
func tellTrouble(a *app, at string, err error) {
	switch {
	case err == nil:
		fmt.Fprintf(a.stderr, "%s answers again\n", at)
	case at != "" && !strings.HasPrefix(err.Error(), at):
		fmt.Fprintf(a.stderr, "%s %s: %v\n", a.err.warn("not followed:"), at, err)
	default:
		fmt.Fprintf(a.stderr, "%s %v\n", a.err.warn("does not answer:"), err)
	}
}

// parseSince reads a duration before now or a time; "0" is the beginning.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "0" || text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+"x", "%dx", &n); err == nil && n > 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return now, usage("--since %s: write a duration, such as 30m, 1h or 2d, or a time, such as \"2026-01-02 15:04\"", text)
}

func (c *eventsCmd) wanted(e api.Event) bool {
	return len(c.Kind) == 0 || slices.Contains(c.Kind, e.Kind)
}

func (c *eventsCmd) show(a *app, e api.Event) {
	switch {
	case !c.wanted(e):
	case c.Output == "json":
		_ = json.NewEncoder(a.stdout).Encode(e) // to a closed pipe: the process is told by a signal
	default:
		writeEvent(a.stdout, a.out, e, c.Verbose)
	}
}

// writeEvent shows one event, as far as the terminal is wide.
func writeEvent(w io.Writer, s style, e api.Event, verbose bool) {
	kind := fmt.Sprintf("%-8s", e.Kind)
	switch e.Severity {
	case api.Critical:
		kind = s.bad(kind)
	case api.Warning:
		kind = s.warn(kind)
	}
	const indent = 25
	text := e.Text
	head := fmt.Sprintf("%s  %-5s %s ", e.At.Local().Format("2006-01-02 15:04:05.000"), e.Member, kind)
	if s.terminal {
		text = wrap(text, max(s.width-41, 30), strings.Repeat(" ", indent))
	}
	fmt.Fprintln(w, head+text)
	if !verbose {
		return
	}
	if e.By != "" {
		fmt.Fprintf(w, "%*s%s\n", indent, "", s.dim("by: "+e.By+" from "+e.Remote))
	}
	for _, key := range slices.Sorted(maps.Keys(e.Facts)) {
		fmt.Fprintf(w, "%*s%s\n", indent, "", s.dim(key+": "+e.Facts[key]))
	}
	if len(e.Steps) > 0 {
		writeSteps(w, e.Steps)
	}
}
