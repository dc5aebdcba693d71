package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"standfast/decide"
	"standfast/ops/founding"
	"standfast/store"
)

// plant founds the cluster on this member's data, if that was restored for it: the first record is written over nothing, so that of all that
// could found this cluster one does. The members are in the store already, and every member waits for a configuration before it decides
// anything. Until there is a record nobody else founds the cluster either, for this member tells that it has data (decide.bootstrap).
func (n *Node) plant(ctx context.Context) error {
	seed, err := founding.ReadSeed(n.cfg.StateDir)
	if err != nil || seed == nil {
		return err
	}
	st, err := n.store.State(ctx)
	if errors.Is(err, store.ErrNotFound) {
		st = decide.FromData(n.agreed.settings(), n.cfg.Name, seed.SystemID, seed.Term, seed.Timeline, "the cluster was founded on "+seed.From, time.Now().UnixMilli())
		st.Cluster = n.cfg.Cluster
		st, err = n.store.WriteState(ctx, st)
	}
	if err != nil {
		return fmt.Errorf("found the cluster on restored data: %w", err) // it is looked at again: it may have been written
	}
	if st.SystemID != seed.SystemID {
		n.log.Error("the cluster had been founded already, and not on the data that was restored here, which is left alone", "restored", seed.From, "data", seed.SystemID, "cluster", st.SystemID)
	} else {
		n.log.Info("the cluster is founded on restored data", "from", seed.From, "term", st.Term, "timeline", st.Timeline)
	}
	return founding.RemoveSeed(n.cfg.StateDir)
}
