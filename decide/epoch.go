package decide

import (
	"fmt"
	"time"

	"standfast/cluster"
)

// superseded is all that a member does that has learned of a higher epoch: it ends what it runs, a primary at once. It makes no
// promise, reports to nobody, starts and touches nothing: what it holds may be wanted by people, and by no member.
func superseded(v cluster.View) []cluster.Action {
	switch {
	case serving(v.Postgres):
		return []cluster.Action{cluster.Fence{Reason: Over(v)}}
	case v.Postgres.Running:
		return []cluster.Action{cluster.Stop{Reason: Over(v)}}
	}
	return nil
}

// Over says of a superseded member why it stays out, a sentence; "" of any other.
func Over(v cluster.View) string {
	if v.Superseded <= v.Epoch {
		return ""
	}
	at := time.UnixMilli(int64(v.Superseded)).UTC().Format("2006-01-02 15:04 MST")
	return fmt.Sprintf("%s belongs to the cluster as it was before it was founded anew from another host (standfast recover, %s), and stays out", v.Self, at)
}
