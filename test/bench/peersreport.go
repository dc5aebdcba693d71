package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/test/bench/plot"

	"github.com/google/renameio/v2"
)

// sumOf puts the runs of one fault on one stack together.
type sumOf struct {
	runs                    int
	outages, sessions, side []time.Duration
	acknowledged, lost      int
	overlaps                int // runs in which two servers acknowledged at one time
	refused                 int
}

func sum(all []peerRun, stack, fault string) sumOf {
	var s sumOf
	for _, r := range all {
		if r.Stack != stack || r.Fault != fault {
			continue
		}
		s.runs++
		s.outages = append(s.outages, duration(r.Outage))
		s.sessions = append(s.sessions, duration(r.Sessions))
		s.side = append(s.side, duration(r.OtherSide))
		s.acknowledged += r.Acknowledged
		s.lost += r.Lost
		s.overlaps += min(r.Overlaps, 1)
		s.refused += r.Refused
	}
	return s
}

func peersTable(docs string) (string, error) {
	all, m, err := read[peerRun](raw(docs, "peers"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| fault | stack | runs | write outage: median | max | goal | sessions that were open | at a standby's port | commits | lost | runs with two at once | refused |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, f := range blows {
		for _, stack := range stacks {
			s := sum(all, stack, f.name)
			if s.runs == 0 {
				continue
			}
			goal := ""
			if stack == "standfast" {
				goal = fmt.Sprintf("≤ %s / %s", seconds(f.goal), seconds(f.most))
			}
			fmt.Fprintf(&b, "| %s | %s | %d | **%s** | %s | %s | %s | %s | %d | %d | %d | %d |\n", f.name, stackNames[stack], s.runs, seconds(plot.Median(s.outages)), seconds(slices.Max(s.outages)),
				goal, seconds(plot.Median(s.sessions)), seconds(plot.Median(s.side)), s.acknowledged, s.lost, s.overlaps, s.refused)
		}
	}
	b.WriteString("\n")
	for _, stack := range stacks {
		for _, r := range all {
			if r.Stack == stack {
				fmt.Fprintf(&b, "%s: %s. ", stackNames[stack], r.With)
				break
			}
		}
	}
	return b.String() + "\n" + measuredOn(m), nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func pathsTable(docs string) (string, error) {
	all, m, err := read[pathRun](raw(docs, "paths"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| clients | direct | HAProxy | Standfast, fast path off | of HAProxy's | direct, again | Standfast, fast path on | of direct |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range all {
		fmt.Fprintf(&b, "| %d | %.0f | %.0f | **%.0f** | %.2f | %.0f | **%.0f** | %.2f |\n", r.Clients, r.Direct, r.HAProxy, r.Router, r.Router/r.HAProxy, r.DirectBeam, r.FastPath, r.FastPath/r.DirectBeam)
	}
	return b.String() + measuredOn(m), nil
}

// peersPicture draws all stacks beside each other.
func peersPicture(docs string) error {
	all, _, err := read[peerRun](raw(docs, "peers"))
	if err != nil || len(all) == 0 {
		return err
	}
	c := plot.Beside{Title: "Write outages through the floating address, beside the peers", Note: "each dot is one run, the line the median; the scale is logarithmic"}
	for _, f := range blows {
		g := plot.Rows{Name: f.name}
		for _, stack := range stacks {
			if s := sum(all, stack, f.name); s.runs > 0 {
				g.Rows = append(g.Rows, plot.Group{Name: stackNames[stack], Outages: s.outages})
			}
		}
		if len(g.Rows) > 0 {
			c.Groups = append(c.Groups, g)
		}
	}
	return renameio.WriteFile(filepath.Join(docs, "img", "peers.svg"), c.SVG(), 0o644)
}
