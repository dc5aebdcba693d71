package node

import (
	"slices"

	"standfast/cluster"
)

// keepDrained has the router keep new sessions away from the members that an operator drains, but for the primary: that one keeps
// taking writes, and reads when there is no other. Sessions that are there go on.
func (n *Node) keepDrained(r cluster.Route) {
	want := slices.DeleteFunc(slices.Clone(n.agreed.get().Drained), func(m string) bool { return m == r.Write })
	if slices.Equal(want, n.drained) {
		return
	}
	for _, m := range n.drained {
		if !slices.Contains(want, m) {
			n.router.SetDraining(m, false)
		}
	}
	for _, m := range want {
		n.router.SetDraining(m, true)
	}
	n.drained = want
}
