package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"standfast/api"
)

// teller is a member that tells events: what it knows at once, and what comes; it can be cut.
type teller struct {
	*httptest.Server
	mu    sync.Mutex
	known []string // IDs
	cut   chan struct{}
}

func newTeller(t *testing.T, known ...string) *teller {
	m := &teller{known: known, cut: make(chan struct{})}
	m.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		ids, cut := m.known, m.cut
		m.mu.Unlock()
		for _, id := range ids {
			_ = json.NewEncoder(w).Encode(api.EventLine{Event: &api.Event{ID: id, At: time.UnixMilli(int64(len(id)))}})
		}
		_ = json.NewEncoder(w).Encode(api.EventLine{Now: time.Now()})
		if r.URL.Query().Get("follow") == "true" {
			w.(http.Flusher).Flush()
			select {
			case <-cut:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(m.Server.Close)
	return m
}

// TestFollowEvents: each event comes once though all tell it, and a connection that breaks is made again without a gap.
func TestFollowEvents(t *testing.T) {
	a, b := newTeller(t, "1", "22"), newTeller(t, "22", "333")
	pool := a.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	pool.AddCert(b.Certificate())
	c, err := New([]string{strings.TrimPrefix(a.URL, "https://"), strings.TrimPrefix(b.URL, "https://"), "127.0.0.1:1"}, &tls.Config{RootCAs: pool}, "token")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, failed, err := c.Events(t.Context(), time.Time{})
	if err != nil || len(failed) != 1 || len(all) != 3 || all[2].ID != "333" {
		t.Fatalf("%v, failed %v, %v", all, failed, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	_ = c.FollowEvents(ctx, time.Time{}, func(e api.Event) {
		switch got = append(got, e.ID); e.ID {
		case "333":
			b.mu.Lock()
			b.known = append(b.known, "4444")
			close(b.cut)
			b.cut = make(chan struct{})
			b.mu.Unlock()
		case "4444":
			cancel()
		}
	}, func(string, error) {})
	if want := []string{"1", "22", "333", "4444"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
