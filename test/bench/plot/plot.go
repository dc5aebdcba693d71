// Package plot draws the two pictures of the benchmarks as SVG: one failover as its clients saw it, and the write outages
// of all of them. A picture brings its own background and colours for light and for dark pages (prefers-color-scheme), so
// that it can be read on both, and needs no script and no font beyond the reader's own.
package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

const (
	width  = 860.0
	margin = 24.0
	font   = 13.0
	// glyph is the width of an average character in the reader's sans-serif font, for keeping labels apart.
	glyph = 0.56
)

const style = `<style>
svg{--page:#fff;--ink:#1f2328;--dim:#59636e;--grid:#d8dee4;--bar:#1f6feb;--out:#fff1c4;--mark:#9a3412}
@media (prefers-color-scheme:dark){svg{--page:#0d1117;--ink:#e6edf3;--dim:#9ba4af;--grid:#30363d;--bar:#58a6ff;--out:#4a3a10;--mark:#f0a35e}}
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
.title{font-size:16px;font-weight:600}.dim{fill:var(--dim)}.mark{fill:var(--mark)}
.grid{stroke:var(--grid)}.step{stroke:var(--mark);stroke-dasharray:3 3}.lead{stroke:var(--mark);stroke-width:2}
.bar{fill:var(--bar)}.out{fill:var(--out)}.range{stroke:var(--bar);stroke-width:3;stroke-linecap:round;opacity:.35}.dot{fill:var(--bar);opacity:.75}
.median{stroke:var(--ink);stroke-width:2.5}.goal{stroke:var(--mark);stroke-dasharray:3 3}
</style>
`

// canvas collects the elements of one picture.
type canvas struct {
	strings.Builder
	height float64
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(c, "<line class=%q x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1, y1, x2, y2)
}

func (c *canvas) rect(class string, x, y, w, h float64) {
	fmt.Fprintf(c, "<rect class=%q x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", class, x, y, w, h)
}

func (c *canvas) dot(x, y float64) {
	fmt.Fprintf(c, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n", x, y)
}

// text anchors at "start", "middle" or "end".
func (c *canvas) text(class, anchor string, x, y float64, format string, args ...any) {
	fmt.Fprintf(c, "<text class=%q text-anchor=%q x=\"%.1f\" y=\"%.1f\">%s</text>\n", class, anchor, x, y, html.EscapeString(fmt.Sprintf(format, args...)))
}

// svg is the finished picture; alt is read out in its place.
func (c *canvas) svg(alt string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n%s", width, c.height, html.EscapeString(alt), style)
	fmt.Fprintf(&b, "<rect width=\"100%%\" height=\"100%%\" rx=\"8\" style=\"fill:var(--page)\"/>\n%s</svg>\n", c.String())
	return []byte(b.String())
}

// scale maps values onto the picture.
type scale struct{ from, to, x1, x2 float64 }

func (s scale) at(v float64) float64 { return s.x1 + (v-s.from)/(s.to-s.from)*(s.x2-s.x1) }

// ticks are round values within the scale, about n of them.
func (s scale) ticks(n int) []float64 {
	step := nice((s.to - s.from) / float64(n))
	var out []float64
	for v := math.Ceil(s.from/step) * step; v <= s.to+step/1e6; v += step {
		out = append(out, v)
	}
	return out
}

// nice rounds up to 1, 2 or 5 times a power of ten.
func nice(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if v <= f*power {
			return f * power
		}
	}
	return 10 * power
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// textWidth estimates how wide a label will be.
func textWidth(s string) float64 { return float64(len([]rune(s))) * font * glyph }
