package monitoring

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// of is the labels of a member's samples, which the tests name by its host.
func of(host string) string { return fmt.Sprintf(`cluster="main",instance="%s",job="standfast"`, host) }

// series is one line of input: a metric with its own labels, as pg1 tells it, and its values in Prometheus's notation for tests
// (one a minute).
func series(metric, values string) string {
	name, labels, _ := strings.Cut(strings.TrimSuffix(metric, "}"), "{")
	all := of("pg1")
	if labels != "" {
		all += "," + labels
	}
	return fmt.Sprintf("{series: '%s{%s}', values: '%s'}", name, all, values)
}

// situation is what an alert is tried on.
type situation []string

// cases says for each alert on what it has to fire, each of them alone, and on what it has to stay silent.
var cases = map[string]struct{ fires, silent []situation }{
	"StandfastHostDown":   {[]situation{{series("up", "0x60")}}, []situation{{series("up", "1x60")}}},
	"StandfastNoPrimary":  {[]situation{{series("up", "1x60"), series(`standfast_member_writable{member="pg1"}`, "0x60")}, {series("up", "0x60")}}, []situation{{series(`standfast_member_writable{member="pg1"}`, "0x60"), series(`standfast_member_writable{member="pg2"}`, "1x60"), series("up", "1x60")}}},
	"StandfastNoMajority": {[]situation{{series("standfast_store_up", "0x60")}, {series("up", "0x60")}}, []situation{{series("standfast_store_up", "1x60"), series("up", "1x60")}}},
	"StandfastMemberDown": {[]situation{{series(`standfast_member_up{member="pg2"}`, "0x60")}}, []situation{{series(`standfast_member_up{member="pg2"}`, "1x60")}}},
	"StandfastAgentStuck": {[]situation{{series("standfast_agent_up", "0x60")}}, []situation{{series("standfast_agent_up", "1x60")}}},
	"StandfastWritesWait": {[]situation{{series("standfast_commit_spare_hosts", "-1x60"), primary}}, []situation{{series("standfast_commit_spare_hosts", "0x60"), primary}, {series("standfast_commit_spare_hosts", "-1x60"), standby}}},
	"StandfastNextLossStopsWriting": {[]situation{{series("standfast_commit_spare_hosts", "0x60"), primary}},
		[]situation{{series("standfast_commit_spare_hosts", "1x60"), primary}, {series("standfast_commit_spare_hosts", "0x60"), standby}}},
	"StandfastAddressNobody":      {[]situation{{series(`standfast_address_held{address="10.0.0.10"}`, "0x60")}}, []situation{{series(`standfast_address_held{address="10.0.0.10"}`, "1x60")}}},
	"StandfastAddressFails":       {[]situation{{series(`standfast_address_failing{address="10.0.0.10"}`, "1x60")}}, []situation{{series(`standfast_address_failing{address="10.0.0.10"}`, "0x60")}}},
	"StandfastReplicationLag":     {[]situation{{series(`standfast_member_lag_bytes{member="pg2"}`, "2000000x60")}}, []situation{{series(`standfast_member_lag_bytes{member="pg2"}`, "900000x60")}}},
	"StandfastDiskLow":            {[]situation{disk("19x60")}, []situation{disk("21x60")}},
	"StandfastDiskFillsUp":        {[]situation{disk("29-0.2x60")}, []situation{disk("29-0.02x60"), disk("60-0.3x60")}},
	"StandfastConnectionsHigh":    {[]situation{connections("77x60")}, []situation{connections("60x60")}},
	"StandfastSlotHoldsWAL":       {[]situation{slot("11x60")}, []situation{slot("9x60")}},
	"StandfastSlotLost":           {[]situation{{series(`standfast_slot_status{slot="barman",status="lost"}`, "1x60")}}, []situation{{series(`standfast_slot_status{slot="barman",status="extended"}`, "1x60")}}},
	"StandfastArchivingFails":     {[]situation{archiving("0+1x60", "100x60", "200x60"), {series("standfast_wal_archive_failures_total", "0+1x60")}}, []situation{archiving("5x60", "100x60", "200x60"), archiving("0+1x60", "200x60", "100x60")}},
	"StandfastXIDAge":             {[]situation{{series("standfast_postgres_xid_age", "600000000x60")}}, []situation{{series("standfast_postgres_xid_age", "210000000x60")}}},
	"StandfastLongTransaction":    {[]situation{{series("standfast_postgres_oldest_transaction_seconds", "3700+60x60")}}, []situation{{series("standfast_postgres_oldest_transaction_seconds", "30x60")}}},
	"StandfastChecksumFailures":   {[]situation{{series("standfast_postgres_checksum_failures_total", "0x30 1x30")}}, []situation{{series("standfast_postgres_checksum_failures_total", "1x60")}}},
	"StandfastCertificateExpires": {[]situation{{series("standfast_certificate_expiry_timestamp_seconds", "2000000x100")}}, []situation{{series("standfast_certificate_expiry_timestamp_seconds", "9000000x100")}}},
	"StandfastPauseForgotten":     {[]situation{{series("standfast_paused", "1x100")}}, []situation{{series("standfast_paused", "0x40 1x60")}}},
	"StandfastFailover":           {[]situation{{series("standfast_last_failover_timestamp_seconds", "5400x100")}}, []situation{{series("standfast_last_failover_timestamp_seconds", "1000x100")}}},
	"StandfastAgentRestarts":      {[]situation{{series("process_start_time_seconds", "0+60x100")}}, []situation{{series("process_start_time_seconds", "0x50 1x50")}}},
	"StandfastPostgresRestarts":   {[]situation{{series("patroni_postmaster_start_time", "0+60x100")}}, []situation{{series("patroni_postmaster_start_time", "7x88 0 8x50")}}},
	"StandfastClockSkew":          {[]situation{{series(`standfast_member_clock_offset_seconds{member="pg2"}`, "-0.6x60")}}, []situation{{series(`standfast_member_clock_offset_seconds{member="pg2"}`, "0.2x60")}}},
	"StandfastBeatsLost":          {[]situation{beats("0+100x100")}, []situation{beats("0+10x100")}},
	"StandfastPostgresHangs":      {[]situation{{series(`standfast_measurement_age_seconds{of="postgres"}`, "90x60"), series("patroni_postgres_running", "1x60")}}, []situation{{series(`standfast_measurement_age_seconds{of="postgres"}`, "90x60"), series("patroni_postgres_running", "0x60")}, {series(`standfast_measurement_age_seconds{of="postgres"}`, "15x60"), series("patroni_postgres_running", "1x60")}}},
	"StandfastRestartPending":     {[]situation{{series(`standfast_member_pending_restart{member="pg2"}`, "1x1600")}}, []situation{{series(`standfast_member_pending_restart{member="pg2"}`, "1x20 0x80")}}},
}

