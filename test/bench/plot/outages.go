package plot

import (
	"fmt"
	"slices"
	"time"
)

// Group is the outages of one kind of fault.
type Group struct {
	Name    string
	Outages []time.Duration
	Goal    time.Duration // for the median
}

// Outages compares the kinds: every measurement a dot, the median a line.
type Outages struct {
	Title  string
	Note   string
	Groups []Group
}

// SVG draws the comparison.
func (o Outages) SVG() []byte {
	const top, row, left = 74.0, 46.0, 210.0
	bottom := top + row*float64(len(o.Groups))
	c := &canvas{height: bottom + 46}
	c.text("title", "start", margin, 32, "%s", o.Title)
	c.text("dim", "start", margin, 52, "%s", o.Note)
	x := scale{0, o.most(), left, width - margin - 10}
	for _, v := range x.ticks(8) {
		c.line("grid", x.at(v), top, x.at(v), bottom)
		c.text("dim", "middle", x.at(v), bottom+18, "%.0f", v)
	}
	c.text("dim", "end", x.x2, bottom+36, "milliseconds without an acknowledged commit · dashed: goal for the median")
	for i, g := range o.Groups {
		g.draw(c, x, top+row*(float64(i)+0.5))
	}
	return c.svg(o.Title)
}

func (o Outages) most() float64 {
	most := 1.0
	for _, g := range o.Groups {
		most = max(most, ms(g.Goal)*1.05)
		for _, d := range g.Outages {
			most = max(most, ms(d)*1.05)
		}
	}
	return most
}

func (g Group) draw(c *canvas, x scale, y float64) {
	if len(g.Outages) == 0 {
		return
	}
	v := slices.Sorted(slices.Values(g.Outages))
	median := Median(v)
	c.text("", "start", margin, y-3, "%s", g.Name)
	c.text("dim", "start", margin, y+14, "%.0f ms (%.0f to %.0f)", ms(median), ms(v[0]), ms(v[len(v)-1]))
	c.line("range", x.at(ms(v[0])), y, x.at(ms(v[len(v)-1])), y)
	for _, d := range v {
		c.dot(x.at(ms(d)), y)
	}
	c.line("median", x.at(ms(median)), y-12, x.at(ms(median)), y+12)
	if g.Goal > 0 {
		c.line("goal", x.at(ms(g.Goal)), y-16, x.at(ms(g.Goal)), y+16)
	}
}

// Median is the middle value, of an even number the mean of the two in the middle; 0 of none.
func Median(v []time.Duration) time.Duration {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// String is the group in words.
func (g Group) String() string {
	return fmt.Sprintf("%s: median %v of %d", g.Name, Median(g.Outages), len(g.Outages))
}
