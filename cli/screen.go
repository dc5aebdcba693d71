package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/playground/demo"
)

func progress(text string) api.Progress { return api.Progress{Text: text} }

// screen shows the demo: on a terminal a few lines that are drawn again and again below a list of events; in a pipe a
// plain line for each event and each second.
type screen struct {
	out   io.Writer
	style style
	began time.Time
	last  time.Time // of the last plain line
	lines int       // on the terminal now, to be drawn over
	frame demo.Frame
}

func newScreen(out io.Writer, s style) *screen { return &screen{out: out, style: s, began: time.Now()} }

func (s *screen) stamp() string { return fmt.Sprintf("%6.1f s", time.Since(s.began).Seconds()) }

// Event implements demo.Screen.
func (s *screen) Event(text string) {
	if !s.style.terminal {
		fmt.Fprintf(s.out, "%s  %s\n", s.stamp(), text)
		return
	}
	s.erase()
	fmt.Fprintf(s.out, "%s  %s\n", s.style.dim(s.stamp()), text)
	s.draw()
}

// Frame implements demo.Screen.
func (s *screen) Frame(f demo.Frame) {
	s.frame = f
	if s.style.terminal {
		s.erase()
		s.draw()
		return
	}
	if time.Since(s.last) >= time.Second {
		s.last = time.Now()
		fmt.Fprintf(s.out, "%s  primary %s, %d commits/s\n", s.stamp(), primaryText(f.State), f.PerSecond)
	}
}

func primaryText(s cluster.State) string {
	if s.Primary == "" {
		return fmt.Sprintf("none (term %d is electing)", s.Term)
	}
	return fmt.Sprintf("%s (term %d)", s.Primary, s.Term)
}

func (s *screen) erase() {
	if s.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\r\x1b[J", s.lines)
		s.lines = 0
	}
}

func (s *screen) draw() {
	width := min(s.style.width, 100) - 1
	var members []string
	for _, m := range s.frame.Members {
		switch m {
		case s.frame.State.Primary:
			members = append(members, s.style.good("● "+m+" primary"))
		case s.frame.Down:
			members = append(members, s.style.bad("✗ "+m))
		default:
			members = append(members, s.style.dim("○ "+m))
		}
	}
	label := fmt.Sprintf("%5d commits/s ", s.frame.PerSecond)
	text := []string{
		"",
		"  " + strings.Join(members, "   ") + s.style.dim(fmt.Sprintf("   term %d", s.frame.State.Term)),
		"  " + s.style.bold(label) + s.spark(width-len(label)-3),
		"",
	}
	for _, l := range text {
		fmt.Fprintf(s.out, "%s\n", l)
	}
	s.lines = len(text)
}

// spark draws the newest buckets, a bar each; a bucket without a commit is a red dot, so that an outage can be counted.
func (s *screen) spark(width int) string {
	rate := s.frame.Rate[max(0, len(s.frame.Rate)-width):]
	top := 1
	for _, n := range rate {
		top = max(top, n)
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, n := range rate {
		if n == 0 {
			b.WriteString(s.style.bad("·"))
			continue
		}
		b.WriteString(s.style.good(string(bars[(n*len(bars)-1)/(top+1)])))
	}
	return b.String()
}

// end leaves the last frame where it is.
func (s *screen) end() { s.lines = 0 }
