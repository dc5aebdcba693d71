package sim

import (
	"math/rand/v2"
	"testing"
)

// TestAncestors compares the jumps through the tree of records with plain walks.
func TestAncestors(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	first := &branch{tl: 1}
	all := []*rec{(*rec)(nil).after(first, 0)}
	for i := range 500 {
		p := all[rng.IntN(len(all))]
		br := p.br
		if i%7 == 0 {
			br = p.forkTo(br.tl + 1)
		}
		all = append(all, p.after(br, 10))
	}
	walk := func(r *rec) map[*rec]bool {
		on := map[*rec]bool{r: true}
		for r.depth > 0 {
			r = r.parent
			on[r] = true
		}
		return on
	}
	for range 2000 {
		a, b := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
		onA, onB := walk(a), walk(b)
		if a.in(b) != onB[a] {
			t.Fatalf("in: depth %d in %d is %v", a.depth, b.depth, a.in(b))
		}
		m := meet(a, b)
		if !onA[m] || !onB[m] || m != a && onA[m] && onB[a.up(m.depth+1)] {
			t.Fatalf("meet of depths %d and %d is at %d", a.depth, b.depth, m.depth)
		}
	}
}