var primary, standby = series("patroni_primary", "1x100"), series("patroni_primary", "0x100")

func disk(free string) situation {
	return situation{series(`standfast_disk_free_bytes{volume="data"}`, free), series(`standfast_disk_size_bytes{volume="data"}`, "100x100")}
}

func connections(n string) situation {
	return situation{series(`standfast_postgres_connections{state="idle"}`, n), series(`standfast_postgres_connections{state="active"}`, "1x100"),
		series("standfast_postgres_max_connections", "100x100"), series("standfast_postgres_reserved_connections", "5x100")}
}

func slot(held string) situation {
	return situation{series(`standfast_slot_held_bytes{slot="barman",type="physical"}`, held), series(`standfast_disk_size_bytes{volume="data"}`, "100x100"), series(`standfast_disk_size_bytes{volume="wal"}`, "1x100")}
}

func archiving(failures, archived, failed string) situation {
	return situation{series("standfast_wal_archive_failures_total", failures), series("standfast_wal_last_archived_timestamp_seconds", archived), series("standfast_wal_last_archive_failure_timestamp_seconds", failed)}
}

func beats(lost string) situation {
	return situation{series(`standfast_member_beats_total{member="pg2"}`, "0+600x100"), series(`standfast_member_beats_lost_total{member="pg2"}`, lost)}
}

type ruleFile struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func rules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	if err := yaml.UnmarshalWithOptions(Alerts, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Groups) != 1 || len(f.Groups[0].Rules) < 20 {
		t.Fatalf("rules: %+v", f)
	}
	return f
}

