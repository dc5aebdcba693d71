package plot

import (
	"math"
	"slices"
	"time"
)

// Rows are several stacks under one kind of fault.
type Rows struct {
	Name string
	Rows []Group // Goal is not drawn
}

// Beside compares stacks that lie far apart, on a logarithmic scale: every measurement a dot, the median a line.
type Beside struct {
	Title  string
	Note   string
	Groups []Rows
}

// SVG draws the comparison.
func (b Beside) SVG() []byte {
	const top, row, head, left = 74.0, 24.0, 30.0, 330.0
	bottom := top
	for _, g := range b.Groups {
		bottom += head + row*float64(len(g.Rows))
	}
	c := &canvas{height: bottom + 46}
	c.text("title", "start", margin, 32, "%s", b.Title)
	c.text("dim", "start", margin, 52, "%s", b.Note)
	x := b.scale(left, width-margin-10)
	for v := x.from; v <= x.to+1e-9; v++ {
		c.line("grid", x.at(v), top, x.at(v), bottom)
		c.text("dim", "middle", x.at(v), bottom+18, "%v", time.Duration(math.Round(math.Pow(10, v)))*time.Millisecond)
	}
	c.text("dim", "end", x.x2, bottom+36, "without an acknowledged commit")
	y := top
	for _, g := range b.Groups {
		c.text("", "start", margin, y+head-10, "%s", g.Name)
		y += head
		for _, r := range g.Rows {
			r.logarithmic(c, x, y+row/2)
			y += row
		}
	}
	return c.svg(b.Title)
}

// scale spans whole powers of ten of milliseconds.
func (b Beside) scale(x1, x2 float64) scale {
	s := scale{2, 3, x1, x2}
	for _, g := range b.Groups {
		for _, r := range g.Rows {
			for _, d := range r.Outages {
				s.from, s.to = min(s.from, math.Floor(power(d))), max(s.to, math.Ceil(power(d)))
			}
		}
	}
	return s
}

// power is the decimal logarithm of milliseconds; an outage of less than one counts as one.
func power(d time.Duration) float64 { return math.Log10(max(1, ms(d))) }

func (g Group) logarithmic(c *canvas, x scale, y float64) {
	if len(g.Outages) == 0 {
		return
	}
	v := slices.Sorted(slices.Values(g.Outages))
	median := Median(v)
	c.text("dim", "start", margin+16, y+5, "%s: %.2f s", g.Name, median.Seconds())
	c.line("range", x.at(power(v[0])), y, x.at(power(v[len(v)-1])), y)
	for _, d := range v {
		c.dot(x.at(power(d)), y)
	}
	c.line("median", x.at(power(median)), y-9, x.at(power(median)), y+9)
}
