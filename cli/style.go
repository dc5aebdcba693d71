package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"standfast/api"

	"golang.org/x/term"
)

// style knows what one stream can show: colour only on a terminal, and not with NO_COLOR (no-color.org) or --no-color.
type style struct {
	colour   bool
	terminal bool
	width    int
}

func styleOf(w io.Writer, noColor bool) style {
	s := style{width: 100}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return s
	}
	s.terminal = true
	s.colour = !noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		s.width = width
	}
	return s
}

func (s style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) good(t string) string { return s.paint("32", t) }
func (s style) warn(t string) string { return s.paint("33", t) }
func (s style) bad(t string) string  { return s.paint("31", t) }
func (s style) bold(t string) string { return s.paint("1", t) }
func (s style) dim(t string) string  { return s.paint("2", t) }

// wrap breaks a sentence at the width; later lines are indented.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	col := 0
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case col+1+n > width:
			b.WriteString("\n" + indent)
			col = utf8.RuneCountInString(indent)
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(word)
		col += n
	}
	return b.String()
}

// steps shows the progress of an operation on standard error: on a terminal one line that is written again and again, with
// the time it has taken; in a pipe a plain line for each step.
type steps struct {
	out      io.Writer
	style    style
	began    time.Time
	done     chan struct{}
	finished sync.WaitGroup

	mu   sync.Mutex
	last string
	rate meter
}

func (a *app) steps() *steps {
	s := &steps{out: a.stderr, style: a.err, began: time.Now(), done: make(chan struct{})}
	if s.style.terminal {
		s.finished.Go(s.animate)
	}
	return s
}

// show takes the next step.
func (s *steps) show(p api.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := p.Text
	if p.Bytes > 0 {
		text += ": " + s.rate.text(p.Bytes, p.Total, time.Now())
	}
	if text == s.last {
		return
	}
	s.last = text
	if s.style.terminal {
		s.draw()
		return
	}
	fmt.Fprintln(s.out, text)
}

func (s *steps) draw() {
	line := fmt.Sprintf("%s (%s)", s.last, time.Since(s.began).Round(100*time.Millisecond))
	if utf8.RuneCountInString(line) >= s.style.width {
		line = string([]rune(line)[:s.style.width-1])
	}
	fmt.Fprintf(s.out, "\r\x1b[K%s", s.style.dim(line))
}

func (s *steps) animate() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			fmt.Fprint(s.out, "\r\x1b[K")
			return
		case <-tick.C:
			s.mu.Lock()
			if s.last != "" {
				s.draw()
			}
			s.mu.Unlock()
		}
	}
}

// above writes a line that stays, over the one that is written again and again.
func (s *steps) above(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.style.terminal {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
	fmt.Fprintln(s.out, text)
	if s.style.terminal && s.last != "" {
		s.draw()
	}
}

// end removes the live line.
func (s *steps) end() {
	close(s.done)
	s.finished.Wait()
}

// meter tells how fast bytes come.
type meter struct {
	began       time.Time
	first, last int64
}

func (m *meter) text(bytes, total int64, now time.Time) string {
	if m.began.IsZero() || bytes < m.last { // another step has begun
		m.began, m.first = now, bytes
	}
	m.last = bytes
	out := human(bytes)
	if total > 0 {
		out += " of " + human(total)
	}
	if d := now.Sub(m.began); d > time.Second {
		out += fmt.Sprintf(", %s/s", human(int64(float64(bytes-m.first)/d.Seconds())))
	}
	return out
}

// human writes a number of bytes with three digits at most.
func human(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
