package router

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// heard collects what is logged.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// TestSessionsAreLogged, if that is asked for: who, where, how long, who ended it. Of many in a moment some are counted only.
func TestSessionsAreLogged(t *testing.T) {
	var h heard
	s := newFake(t, "pg1")
	g := newRig(t, Config{Log: slog.New(slog.NewTextHandler(&h, nil))}, s)
	g.to("pg1")
	quiet := g.login(WriteSide)
	quiet.ready()
	quiet.Close()

	limits := g.Limits()
	limits.LogSessions = true
	if err := g.SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	c := g.login(WriteSide)
	c.ready()
	from := c.LocalAddr().String()
	c.Close()
	eventually(t, "the client's end is logged", func() bool { return strings.Contains(h.String(), "session ended") })
	if got := h.String(); !strings.Contains(got, "client="+from+" server=pg1 side=write took=") || !strings.Contains(got, `by="the client"`) {
		t.Errorf("got %s", got)
	}
	cut := g.login(WriteSide)
	cut.ready()
	g.to("pg2")
	eventually(t, "a cut is logged", func() bool { return strings.Contains(h.String(), `by="the router: pg1 is no longer the primary`) })
	if n := strings.Count(h.String(), "session ended"); n != 2 {
		t.Errorf("%d sessions are logged:\n%s", n, &h)
	}
}

// TestManySessionsAreCounted: the loops never wait for the log, and nothing is lost without being counted.
func TestManySessionsAreCounted(t *testing.T) {
	var h heard
	r := &Router{cfg: Config{Log: slog.New(slog.NewTextHandler(&h, nil))}, told: make(chan *stay, toldAhead)}
	for range toldAhead + 7 {
		r.tell(&stay{ending: "x"}, time.Now())
	}
	if n := r.untold.Load(); n != 7 {
		t.Errorf("%d could not be handed over, want 7", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.tellStays(ctx) }()
	eventually(t, "all are taken", func() bool { return uint64(strings.Count(h.String(), "session ended"))+r.untold.Load() == toldAhead+7 })
	cancel()
	<-done
	if n := strings.Count(h.String(), "session ended"); n < toldBurst || n > toldAhead-1 {
		t.Errorf("%d are logged one by one, want about %d", n, toldBurst)
	}
}
