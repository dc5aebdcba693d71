package client

import (
	"testing"
	"time"

	"standfast/api"
)

// TestMark: what was told before a member was lost is not told again when it is asked from there on; what is a little late is told.
func TestMark(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 0, 0, s, 0, time.UTC) }
	m := mark{since: at(0), at: map[api.LogLine]bool{}}
	for i, c := range []struct {
		second int
		text   string
		want   bool
	}{
		{1, "a", true}, {3, "b", true}, {3, "c", true}, {2, "late", true}, // lost, and asked again from 3 on:
		{3, "b", false}, {3, "c", false}, {3, "d", true}, {4, "a", true}, {4, "a", false},
	} {
		if got := m.take(api.LogLine{At: at(c.second), Text: c.text}); got != c.want {
			t.Errorf("%d: %v of %+v", i, got, c)
		}
	}
	if !m.since.Equal(at(4)) {
		t.Errorf("asked again from %v on", m.since)
	}
}
