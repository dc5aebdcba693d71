package dossier_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/config"
	"standfast/doctor/dossier"
)

// host is one with a member whose files hold nothing but what a test writes.
func host(t *testing.T) (h dossier.Host, write func(path, text string)) {
	t.Helper()
	dir := t.TempDir()
	h = dossier.Host{Version: "1.2", File: filepath.Join(dir, "standfast.yml")}
	h.Node.Name, h.Node.StateDir, h.Node.TokenFile = "pg1", filepath.Join(dir, "state"), filepath.Join(dir, "token")
	h.Node.Postgres = config.Postgres{DataDir: filepath.Join(dir, "data")}
	return h, func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// h0 is long ago.
var h0 = time.Unix(1e9, 0)

func text(d dossier.Dossier, name string) string {
	i := slices.IndexFunc(d.Files, func(f dossier.File) bool { return f.Name == name })
	if i < 0 {
		return ""
	}
	return d.Files[i].Text
}

func TestEndsOfLogs(t *testing.T) {
	h, write := host(t)
	const line = "2026-05-01 03:00:00.000 UTC [7] LOG:  checkpoint complete\n"
	write("token", "0123456789abcdef\n")
	write("state/log/postgresql.log", strings.Repeat(line, 20000)+"2026-05-01 03:00:00.000 UTC [7] FATAL:  the last 0123456789abcdef\n")
	write("state/log/postgresql.log.1", "\tthe rest of a statement\n"+line)
	d := h.Collect(context.Background())
	got := text(d, "logs/postgresql.log")
	if len(got) > 513<<10 || !strings.HasPrefix(got, "2026-05-01 ") || !strings.HasSuffix(got, "FATAL:  the last [removed]\n") {
		t.Errorf("the end of a long log: %d bytes, %.80q … %q", len(got), got, got[max(0, len(got)-80):])
	}
	if got := text(d, "logs/postgresql.log.1"); got != line {
		t.Errorf("a log whose first line is cut: %q", got)
	}
}

// TestCollectorsLogs: a site's own logs are given where clients' statements can be told from the rest, the newest alone.
func TestCollectorsLogs(t *testing.T) {
	h, write := host(t)
	write("data/log/postgresql-Mon.log", "2026-05-01 LOG:  old\n")
	if err := os.Chtimes(filepath.Join(h.Node.Postgres.DataDir, "log/postgresql-Mon.log"), h0, h0); err != nil {
		t.Fatal(err)
	}
	write("data/log/postgresql-Tue.log", "2026-05-01 LOG:  new\n2026-05-01 STATEMENT:  select 'hUsH7'\n")
	d := h.Collect(context.Background())
	if got := text(d, "logs/postgresql-Tue.log"); !strings.Contains(got, "LOG:  new") || strings.Contains(got, "hUsH7") || text(d, "logs/postgresql-Mon.log") != "" {
		t.Errorf("%+v", d.Files)
	}
	write("data/log/postgresql.csv", "2026-05-01,select 'hUsH7'\n")
	d = h.Collect(context.Background())
	if text(d, "logs/postgresql.csv") != "" || !slices.ContainsFunc(d.Lacks, func(l string) bool { return strings.Contains(l, "can't be taken out of this format") }) {
		t.Errorf("lacks %q", d.Lacks)
	}
}

// TestWhatIsLacking: what can't be had is told, with its reason; what this kind of host does not have is not.
func TestWhatIsLacking(t *testing.T) {
	h, write := host(t)
	d := h.Collect(context.Background())
	if !slices.ContainsFunc(d.Lacks, func(l string) bool {
		return strings.HasPrefix(l, "the member's file: ") && strings.Contains(l, "no such file")
	}) {
		t.Errorf("without a file: %q", d.Lacks)
	}
	if slices.ContainsFunc(d.Lacks, func(l string) bool { return strings.Contains(l, "log") }) {
		t.Errorf("a host without logs: %q", d.Lacks)
	}
	if d.Member != "pg1" || text(d, "host/standfast.txt") != "standfast 1.2\n" {
		t.Errorf("%+v", d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	write("standfast.yml", "name: pg1\n")
	if d := h.Collect(ctx); len(d.Lacks) == 0 || d.Files == nil {
		t.Errorf("given up at once, and nothing is lacking: %+v", d)
	}
}
