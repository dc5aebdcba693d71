package logs

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/api"
)

func texts(lines []api.LogLine) []string {
	var out []string
	for _, l := range lines {
		out = append(out, fmt.Sprintf("%s %s %s", l.Source, l.Level, l.Text))
	}
	return out
}

func same(t *testing.T, what string, got []api.LogLine, want ...string) {
	t.Helper()
	if fmt.Sprintf("%q", texts(got)) != fmt.Sprintf("%q", want) {
		t.Errorf("%s: got %q\nwant %q", what, texts(got), want)
	}
}

// TestTee: the next handler gets everything that its level lets through, and the ring the same, with the part that logged it.
func TestTee(t *testing.T) {
	var r Ring
	var out strings.Builder
	log := slog.New(r.Tee(slog.NewTextHandler(&out, nil)))
	log.Info("starts", "version", "1 2")
	log.Debug("not shown")
	log.With("part", "router").With("a", 1).WithGroup("g").Warn("sessions cut", "sessions", 3)
	lines, n := r.After(0)
	same(t, "all", lines, `standfast info starts version="1 2"`, "router warn sessions cut a=1 g.sessions=3")
	if n != 2 || lines[0].At.IsZero() || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%d, %v, passed on:\n%s", n, lines[0].At, &out)
	}
	log.Error("third")
	lines, _ = r.After(n)
	same(t, "what is new", lines, "standfast error third")
	lines, _ = r.After(99)
	same(t, "after a number that was never given", lines, `standfast info starts version="1 2"`, "router warn sessions cut a=1 g.sessions=3", "standfast error third")
}

// TestRingIsBounded: the oldest go, the numbers go on.
func TestRingIsBounded(t *testing.T) {
	var r Ring
	long := strings.Repeat("x", 10000)
	for i := range 1000 {
		r.add(api.LogLine{Text: fmt.Sprint(i, long)})
	}
	lines, n := r.After(0)
	total := 0
	for _, l := range lines {
		total += size(l)
	}
	if n != 1000 || total > bound || total < bound-20000 || !strings.HasPrefix(lines[len(lines)-1].Text, "999x") {
		t.Errorf("%d lines of %d bytes, newest %d", len(lines), total, n)
	}
	if lines, _ := r.After(998); len(lines) != 2 {
		t.Errorf("the last two: %d", len(lines))
	}
}

const stamped = "2026-01-02 15:04:05.123 UTC [12] "

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postgresql.log")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if lines, n, err := ReadFile(path, 7); lines != nil || n != 0 || err != nil {
		t.Errorf("no file: %v %d %v", lines, n, err)
	}
	text := "the end of one that was cut off\n" + stamped + "LOG:  ready\n" + stamped + "ERROR:  no\n\tmore of it\n"
	write(text + stamped + "LOG:  half a li")
	lines, n, err := ReadFile(path, 0)
	same(t, "first", lines, "postgresql info [12] LOG:  ready", "postgresql error [12] ERROR:  no\n\tmore of it")
	if err != nil || int(n) != len(text) || lines[0].At.Format("15:04:05.000") != "15:04:05.123" {
		t.Errorf("%v, %d of %d, %v", err, n, len(text), lines[0].At)
	}
	write(text + stamped + "LOG:  half a line\n" + stamped + "WARNING:  careful\n")
	lines, n, _ = ReadFile(path, n)
	same(t, "then", lines, "postgresql info [12] LOG:  half a line", "postgresql warn [12] WARNING:  careful")
	write(stamped + "LOG:  anew\n")
	lines, _, _ = ReadFile(path, n)
	same(t, "begun anew", lines, "postgresql info [12] LOG:  anew")
	write("site's own prefix FATAL:  no\nsecond\n")
	lines, _, _ = ReadFile(path, 0)
	same(t, "a prefix without a time", lines, "postgresql error site's own prefix FATAL:  no", "postgresql info second")
	write(strings.Repeat(stamped+strings.Repeat("ü", longest)+"\n", 300))
	lines, _, _ = ReadFile(path, 0)
	if total := len(lines) * 2 * longest; total > most+4*longest || len(lines) < 100 || len(lines[5].Text) > longest+10 {
		t.Errorf("%d long lines, one has %d bytes", len(lines), len(lines[5].Text))
	}
}

// TestMember: both logs by time, without secrets, and only what is new the next time.
func TestMember(t *testing.T) {
	dir := t.TempDir()
	m := &Member{Name: "pg1", Ring: &Ring{}, File: filepath.Join(dir, "postgresql.log")}
	for name, text := range map[string]string{"postgresql.log.1": stamped + "LOG:  older\n", "postgresql.log": stamped + "LOG:  password='hunter2'\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slog.New(m.Ring.Tee(slog.DiscardHandler)).Info("not enabled")
	slog.New(m.Ring.Tee(slog.NewTextHandler(&strings.Builder{}, nil))).Info("to postgres://u:hunter2@h/d")
	lines, mark, err := m.Lines(api.LogMark{})
	same(t, "all", lines, "postgresql info [12] LOG:  older", "postgresql info [12] LOG:  password=[removed]", "standfast info to postgres://u:[removed]@h/d")
	if err != nil || lines[0].Member != "pg1" {
		t.Errorf("%v %+v", err, lines[0])
	}
	if lines, again, err := m.Lines(mark); len(lines) != 0 || again != mark || err != nil {
		t.Errorf("nothing new: %v %v %v", lines, again, err)
	}
}
