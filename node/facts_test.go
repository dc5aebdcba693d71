package node

import (
	"log/slog"
	"strings"
	"testing"
)

// TestLastLines: a supporter gets the end of what this member has logged, oldest first, and no more than there is room for.
func TestLastLines(t *testing.T) {
	n := &Node{}
	if got := n.lastLines(); got != "" {
		t.Errorf("nothing was logged: %q", got)
	}
	log := slog.New(n.lines.Tee(slog.DiscardHandler))
	log.Info("not written, so not kept")
	log = slog.New(n.lines.Tee(slog.NewTextHandler(&strings.Builder{}, nil)))
	for range 10000 {
		log.Info("one", "of", strings.Repeat("many ", 20))
	}
	log.Warn("the last but one")
	log.Error("the last")
	got := n.lastLines()
	if len(got) > lastLogged+200 || len(got) < lastLogged/2 {
		t.Errorf("%d bytes", len(got))
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if last := lines[len(lines)-1]; !strings.HasSuffix(last, " error the last") || !strings.HasSuffix(lines[len(lines)-2], " warn  the last but one") {
		t.Errorf("the end: %q", lines[len(lines)-2:])
	}
}
