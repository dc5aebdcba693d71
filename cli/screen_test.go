package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"standfast/cluster"
	"standfast/playground/demo"
)

func TestSparkShowsTheOutage(t *testing.T) {
	s := &screen{}
	s.frame.Rate = []int{100, 50, 0, 0, 0, 100}
	if got := s.spark(80); got != "█▄···█" {
		t.Errorf("%q", got)
	}
	if got := s.spark(3); got != "··█" {
		t.Errorf("the newest must stay: %q", got)
	}
}

func TestScreenFitsAndDrawsOver(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b, style{terminal: true, width: 80})
	f := demo.Frame{State: cluster.State{Primary: "pg1", Term: 2}, Members: []string{"pg1", "pg2", "pg3"}, PerSecond: 12345, Rate: make([]int, 500)}
	s.Frame(f)
	for _, line := range strings.Split(b.String(), "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	b.Reset()
	s.Event("pg1 is gone")
	if !strings.HasPrefix(b.String(), "\x1b[4A\r\x1b[J") {
		t.Errorf("the frame is not drawn over: %q", b.String())
	}
}

func TestScreenInAPipeIsPlain(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b, style{width: 100})
	s.Event("begin")
	s.Frame(demo.Frame{State: cluster.State{Primary: "pg1", Term: 2}, PerSecond: 7})
	s.Frame(demo.Frame{State: cluster.State{Term: 3}}) // within the same second
	if got := b.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 2 || !strings.Contains(got, "primary pg1 (term 2), 7 commits/s") {
		t.Errorf("%q", got)
	}
}
