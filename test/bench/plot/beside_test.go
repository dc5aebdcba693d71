package plot

import (
	"strings"
	"testing"
	"time"
)

// TestBeside: ten times as long is one step to the right, and every stack has its median.
func TestBeside(t *testing.T) {
	b := Beside{Title: "a & b", Groups: []Rows{
		{"power loss", []Group{{Name: "one", Outages: []time.Duration{900 * time.Millisecond, time.Second}}, {Name: "two", Outages: []time.Duration{32 * time.Second}}}},
		{"nothing measured", []Group{{Name: "one"}}},
	}}
	s := b.scale(0, 300)
	if s.from != 2 || s.to != 5 || s.at(power(10*time.Second))-s.at(power(time.Second)) != 100 {
		t.Errorf("the scale is %+v", s)
	}
	svg := string(b.SVG())
	for _, want := range []string{"a &amp; b", "one: 0.95 s", "two: 32.00 s", ">100ms<", ">1m40s<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
	if n := strings.Count(svg, "<circle"); n != 3 {
		t.Errorf("%d dots for three measurements", n)
	}
}
