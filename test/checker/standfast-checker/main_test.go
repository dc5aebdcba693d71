package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/playground/load/loadtest"
	"standfast/test/checker"
)

// TestOneServer judges a real server, twice: as it is, and after a row has been deleted behind the checker's back.
func TestOneServer(t *testing.T) {
	s := loadtest.New(t)
	ways := []checker.Way{{Name: "one", DSN: s.DSN(), Clients: 2}}
	r, err := checker.Start(t.Context(), checker.Config{Write: ways, Read: ways})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	await := func() {
		if err := r.Writers[0].AwaitServed(ctx); err != nil {
			t.Fatal(err)
		}
		if err := r.Readers[0].AwaitServed(ctx); err != nil {
			t.Fatal(err)
		}
	}
	await()
	s.Kill()
	s.Start()
	await()
	v, err := r.Judge(ctx, ways)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Whole || v.Acknowledged < 20 || v.Reads < 20 || v.Registers.Operations == 0 || len(v.Servers) != 2 || v.Servers[1].Rows < v.Acknowledged {
		t.Errorf("%s", v)
	}
	for _, op := range r.Ops() {
		if op.Err == "" && (op.Server != "one" || op.Addr != "127.0.0.1" || op.PID == 0 || op.Started.IsZero() || op.Timeline != 1) {
			t.Fatalf("an acknowledgement without its server: %+v", op)
		}
	}
	s.Run("psql", "-q", s.DSN(), "-c", "DELETE FROM standfast_load WHERE id = (SELECT min(id) FROM standfast_load)")
	if v, err = r.Judge(ctx, ways); err != nil || v.Whole || len(v.Lost) != 2 || v.VisibleThenLost.OnPrimary > 1 {
		t.Errorf("a row that is gone was not missed on both ways: %s, %v", v, err)
	}
}

// TestProgram runs the program itself: what it prints can be read by machines and by people, and its exit
// code tells a server that loses rows.
func TestProgram(t *testing.T) {
	s := loadtest.New(t)
	history := filepath.Join(t.TempDir(), "history")
	var out, words bytes.Buffer
	code, err := run([]string{"-for", "500ms", "-write", s.DSN(), "-server", s.DSN(), "-history", history}, &out, &words)
	if code != 0 || err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, &words)
	}
	var v checker.Verdict
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || !v.Whole || v.Acknowledged == 0 {
		t.Errorf("%v: %s", err, &out)
	}
	if !strings.Contains(words.String(), "every acknowledged commit is there") {
		t.Errorf("in words: %s", &words)
	}
	text, err := os.ReadFile(history)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{`{"write":`, `{"read":`, `{"register":`} {
		if !bytes.Contains(text, []byte(kind)) {
			t.Errorf("no line of the history begins with %s", kind)
		}
	}
	losing(t, s)
}

// losing makes the server acknowledge rows and throw away every tenth, and expects the program to say so.
func losing(t *testing.T, s *loadtest.Server) {
	t.Helper()
	s.Run("psql", "-q", s.DSN(),
		"-c", "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"-c", "CREATE TRIGGER lose BEFORE INSERT ON standfast_load FOR EACH ROW WHEN (NEW.id % 10 = 0) EXECUTE FUNCTION lose()")
	var out, words bytes.Buffer
	code, err := run([]string{"-for", "300ms", "-write", s.DSN()}, &out, &words)
	if code != 1 || err != nil || !strings.Contains(words.String(), "BROKEN: ") || !strings.Contains(words.String(), "acknowledged commits are not on") {
		t.Errorf("exit code %d, %v: %s", code, err, &words)
	}
	if text := out.String(); !strings.Contains(text, `"whole": false`) || !strings.Contains(text, `"lost": [`) {
		t.Errorf("as JSON: %s", text)
	}
}

func TestNoVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no way":    {nil, 2, "-write is needed"},
		"no server": {[]string{"-write", "host=127.0.0.1 port=1 user=app dbname=app"}, 2, "start the checker: through 127.0.0.1:1"},
		"no flag":   {[]string{"-no-such-flag"}, 2, "no-such-flag"},
		"help":      {[]string{"-h"}, 0, ""},
	} {
		code, err := run(c.args, &bytes.Buffer{}, &bytes.Buffer{})
		if code != c.code || (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: exit code %d, %v", name, code, err)
		}
	}
}
