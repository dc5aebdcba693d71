package agent

import (
	"testing"

	"standfast/cluster"
	"standfast/store"
	"standfast/store/mem"
)

// TestLossIsToldOnce: by the first term that has an entry since the election that may have lost something.
func TestLossIsToldOnce(t *testing.T) {
	s := mem.New().Open()
	t.Cleanup(func() { s.Close() })
	a := &Agent{cfg: Config{Store: store.New(s, "main")}}
	record := cluster.State{Term: 5, Lost: "what only pg1 had", LostIn: 4}
	tell := func(term cluster.Term, lost string) {
		t.Helper()
		if err := a.cfg.Store.PutHistory(t.Context(), store.Entry{Term: term, Lost: lost}); err != nil {
			t.Fatal(err)
		}
	}
	tell(3, "")
	if got := a.untold(t.Context(), record); got != record.Lost {
		t.Errorf("the winner of term 4 died before it could tell: %q", got)
	}
	tell(5, record.Lost)
	if got := a.untold(t.Context(), record); got != record.Lost {
		t.Errorf("written again, the entry must not lose it: %q", got)
	}
	record.Term = 6
	if got := a.untold(t.Context(), record); got != "" {
		t.Errorf("told again: %q", got)
	}
	if got := a.untold(t.Context(), cluster.State{Term: 7}); got != "" {
		t.Errorf("nothing was lost: %q", got)
	}
}
