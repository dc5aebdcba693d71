package playground

import (
	"sync"

	"standfast/cluster"
)

// view holds the newest agreed record.
type view struct {
	mu sync.Mutex
	s  cluster.State
}

func (v *view) set(s cluster.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.s = s
}

func (v *view) get() cluster.State {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.s
}
