package monitoring

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Panel is one panel of the dashboard that shows something, with its queries.
type Panel struct {
	Title   string
	Queries []string
}

// Panels lists what the dashboard asks a Prometheus for, its annotations included. Variables are in the queries as Grafana has them.
func Panels() ([]Panel, error) {
	var d struct {
		Annotations struct {
			List []struct{ Name, Expr string }
		}
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(Dashboard, &d); err != nil {
		return nil, fmt.Errorf("read the dashboard: %w", err)
	}
	var out []Panel
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		panel := Panel{Title: p.Title}
		for _, t := range p.Targets {
			panel.Queries = append(panel.Queries, t.Expr)
		}
		out = append(out, panel)
	}
	for _, a := range d.Annotations.List {
		out = append(out, Panel{a.Name, []string{a.Expr}})
	}
	return out, nil
}

// Fill puts values in the place of the dashboard's variables; interval is a duration of PromQL.
func Fill(query, cluster, interval string) string {
	return strings.NewReplacer("$cluster", cluster, "$__rate_interval", interval).Replace(query)
}
