package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/test/bench/plot"
	"standfast/test/system/rig"

	"github.com/google/renameio/v2"
)

// report makes the tables and pictures anew from the raw results. A section that was never measured keeps its words.
func report(docs string) error {
	path := filepath.Join(docs, "BENCHMARKS.md")
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	text := string(b)
	for _, s := range []struct {
		name  string
		table func(docs string) (string, error)
	}{{"failover", failoverTable}, {"router", routerTable}, {"health", healthTable}, {"idle", idleTable}, {"peers", peersTable}, {"paths", pathsTable}} {
		table, err := s.table(docs)
		if err != nil {
			return err
		}
		if table == "" {
			continue
		}
		if text, err = between(text, s.name, table); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return errors.Join(renameio.WriteFile(path, []byte(text), 0o644), pictures(docs), peersPicture(docs))
}

// between replaces what stands between the two comments of a section.
func between(text, section, table string) (string, error) {
	begin, end := "<!-- "+section+": made by make bench -->\n", "<!-- end of "+section+" -->"
	i, j := strings.Index(text, begin), strings.Index(text, end)
	if i < 0 || j < i {
		return "", fmt.Errorf("the lines %q and %q are missing", strings.TrimSpace(begin), end)
	}
	return text[:i+len(begin)] + "\n" + table + "\n" + text[j:], nil
}

func raw(docs, section string) string { return filepath.Join(docs, "bench", section+".jsonl") }

func failoverTable(docs string) (string, error) {
	all, m, err := read[failover](raw(docs, "failover"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| fault | failovers | write outage: min | median | max | goal for the median | commits acknowledged | lost | two at once | connections refused |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, k := range kinds {
		var sum failover
		var outages []time.Duration
		for _, f := range all {
			if f.Kind == k.name {
				outages = append(outages, duration(f.Outage))
				sum.Acknowledged += f.Acknowledged
				sum.Lost += f.Lost
				sum.Refused += f.Refused
				sum.Overlaps += f.Overlaps
			}
		}
		if len(outages) > 0 {
			fmt.Fprintf(&b, "| %s | %d | %.0f ms | **%.0f ms** | %.0f ms | < %.0f ms | %d | %d | %d | %d |\n", k.name, len(outages), millis(slices.Min(outages)), millis(plot.Median(outages)),
				millis(slices.Max(outages)), millis(k.goal), sum.Acknowledged, sum.Lost, sum.Overlaps, sum.Refused)
		}
	}
	return b.String() + measuredOn(m), nil
}

func routerTable(docs string) (string, error) {
	all, m, err := read[besideRun](raw(docs, "router"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| pgbench -S | clients | direct | HAProxy | Standfast | of HAProxy's |\n|---|--:|--:|--:|--:|--:|\n")
	for _, r := range all {
		mode := map[string]string{"session": "one session each", "connect": "a connection for each transaction (-C)"}[r.Mode]
		fmt.Fprintf(&b, "| %s | %d | %.0f | %.0f | **%.0f** | %.2f |\n", mode, r.Clients, r.Direct, r.HAProxy, r.Router, r.Router/r.HAProxy)
	}
	return b.String() + fmt.Sprintf("\nTransactions per second, medians of five rounds that take the three ways in turn; %s.\n", m.HAProxy) + measuredOn(m), nil
}

func healthTable(docs string) (string, error) {
	all, m, err := read[healthRun](raw(docs, "health"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| the node's PostgreSQL | connections | requests per second | median | 99 %% below | answer |\n|---|---|--:|--:|--:|--:|\n")
	for _, h := range all {
		fmt.Fprintf(&b, "| %s | %s | **%.0f** | %.0f µs | %.1f ms | %d |\n", h.Server, h.Connections, h.PerSecond, h.MedianUS, h.P99US/1000, h.Code)
	}
	return b.String() + measuredOn(m), nil
}

func idleTable(docs string) (string, error) {
	all, m, err := read[idleNode](raw(docs, "idle"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| node | agent | etcd | guard | memory in all | CPU (agent + etcd + guard) |\n|---|--:|--:|--:|--:|--:|\n")
	for _, n := range all {
		var memory, cpu float64
		for _, part := range ours {
			memory, cpu = memory+n.Memory[part], cpu+n.CPU[part]
		}
		fmt.Fprintf(&b, "| %s, %s | %.1f MB | %.1f MB | %.1f MB | **%.1f MB** | **%.2f %%** of a core (%.2f + %.2f + %.2f) |\n", n.Node, n.Role,
			n.Memory[rig.Agent], n.Memory[rig.Etcd], n.Memory[rig.Guard], memory, cpu, n.CPU[rig.Agent], n.CPU[rig.Etcd], n.CPU[rig.Guard])
	}
	return b.String() + measuredOn(m), nil
}

func measuredOn(m machine) string { return fmt.Sprintf("\nMeasured on: %s.\n", m) }

func pictures(docs string) error {
	all, _, err := read[failover](raw(docs, "failover"))
	if err != nil || len(all) == 0 {
		return err
	}
	dir := filepath.Join(docs, "img")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if t, ok := timeline(all, kinds[0].name); ok {
		if err := renameio.WriteFile(filepath.Join(dir, "failover.svg"), t.SVG(), 0o644); err != nil {
			return err
		}
	}
	o := plot.Outages{Title: "Write outages, as clients at the floating address saw them", Note: "detection fast; each dot is one failover, the line the median"}
	for _, k := range kinds {
		g := plot.Group{Name: k.name, Goal: k.goal}
		for _, f := range all {
			if f.Kind == k.name {
				g.Outages = append(g.Outages, duration(f.Outage))
			}
		}
		if len(g.Outages) > 0 {
			o.Groups = append(o.Groups, g)
		}
	}
	return renameio.WriteFile(filepath.Join(dir, "outages.svg"), o.SVG(), 0o644)
}
