//go:build e2e

package system

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/monitoring"
	"standfast/test/system/rig"
)

// noAddress are the panels that have nothing to show here: a playground's floating address is carried by the playground itself.
// test/floating has real ones, and api's tests the metrics.
var noAddress = map[string]bool{"Floating address": true}

// TestPrometheus has a real one scrape a cluster by the configuration that the program prints, and asks it every query of the
// dashboard. No alert may be there but for those of this machine's disk; after a failover the one that tells of it fires.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t, "bootstrap.postgresql.parameters.archive_mode=on", "bootstrap.postgresql.parameters.archive_command=/bin/true")
	s := &scene{t: t, r: r, primary: primary, term: term}
	p := scraper(t, r)
	rows := startFeed(r.WriteDSN(), "INSERT INTO feed VALUES ($1)")
	defer rows.close()
	s.command(primary, "CREATE TABLE feed (id bigint PRIMARY KEY)")
	s.command(primary, "GRANT ALL ON feed TO PUBLIC")
	ctx, cancel := context.WithTimeout(all, 2*time.Minute)
	defer cancel()
	p.await(ctx, "all members", fmt.Sprintf(`count(up{job="%s"} == 1) == %d`, monitoring.Job, len(r.Nodes)))
	for _, a := range p.firing(ctx) {
		if !strings.HasPrefix(a, "StandfastDisk") {
			t.Errorf("%s fires on a healthy cluster", a)
		}
	}
	must(t, primary.Kill())
	s.reign(takeover)
	must(t, primary.Start())
	s.heal()
	p.await(ctx, "the failover's alert", `ALERTS{alertname="StandfastFailover",alertstate="firing"}`)
	panels, err := monitoring.Panels()
	must(t, err)
	queries := 0
	for _, panel := range panels {
		for _, q := range panel.Queries {
			if noAddress[panel.Title] {
				continue
			}
			queries++
			p.await(ctx, panel.Title, monitoring.Fill(q, "playground", "1m"))
		}
	}
	t.Logf("%d queries of %d panels had an answer", queries, len(panels))
}

// prom is a Prometheus that runs.
type prom struct {
	t   *testing.T
	url string
}

// scraper starts one as the program's own words have it, but for the interval.
func scraper(t *testing.T, r *rig.Rig) *prom {
	t.Helper()
	bin, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("needs Prometheus (Debian's package prometheus): ", err)
	}
	dir := t.TempDir()
	say := func(args ...string) []byte {
		cmd := exec.Command(rig.Binary(), args...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("standfast %v: %v", args, err)
		}
		return out
	}
	config := append(say("monitoring", "prometheus", "--config", filepath.Join(r.Nodes[0].Dir, "standfast.yml")), "global: {scrape_interval: 2s, evaluation_interval: 2s}\n"...)
	must(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), config, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "standfast-alerts.yml"), say("monitoring", "alerts"), 0o644))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := ln.Addr().String()
	must(t, ln.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	defer log.Close()
	cmd := exec.Command(bin, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", addr)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // nothing of it is kept
		_ = cmd.Wait()
		if said, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("Prometheus says:\n%s", said)
		}
	})
	return &prom{t, "http://" + addr}
}

// result is what a query gave: how many series, or scalars, and the labels of each.
func (p *prom) result(ctx context.Context, query string) ([]map[string]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/query?"+url.Values{"query": {query}}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", body, err)
	}
	if answer.Error != "" {
		p.t.Fatalf("%s: %s", query, answer.Error)
	}
	var all []map[string]string
	for _, r := range answer.Data.Result {
		all = append(all, r.Metric)
	}
	return all, nil
}

// await waits until the query gives something.
func (p *prom) await(ctx context.Context, what, query string) {
	p.t.Helper()
	for {
		got, err := p.result(ctx, query)
		if len(got) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Errorf("%s: nothing for %s (%v)", what, query, err)
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// firing lists the alerts that fire; some are only pending after so short a time.
func (p *prom) firing(ctx context.Context) (names []string) {
	p.t.Helper()
	got, err := p.result(ctx, `ALERTS{alertstate="firing"}`)
	must(p.t, err)
	for _, labels := range got {
		names = append(names, fmt.Sprintf("%s of %s %s", labels["alertname"], labels["instance"], labels["member"]))
	}
	return names
}
