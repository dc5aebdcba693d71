package ops

import (
	"slices"
	"testing"
)

func TestDrained(t *testing.T) {
	for _, c := range []struct {
		was  []string
		name string
		on   bool
		want []string
	}{
		{nil, "pg2", true, []string{"pg2"}},
		{[]string{"pg3"}, "pg2", true, []string{"pg2", "pg3"}},
		{[]string{"pg2", "pg3"}, "pg2", true, []string{"pg2", "pg3"}},
		{[]string{"pg2", "pg3"}, "pg2", false, []string{"pg3"}},
		{[]string{"pg2"}, "pg2", false, nil},
		{nil, "pg2", false, nil},
	} {
		if got := drained(c.was, c.name, c.on); !slices.Equal(got, c.want) {
			t.Errorf("%v, %s %v: %v, want %v", c.was, c.name, c.on, got, c.want)
		}
	}
}
