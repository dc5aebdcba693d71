package cli

import (
	"fmt"

	"standfast/cluster"
	"standfast/monitoring"
)

type monitoringCmd struct {
	Prometheus monitoringPrometheusCmd `cmd:"" help:"Print a configuration by which Prometheus scrapes this cluster."`
	Alerts     monitoringAlertsCmd     `cmd:"" help:"Print the alert rules."`
	Dashboard  monitoringDashboardCmd  `cmd:"" help:"Print the dashboard for Grafana."`
}

func (monitoringCmd) Help() string {
	return `What Prometheus and Grafana need to watch the cluster. Members tell their metrics at /metrics of port 8008, PostgreSQL's among them, so that no other exporter is needed for it.

Examples:

    standfast monitoring prometheus >/etc/prometheus/prometheus.yml
    standfast monitoring alerts >/etc/prometheus/standfast-alerts.yml
    standfast monitoring dashboard >standfast.json     (import it in Grafana: Dashboards, New, Import)`
}

type monitoringPrometheusCmd struct {
	File string `help:"Of a cluster.yml, instead of the cluster that runs." short:"f" placeholder:"FILE" type:"path"`
}

func (monitoringPrometheusCmd) Help() string {
	return `Prints a configuration that scrapes the members which the cluster has now, or those of a cluster.yml. It has to be written again when members come and go.

Examples:

    standfast monitoring prometheus >/etc/prometheus/prometheus.yml
    standfast monitoring prometheus -f cluster.yml`
}

func (c *monitoringPrometheusCmd) Run(a *app) error {
	name, members, err := c.members(a)
	if err != nil {
		return err
	}
	var targets []monitoring.Target
	for _, m := range members {
		targets = append(targets, monitoring.Target{Member: m.Name, Address: m.API})
	}
	text, err := monitoring.Prometheus(name, targets)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s", text)
	return nil
}

func (c *monitoringPrometheusCmd) members(a *app) (cluster string, members []cluster.Member, err error) {
	if c.File != "" {
		d, err := readDeployment(c.File)
		if err != nil {
			return "", nil, err
		}
		n := d.Node("")
		return n.Cluster, n.Founders(), nil
	}
	n, err := a.node()
	if err != nil {
		return "", nil, err
	}
	site, err := a.live(n)
	return n.Cluster, site.Members, err
}

type monitoringAlertsCmd struct{}

func (monitoringAlertsCmd) Run(a *app) error {
	fmt.Fprintf(a.stdout, "%s", monitoring.Alerts)
	return nil
}

type monitoringDashboardCmd struct{}

func (monitoringDashboardCmd) Run(a *app) error {
	fmt.Fprintf(a.stdout, "%s", monitoring.Dashboard)
	return nil
}
