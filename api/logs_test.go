package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// paper is Logs that a test adds to.
type paper struct {
	mu  sync.Mutex
	all []LogLine
}

func (p *paper) Lines(from LogMark) ([]LogLine, LogMark, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]LogLine{}, p.all[from.Own:]...), LogMark{Own: uint64(len(p.all))}, nil
}

func (p *paper) add(l LogLine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, l)
}

func TestLogs(t *testing.T) {
	p := &paper{all: []LogLine{{At: time.Now().Add(-time.Hour), Text: "old", Source: LogAgent}, {At: time.Now(), Text: "new", Source: LogPostgres}, {At: time.Now(), Text: "routed", Source: LogRouter}}}
	c, _ := changer(sample("pg2"), &operator{})
	c.logs = p
	for path, want := range map[string]string{
		"/logs": "old new routed", "/logs?since=30m": "new routed", "/logs?source=router,standfast": "old routed", "/logs?since=30m&source=standfast": "",
	} {
		w := send(c, "GET", path, "")
		var got []string
		for d := json.NewDecoder(w.Body); d.More(); {
			var a LogAnswer
			if err := d.Decode(&a); err != nil {
				t.Fatal(err)
			}
			if a.Line != nil {
				got = append(got, a.Line.Text)
			}
		}
		if w.Code != 200 || strings.Join(got, " ") != want {
			t.Errorf("%s: %d %q, want %q", path, w.Code, got, want)
		}
	}
	if w := send(c, "GET", "/logs", "", "Authorization", "Bearer wrong"); w.Code != 401 || strings.Contains(w.Body.String(), "new") {
		t.Errorf("without the token: %d %s", w.Code, w.Body)
	}
	if err := (Operator{Name: "nagios", Access: Read}).allow(httptest.NewRequest("GET", "/logs", nil)); err == nil {
		t.Error("a token that may only read reads what clients said")
	}
	plain := httptest.NewRecorder()
	s := &Server{health: c.health}
	if s.servePlain(plain, httptest.NewRequest("GET", "/logs", nil)); plain.Code != 403 {
		t.Errorf("without TLS: %d", plain.Code)
	}
}

// TestFollowLogs: what is there, a sign of life, and what comes.
func TestFollowLogs(t *testing.T) {
	p := &paper{all: []LogLine{{At: time.Now(), Text: "first"}}}
	c, _ := changer(sample("pg2"), &operator{})
	c.logs = p
	server := httptest.NewServer(c)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/logs?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer secret")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out := bufio.NewScanner(resp.Body)
	for _, want := range []string{`"first"`, `"now"`, `"second"`} {
		for found := false; !found; {
			if !out.Scan() {
				t.Fatalf("no %s: %v", want, out.Err())
			}
			found = strings.Contains(out.Text(), want)
		}
		if want == `"now"` {
			p.add(LogLine{At: time.Now(), Text: "second"})
		}
	}
}

func TestNewestOf(t *testing.T) {
	l := LogLine{Text: strings.Repeat("x", logMost/4)}
	if got := newestOf([]LogLine{l, l, l, l, l, {Text: "y"}}); len(got) != 4 {
		t.Errorf("%d lines", len(got))
	}
}