func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool (Debian's package prometheus)")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

// TestAlertsFireAndStaySilent has Prometheus itself try every rule, in a file of its own: an hour or a day of samples, then whether
// the alert fires.
func TestAlertsFireAndStaySilent(t *testing.T) {
	dir := t.TempDir()
	args := []string{"test", "rules"}
	left := maps.Clone(cases)
	head, one := split(t)
	for i, r := range rules(t).Groups[0].Rules {
		c := cases[r.Alert]
		if len(c.fires) == 0 || len(c.silent) == 0 {
			t.Errorf("%s is not tried", r.Alert)
		}
		name := strings.ToLower(r.Alert)
		write(t, filepath.Join(dir, name+".yml"), []byte(head+one[i]))
		test := tries(r.Alert, name, c.fires, c.silent)
		write(t, filepath.Join(dir, name+"_test.yml"), []byte(test))
		args = append(args, filepath.Join(dir, name+"_test.yml"))
		delete(left, r.Alert)
	}
	for name := range left {
		t.Errorf("there is no alert %s", name)
	}
	if out, err := promtool(t, args...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	write(t, filepath.Join(dir, "wrong.yml"), []byte(tries("StandfastHostDown", "standfasthostdown", cases["StandfastHostDown"].silent, nil)))
	if _, err := promtool(t, "test", "rules", filepath.Join(dir, "wrong.yml")); err == nil {
		t.Error("a silent alert passes for one that fires")
	}
}

// split gives the rules' text one by one, and what has to stand before each.
func split(t *testing.T) (head string, one []string) {
	t.Helper()
	const begin = "      - alert: "
	parts := strings.Split(string(Alerts), begin)
	for _, p := range parts[1:] {
		one = append(one, begin+p)
	}
	return parts[0], one
}

func tries(alert, file string, fires, silent []situation) string {
	every := "1m"
	if alert == "StandfastRestartPending" {
		every = "30m"
	}
	text := fmt.Sprintf("rule_files: [%s.yml]\nevaluation_interval: %s\ntests:\n", file, every)
	for _, s := range fires {
		text += try(alert, s, true)
	}
	for _, s := range silent {
		text += try(alert, s, false)
	}
	return text
}

func try(alert string, s situation, fires bool) string {
	at := "50m"
	switch alert {
	case "StandfastCertificateExpires", "StandfastPauseForgotten", "StandfastFailover", "StandfastAgentRestarts", "StandfastPostgresRestarts", "StandfastBeatsLost":
		at = "95m"
	case "StandfastRestartPending":
		at = "1500m"
	}
	samples := "[]"
	if fires {
		samples = "[{labels: '{}', value: 1}]"
	}
	return fmt.Sprintf("  - interval: 1m\n    name: %s %v\n    input_series:\n      - %s\n    promql_expr_test:\n      - {expr: 'count(ALERTS{alertname=\"%s\",alertstate=\"firing\"})', eval_time: %s, exp_samples: %s}\n",
		alert, fires, strings.Join(s, "\n      - "), alert, at, samples)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAlertsSayWhatToDo: each names the cluster's part it is about, how bad it is, and something to type or to look at.
func TestAlertsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "alerts.yml"), Alerts)
	if out, err := promtool(t, "check", "rules", filepath.Join(dir, "alerts.yml")); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	todo := regexp.MustCompile(`standfast [a-z]+|journalctl|systemctl|tail |select |df -h|ping |timedatectl`)
	for _, r := range rules(t).Groups[0].Rules {
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if !strings.Contains(r.Annotations["summary"], "{{") || !todo.MatchString(r.Annotations["description"]) {
			t.Errorf("%s does not say what it is about and what to do: %v", r.Alert, r.Annotations)
		}
	}
}

// TestDashboard: every panel has a title, a description and queries, and no two the same place.
func TestDashboard(t *testing.T) {
	panels, err := Panels()
	if err != nil {
		t.Fatal(err)
	}
	if len(panels) < 40 {
		t.Errorf("%d panels", len(panels))
	}
	var raw struct {
		Panels []struct {
			Type, Title, Description string
			GridPos                  struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(Dashboard, &raw); err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	for _, p := range raw.Panels {
		if p.Title == "" || p.Type != "row" && p.Description == "" {
			t.Errorf("%q has no title or description", p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] >= 24 {
					t.Fatalf("%q lies on %q, or outside", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
	}
}

func TestPrometheus(t *testing.T) {
	text, err := Prometheus("main", []Target{{"pg2", "10.0.0.12:8008"}, {"pg1", "[fd00::1]:8008"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "prometheus.yml"), text)
	write(t, filepath.Join(dir, "standfast-alerts.yml"), Alerts)
	if i, j := strings.Index(string(text), "pg1"), strings.Index(string(text), "pg2"); i < 0 || j < i {
		t.Errorf("not in order:\n%s", text)
	}
	if out, err := promtool(t, "check", "config", filepath.Join(dir, "prometheus.yml")); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}
