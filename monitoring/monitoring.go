// Package monitoring holds what a Prometheus and a Grafana of the site's need to watch clusters: the scrape configuration, alert
// rules, a dashboard. The files go by the metrics of package api.
package monitoring

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Alerts are rules for Prometheus; every one says in its description what to do.
//
//go:embed alerts.yml
var Alerts []byte

// Dashboard is for Grafana 9 and later; it asks for its Prometheus when it is imported.
//
//go:embed dashboard.json
var Dashboard []byte

// Job is the name by which the rules know what was scraped from members.
const Job = "standfast"

// Target is one member.
type Target struct {
	Member  string
	Address string // host:port of its health port
}

// Prometheus is a configuration that scrapes the members of the cluster and loads the rules, from a file beside it.
func Prometheus(cluster string, targets []Target) ([]byte, error) {
	type static struct {
		Targets []string      `yaml:"targets,flow"`
		Labels  yaml.MapSlice `yaml:"labels,flow"`
	}
	type job struct {
		Name   string   `yaml:"job_name"`
		Static []static `yaml:"static_configs"`
	}
	type file struct {
		Rules []string `yaml:"rule_files,flow"`
		Jobs  []job    `yaml:"scrape_configs"`
	}
	j := job{Name: Job}
	for _, t := range slices.SortedFunc(slices.Values(targets), func(a, b Target) int { return strings.Compare(a.Member, b.Member) }) {
		j.Static = append(j.Static, static{[]string{t.Address}, yaml.MapSlice{{Key: "cluster", Value: cluster}, {Key: "instance", Value: t.Member}}})
	}
	text, err := yaml.Marshal(file{[]string{"standfast-alerts.yml"}, []job{j}})
	if err != nil {
		return nil, fmt.Errorf("write Prometheus's configuration: %w", err)
	}
	return append([]byte(head), text...), nil
}

const head = `# Prometheus's configuration for this cluster, or what to add to one that is there: another job for each cluster, one rule file for all.
# The rules: standfast monitoring alerts >/etc/prometheus/standfast-alerts.yml
`
