package plot

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mark is something that happened at a time.
type Mark struct {
	At   time.Duration
	Text string
}

// Timeline is one failover: commits over time, with what the history says about each step. Times are since the fault.
type Timeline struct {
	Title   string
	Note    string        // in small print below the title
	From    time.Duration // of the first bin, usually below 0
	Bin     time.Duration
	Commits []int // acknowledged in each bin
	OutFrom time.Duration
	OutTo   time.Duration // between these, no commit was acknowledged
	Marks   []Mark
}

// rowHeight is the distance of the rows that labels are spread over.
const rowHeight = 18.0

// SVG draws the timeline.
func (t Timeline) SVG() []byte {
	marks := spread(t.Marks, t.scale())
	rows := 0
	for _, m := range marks {
		rows = max(rows, m.row+1)
	}
	top := 66 + float64(rows)*rowHeight + 10
	bottom := top + 170
	c := &canvas{height: bottom + 48}
	c.text("title", "start", margin, 32, "%s", t.Title)
	c.text("dim", "start", margin, 52, "%s", t.Note)
	x := t.scale()
	c.rect("out", x.at(ms(t.OutFrom)), top, x.at(ms(t.OutTo))-x.at(ms(t.OutFrom)), bottom-top)
	t.axes(c, x, top, bottom)
	t.bars(c, x, top, bottom)
	for _, m := range marks {
		y := 66 + float64(m.row)*rowHeight
		class := "step"
		if m.lead {
			class = "lead"
		}
		c.line(class, m.x, y+4, m.x, bottom)
		c.text("mark", m.anchor, m.textX, y, "%s", m.Text)
	}
	middle := (x.at(ms(t.OutFrom)) + x.at(ms(t.OutTo))) / 2
	c.text("title", "middle", middle, top+(bottom-top)/2, "%.0f ms", ms(t.OutTo-t.OutFrom))
	c.text("dim", "middle", middle, top+(bottom-top)/2+17, "no commit")
	return c.svg(fmt.Sprintf("%s: writes were out for %.0f ms", t.Title, ms(t.OutTo-t.OutFrom)))
}

func (t Timeline) scale() scale {
	to := t.From + time.Duration(len(t.Commits))*t.Bin
	return scale{ms(t.From), ms(to), margin + 34, width - margin}
}

func (t Timeline) axes(c *canvas, x scale, top, bottom float64) {
	y := scale{0, float64(max(slices.Max(t.Commits), 1)), bottom, top}
	for _, v := range y.ticks(4) {
		c.line("grid", x.x1, y.at(v), x.x2, y.at(v))
		c.text("dim", "end", x.x1-6, y.at(v)+4, "%.0f", v)
	}
	for _, v := range x.ticks(10) {
		c.text("dim", "middle", x.at(v), bottom+18, "%.0f", v)
	}
	c.text("dim", "end", x.x2, bottom+36, "milliseconds after the fault")
	c.text("dim", "start", x.x1, bottom+36, "acknowledged commits in each %.0f ms", ms(t.Bin))
}

func (t Timeline) bars(c *canvas, x scale, top, bottom float64) {
	y := scale{0, float64(max(slices.Max(t.Commits), 1)), bottom, top}
	step := x.at(ms(t.Bin)) - x.at(0)
	for i, n := range t.Commits {
		if n > 0 {
			left := x.at(ms(t.From + time.Duration(i)*t.Bin))
			c.rect("bar", left+0.5, y.at(float64(n)), max(step-1, 0.5), bottom-y.at(float64(n)))
		}
	}
}

// placed is a mark with its label's place.
type placed struct {
	Mark
	x, textX float64
	anchor   string
	row      int
	lead     bool // the fault itself
}

// spread puts labels into rows so that none covers another and no line crosses a label. A line reaches from its label down,
// and a label stands right of its line; so from left to right each finds the uppermost row that is free for it. Labels that
// would leave the picture on the right stand left of their lines instead, and are placed first, from right to left.
func spread(marks []Mark, x scale) []placed {
	marks = together(marks)
	out := make([]placed, 0, len(marks))
	limit := width - margin
	first := len(marks) // of those that stand left of their lines
	for ; first > 0; first-- {
		p := place(marks[first-1], x)
		if p.right() <= limit {
			break
		}
		p.anchor, p.textX = "end", p.x-5
		limit = p.x // a label that reached beyond it would be crossed by its line
		out = append(out, p.settle(out))
	}
	for _, m := range marks[:first] {
		out = append(out, place(m, x).settle(out))
	}
	return out
}

func place(m Mark, x scale) placed {
	at := x.at(ms(m.At))
	return placed{Mark: m, x: at, textX: at + 5, anchor: "start", lead: m.At == 0}
}

// settle moves the label down to the first row that is free.
func (p placed) settle(others []placed) placed {
	for overlaps(p, others) {
		p.row++
	}
	return p
}

func overlaps(p placed, others []placed) bool {
	for _, o := range others {
		if o.row == p.row && p.left() < o.right()+8 && o.left() < p.right()+8 {
			return true
		}
		if o.row > p.row && p.x > o.left()-3 && p.x < o.right()+3 {
			return true // the line would cross the other's text
		}
	}
	return false
}

func (p placed) left() float64 {
	if p.anchor == "end" {
		return p.textX - textWidth(p.Text)
	}
	return p.x
}

func (p placed) right() float64 {
	if p.anchor == "end" {
		return p.x
	}
	return p.textX + textWidth(p.Text)
}

// together sorts the marks and joins the ones of the same millisecond into one label.
func together(marks []Mark) []Mark {
	marks = slices.Clone(marks)
	slices.SortStableFunc(marks, func(a, b Mark) int { return int(a.At - b.At) })
	var out []Mark
	for _, m := range marks {
		if n := len(out); n > 0 && out[n-1].At.Round(time.Millisecond) == m.At.Round(time.Millisecond) {
			out[n-1].Text = strings.Join([]string{out[n-1].Text, m.Text}, ", ")
			continue
		}
		out = append(out, m)
	}
	return out
}
