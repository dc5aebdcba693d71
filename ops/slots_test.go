package ops

import (
	"testing"

	"standfast/api"
)

func TestWithoutCopies(t *testing.T) {
	stranger, one, other := api.Slot{Member: "pg1", For: api.ForStrangers}, api.Slot{Member: "pg2", For: api.ForCopy}, api.Slot{Member: "pg3", For: api.ForCopy}
	if got := withoutCopies([]api.Slot{stranger, one, other}); len(got) != 1 || got[0] != stranger {
		t.Errorf("a stranger's with its copies: %+v", got)
	}
	if got := withoutCopies([]api.Slot{one, other}); len(got) != 2 {
		t.Errorf("copies alone, which the members refuse: %+v", got)
	}
}
