package gather

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/doctor/facts"
)

func TestParseUnits(t *testing.T) {
	got := parseUnits("Result=success\nNRestarts=3\nId=standfast.service\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\n\n" +
		"Id=patroni.service\nLoadState=not-found\nActiveState=inactive\n\nId=haproxy.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=\n")
	want := []facts.Unit{{Name: "standfast.service", Active: "activating", Sub: "auto-restart", Enabled: "enabled", Result: "success", Restart: 3}, {Name: "haproxy.service", Active: "active", Sub: "running"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestCountPostgres(t *testing.T) {
	now := time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC)
	text := "cut off line No space left on device\n" +
		"2026-05-01 01:00:00.000 UTC [1] PANIC:  could not write: No space left on device\n" + // too old
		"2026-05-01 02:50:00.123 UTC [1] ERROR:  could not extend file: No space left on device\n" +
		"\tand a line that belongs to it: Input/output error\n" +
		"2026-05-01 02:55:00.123 UTC [1] 00000@app 10.0.0.1 FATAL:  no pg_hba.conf entry for host \"10.0.0.1\"\n" +
		"2026-05-01 02:56:00.123 UTC [1] LOG:  checkpoint complete\n" +
		"2026-05-01 02:57:00.123 UTC [1] LOG:  server process (PID 7) was terminated by signal 11: Segmentation fault\n" +
		"2026-05-01 02:58:00.123 UTC [1] LOG:  server process (PID 7) was terminated by signal 9: Killed\n" // a fence
	var got []string
	for _, l := range countPostgres(text, now) {
		got = append(got, l.Kind+" "+l.Last.Format("15:04"))
	}
	if want := []string{"full 02:50", "disk 02:50", "hba 02:55", "crash 02:57"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if text, err := tail(path); text != "" || err != nil {
		t.Errorf("of no file: %q, %v", text, err)
	}
	for _, n := range []int{1, 100_000} {
		if err := os.WriteFile(path, []byte(strings.Repeat("line\n", n)+"the last\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if text, err := tail(path); err != nil || !strings.HasSuffix(text, "line\nthe last\n") || len(text) > tailSize {
			t.Errorf("of %d lines: %d bytes, %v", n, len(text), err)
		}
	}
}

func TestCountEtcd(t *testing.T) {
	now := time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC)
	slow := `{"level":"warn","ts":"2026-05-01T02:59:00.123456Z","msg":"slow fdatasync","took":"1.2s"}` + "\n"
	got := countEtcd("half a line\n"+slow+slow+strings.Replace(slow, "T02", "T00", 1)+`{"ts":"2026-05-01T02:59:00.1Z","msg":"elected"}`, now)
	if len(got) != 1 || got[0].Count != 2 || got[0].Kind != "slow disk" {
		t.Errorf("%+v", got)
	}
}

func TestCommandKind(t *testing.T) {
	for command, want := range map[string]string{
		"": "", "(disabled)": "", "/bin/true": "nothing", " true ": "nothing", ":": "nothing", "exit 0": "nothing", "cd .": "nothing", "echo %f": "nothing", "cp %p /dev/null": "nothing",
		"cp %p /archive/%f": "set", "test ! -f /a/%f && cp %p /a/%f": "set", "pgbackrest --stanza=main archive-push %p": "set", "echo %f >>/list && cp %p /a": "set",
	} {
		if got := commandKind(command, ""); got != want {
			t.Errorf("%q: %q, want %q", command, got, want)
		}
	}
	if commandKind("", "basic_archive") != "set" {
		t.Error("a library archives too")
	}
}

// quiet is a gatherer of one part.
func quiet(p ...part) *Gatherer {
	g := New(Config{Node: config.Node{Name: "pg1"}, Members: func() []cluster.Member { return nil }})
	g.parts = p
	return g
}

// TestHangingPart: what hangs is told as not known within the bound, and is not asked a second time while it hangs.
func TestHangingPart(t *testing.T) {
	asked, release := 0, make(chan struct{})
	g := quiet(
		part{"a disk", func(context.Context) (func(*facts.Member), error) { asked++; <-release; return nil, nil }, nil},
		part{"the rest", func(context.Context) (func(*facts.Member), error) {
			return func(m *facts.Member) { m.Host.OS = "Debian" }, nil
		}, nil},
		part{"what fails", func(context.Context) (func(*facts.Member), error) { return nil, errors.New("no such file") }, nil},
	)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	m, err := g.Gather(ctx, false)
	if err != nil || m.Host.OS != "Debian" || len(m.Unknown) != 2 || m.Unknown[0].What != "a disk" || m.Unknown[1].Why != "no such file" {
		t.Errorf("%+v, %v", m, err)
	}
	m, err = g.Gather(t.Context(), false)
	if err != nil || asked != 1 || !strings.Contains(m.Unknown[0].Why, "hangs since") {
		t.Errorf("asked %d times: %+v, %v", asked, m, err)
	}
	close(release)
}

// TestOneAtATime: a second examination waits for the first, and gives up when its time is over.
func TestOneAtATime(t *testing.T) {
	g := quiet()
	g.one <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := g.Gather(ctx, false); err == nil || !strings.Contains(err.Error(), "another examination is under way") {
		t.Errorf("%v", err)
	}
}

// TestBrief asks the cheap questions only.
func TestBrief(t *testing.T) {
	note := func(os string) question {
		return func(context.Context) (func(*facts.Member), error) {
			return func(m *facts.Member) { m.Host.OS += os }, nil
		}
	}
	g := quiet(part{"dear", note("dear"), nil}, part{"both", note("long"), note("short")})
	if m, err := g.Gather(t.Context(), true); err != nil || m.Host.OS != "short" || len(m.Unknown) > 0 {
		t.Errorf("%+v, %v", m, err)
	}
}
