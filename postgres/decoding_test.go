package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/cluster"
	"standfast/pgconf"
)

func TestWaitFor(t *testing.T) {
	for _, c := range []struct {
		rule         cluster.Rule
		have, active string
		want         string
	}{
		{cluster.NewRule(1, "pg2", "pg3"), "", "", "pg2"},
		{cluster.NewRule(1, "pg2", "pg3"), "", "pg3", "pg3"},
		{cluster.NewRule(1, "pg2", "pg3"), "pg3", "pg2 pg3", "pg3"},
		{cluster.NewRule(1, "pg2", "pg3"), "pg2", "pg3", "pg3"},
		{cluster.NewRule(1, "pg3"), "pg2", "pg2", "pg3"},
		{cluster.NewRule(2, "Pg-2", "pg3", "pg4", "pg5"), "pg5", "pg3 pg5", "pg3, pg5"},
		{cluster.NewRule(2, "pg2", "pg3"), "", "", "pg2, pg3"},
		{cluster.NewRule(0), "pg2", "pg2", ""},
		{cluster.NewRule(0, "pg2"), "pg2", "pg2", ""},
		{cluster.NewRule(1), "pg2", "pg3", "pg2"}, // nobody can meet it: only this primary can be elected
	} {
		if got := waitFor(c.rule, splitList(c.have), strings.Fields(c.active)); got != c.want {
			t.Errorf("%s, of %q listed and %q streaming: %q, want %q", c.rule, c.have, c.active, got, c.want)
		}
	}
}

// TestTextByVersion: what is given to a server differs between versions, of which not all can be run everywhere.
func TestTextByVersion(t *testing.T) {
	dir := t.TempDir()
	c := Config{Name: "pg1", DataDir: dir, RelayDir: "/r", RelayPort: 5433}
	logical := c
	logical.Slots = []Slot{{"app", "app", "pgoutput"}}
	auto := c
	auto.Parameters = map[string]string{"WAL_Level": "Logical"}
	for version := pgconf.Oldest; version <= pgconf.Newest; version++ {
		must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), fmt.Appendln(nil, version), 0o600))
		for want, c := range map[string]Config{"off": c, "on": logical, "on ": auto} {
			want = fmt.Sprintf("[{sync_replication_slots %s}]", strings.TrimSpace(want))
			if version < 17 {
				want = "[]" // it would be refused as unknown
			}
			if got, err := c.slotSync(); err != nil || fmt.Sprint(got) != want {
				t.Errorf("version %d: %v, %v; want %s", version, got, err, want)
			}
		}
		text := logical.confText(nil)
		if !strings.Contains(text, "wal_level = 'logical'\n") || !strings.Contains(text, "hot_standby_feedback = 'on'\n") {
			t.Errorf("version %d with logical slots:\n%s", version, text)
		}
		// Refused by a later version: 16 has no promote_trigger_file, 17 no old_snapshot_threshold.
		for _, gone := range []string{"promote_trigger_file", "vacuum_defer_cleanup_age", "old_snapshot_threshold", "stats_temp_directory", "operator_precedence_warning"} {
			if strings.Contains(text, gone) {
				t.Errorf("version %d is given %s", version, gone)
			}
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "postgresql.auto.conf"), []byte("wal_level = 'replica'\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("17\n"), 0o600))
	if got, err := logical.slotSync(); err != nil || fmt.Sprint(got) != "[{sync_replication_slots off}]" {
		t.Errorf("below wal_level logical a postmaster would end: %v, %v", got, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
