package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const milli = time.Millisecond

func sample() Timeline {
	t := Timeline{
		Title: "The primary's postmaster is killed", Note: "4 clients & <one> row each", From: -200 * milli, Bin: 10 * milli,
		OutFrom: -2 * milli, OutTo: 96 * milli,
		Marks: []Mark{
			{0, "SIGKILL"}, {3 * milli, "suspected by pg1"}, {9 * milli, "electing"}, {22 * milli, "pg2 reports"}, {24 * milli, "elected pg2"},
			{61 * milli, "promoted"}, {61*milli + 200*time.Microsecond, "reigning"}, {88 * milli, "admitted"}, {395 * milli, "pg1 attached again"},
		},
	}
	for i := range 60 {
		n := 7 + i%3
		if i >= 20 && i < 30 {
			n = 0
		}
		t.Commits = append(t.Commits, n)
	}
	return t
}

// wellFormed reads a picture as XML and returns the texts in it.
func wellFormed(t *testing.T, svg []byte) []string {
	t.Helper()
	var texts []string
	d, inside := xml.NewDecoder(bytes.NewReader(svg)), false
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			inside = tok.Name.Local == "text"
		case xml.CharData:
			if inside {
				texts = append(texts, string(tok))
			}
		case xml.EndElement:
			inside = false
		}
	}
}

// keep writes the picture where PLOT_OUT says, to be looked at.
func keep(t *testing.T, name string, svg []byte) {
	if dir := os.Getenv("PLOT_OUT"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name), svg, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTimeline(t *testing.T) {
	svg := sample().SVG()
	keep(t, "failover.svg", svg)
	texts := wellFormed(t, svg)
	for _, want := range []string{"4 clients & <one> row each", "SIGKILL", "promoted, reigning", "98 ms", "pg1 attached again"} {
		found := false
		for _, s := range texts {
			found = found || s == want
		}
		if !found {
			t.Errorf("%q is not in the picture: %q", want, texts)
		}
	}
	if bars := bytes.Count(svg, []byte(`class="bar"`)); bars != 50 {
		t.Errorf("%d bars for 50 bins with commits", bars)
	}
}

// TestLabelsApart: no label covers another or is crossed by another's line, however close the steps are.
func TestLabelsApart(t *testing.T) {
	tl := sample()
	for i := range 12 {
		tl.Marks = append(tl.Marks, Mark{time.Duration(30+2*i) * milli, "one more step of many"})
	}
	marks := spread(tl.Marks, tl.scale())
	for i, m := range marks {
		if m.left() < 0 || m.right() > width {
			t.Errorf("%q leaves the picture: %.0f to %.0f", m.Text, m.left(), m.right())
		}
		for _, o := range marks[i+1:] {
			if m.row == o.row && m.left() < o.right() && o.left() < m.right() {
				t.Errorf("%q covers %q", m.Text, o.Text)
			}
			if o.row < m.row && o.x > m.left() && o.x < m.right() {
				t.Errorf("the line of %q crosses %q", o.Text, m.Text)
			}
		}
	}
}

func TestOutages(t *testing.T) {
	o := Outages{Title: "Write outages", Note: "20 of each", Groups: []Group{
		{"postmaster killed", []time.Duration{90 * milli, 70 * milli, 120 * milli}, 300 * milli},
		{"node frozen", []time.Duration{870 * milli, 930 * milli}, 1200 * milli},
		{"nothing measured", nil, 0},
	}}
	svg := o.SVG()
	keep(t, "outages.svg", svg)
	texts := wellFormed(t, svg)
	if !contains(texts, "90 ms (70 to 120)") || !contains(texts, "900 ms (870 to 930)") {
		t.Errorf("the figures are not in the picture: %q", texts)
	}
	if dots := bytes.Count(svg, []byte(`class="dot"`)); dots != 5 {
		t.Errorf("%d dots for 5 outages", dots)
	}
}

func contains(texts []string, want string) bool {
	for _, s := range texts {
		if s == want {
			return true
		}
	}
	return false
}

func TestTicks(t *testing.T) {
	for _, q := range []struct {
		s     scale
		n     int
		first float64
		count int
	}{
		{scale{-200, 400, 0, 1}, 10, -200, 7}, {scale{0, 7, 0, 1}, 4, 0, 4}, {scale{0, 1260, 0, 1}, 8, 0, 7},
	} {
		got := q.s.ticks(q.n)
		if len(got) != q.count || got[0] != q.first {
			t.Errorf("%+v: %v", q.s, got)
		}
	}
}

func TestMedian(t *testing.T) {
	if m := Median([]time.Duration{3, 1, 2}); m != 2 {
		t.Errorf("of three: %d", m)
	}
	if m := Median([]time.Duration{1, 2, 4, 100}); m != 3 {
		t.Errorf("of four: %d", m)
	}
	if m := Median(nil); m != 0 {
		t.Errorf("of none: %d", m)
	}
}
