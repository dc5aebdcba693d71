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

// diary is Events that a test adds to.
type diary struct {
	mu   sync.Mutex
	all  []Event
	more chan struct{}
}

func (d *diary) After(n uint64) ([]Event, uint64, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.more == nil {
		d.more = make(chan struct{})
	}
	return append([]Event{}, d.all[n:]...), uint64(len(d.all)), d.more
}

func (d *diary) add(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, e)
	if d.more != nil {
		close(d.more)
		d.more = nil
	}
}

func TestEvents(t *testing.T) {
	d := &diary{all: []Event{{ID: "old", At: time.Now().Add(-time.Hour)}, {ID: "new", At: time.Now()}}}
	c, _ := changer(sample("pg2"), &operator{})
	c.events = d
	if w := send(c, "GET", "/events?since=30m", ""); w.Code != 200 || strings.Contains(w.Body.String(), `"old"`) || !strings.Contains(w.Body.String(), `"new"`) {
		t.Errorf("since: %d %s", w.Code, w.Body)
	}
	if w := send(c, "GET", "/events", ""); strings.Count(w.Body.String(), `"event"`) != 2 {
		t.Errorf("all: %s", w.Body)
	}
	if w := send(c, "GET", "/events?since=tomorrow", ""); w.Code != 400 || !strings.Contains(w.Body.String(), "neither a duration") {
		t.Errorf("a since that is none: %d %s", w.Code, w.Body)
	}
	if w := send(c, "GET", "/events", "", "Authorization", "Bearer wrong"); w.Code != 401 || strings.Contains(w.Body.String(), "new") {
		t.Errorf("without the token: %d %s", w.Code, w.Body)
	}
	plain := httptest.NewRecorder()
	s := &Server{health: c.health}
	if s.servePlain(plain, httptest.NewRequest("GET", "/events", nil)); plain.Code != 403 {
		t.Errorf("without TLS: %d", plain.Code)
	}
}

// TestFollow: who follows is sent what is kept and what comes; there are not too many of them, and a place is free again.
func TestFollow(t *testing.T) {
	d := &diary{all: []Event{{ID: "first", At: time.Now()}}}
	c, _ := changer(sample("pg2"), &operator{})
	c.events = d
	server := httptest.NewServer(c)
	defer server.Close()
	follow := func() (*http.Response, *json.Decoder) {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/events?follow=true", nil)
		r.Header.Set("Authorization", "Bearer secret")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp, json.NewDecoder(bufio.NewReader(resp.Body))
	}
	next := func(lines *json.Decoder) string {
		t.Helper()
		for {
			var l EventLine
			if err := lines.Decode(&l); err != nil {
				t.Fatal(err)
			}
			if l.Event != nil {
				return l.Event.ID
			}
		}
	}
	resp, lines := follow()
	if id := next(lines); id != "first" {
		t.Errorf("got %s", id)
	}
	d.add(Event{ID: "second", At: time.Now()})
	if id := next(lines); id != "second" {
		t.Errorf("got %s", id)
	}
	open := []*http.Response{resp}
	for range mostFollowers - 1 {
		r, _ := follow()
		open = append(open, r)
	}
	over, _ := follow()
	over.Body.Close()
	if over.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", over.StatusCode)
	}
	for _, r := range open {
		r.Body.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); c.followers.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if d.add(Event{ID: "news", At: time.Now()}); time.Now().After(deadline) {
			t.Fatalf("%d places are taken still", c.followers.Load())
		}
	}
}

// TestAudit: what was asked for is told with who asked and how it ended; a dry run is not.
func TestAudit(t *testing.T) {
	var told []Audited
	ops := &operator{steps: []Progress{{Text: "paused until noon"}}}
	c, _ := changer(sample("pg2"), ops)
	c.audit = func(a Audited) { told = append(told, a) }
	send(c, "POST", "/pause", `{"for":"30m"}`)
	send(c, "POST", "/switchover", `{"dry_run":true}`)
	send(c, "POST", "/pause", `{"for":"30m"}`, "Authorization", "Bearer wrong")
	ops.err = Errorf(Conflict, "not now")
	send(c, "PATCH", "/config", `{"lease":"5s"}`)
	if len(told) != 2 || told[0].What != "pause" || told[0].Operator != "anna" || told[0].Steps[0] != "paused until noon" || told[0].Err != nil ||
		told[1].Err == nil || strings.Contains(told[1].Body, "lease") {
		t.Errorf("told %+v", told)
	}
}

// TestSalvage: for whoever has the token, one at a time.
func TestSalvage(t *testing.T) {
	c, _ := changer(sample("pg2"), &operator{})
	if w := send(c, "GET", "/salvage", ""); w.Code != 404 {
		t.Errorf("a witness: %d", w.Code)
	}
	c.salvage = func(context.Context) ([]Salvaged, error) {
		if w := send(c, "GET", "/salvage", ""); w.Code != 409 {
			t.Errorf("a second one: %d", w.Code)
		}
		return nil, nil
	}
	if w := send(c, "GET", "/salvage", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("nothing: %d %s", w.Code, w.Body)
	}
	if w := send(c, "GET", "/salvage", "", "Authorization", "Bearer wrong"); w.Code != 401 {
		t.Errorf("without the token: %d", w.Code)
	}
}

// TestSupport: for whoever has the token, over TLS.
func TestSupport(t *testing.T) {
	c, _ := changer(sample("pg2"), &operator{})
	if w := send(c, "GET", "/support", ""); w.Code != 404 {
		t.Errorf("nothing to give: %d", w.Code)
	}
	c.support = func(context.Context) any { return map[string]string{"member": "pg2"} }
	if w := send(c, "GET", "/support", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"pg2"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(c, "GET", "/support", "", "Authorization", "Bearer wrong"); w.Code != 401 {
		t.Errorf("without the token: %d", w.Code)
	}
	if !guardedPaths["/support"] {
		t.Error("it is given without TLS")
	}
}
