package postgres

import (
	"testing"

	"standfast/cluster"
	"standfast/pgconf"
)

func TestChooseTimeline(t *testing.T) {
	known := map[cluster.Timeline]string{
		2: "1\t0/2000000\tx\n",
		3: pgconf.SkippedHistory,
		5: "1\t0/2000000\tx\n2\t0/3000000\tx\n",
		6: "1\t0/1000000\tleft before 2\n",
	}
	for name, c := range map[string]struct{ of, wanted, want cluster.Timeline }{
		"the newest that leads from here":       {of: 1, want: 6},
		"not one that has left before":          {of: 2, want: 5},
		"the one that is asked for":             {of: 1, wanted: 5, want: 5},
		"its own":                               {of: 1, wanted: 1, want: 1},
		"the newest there is":                   {of: 6, want: 6},
		"one that was never used leads nowhere": {of: 1, wanted: 3},
		"nothing leads back":                    {of: 5, wanted: 2},
		"one that nobody knows":                 {of: 1, wanted: 9},
	} {
		got, err := chooseTimeline(known, c.of, c.wanted)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}
