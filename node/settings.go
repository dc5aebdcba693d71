package node

import (
	"log/slog"
	"sync"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/store"
)

// agreed is the agreed configuration as last seen, decoded.
type agreed struct {
	mu       sync.Mutex
	revision int64
	cfg      config.Cluster
	log      *slog.Logger
}

// take decodes a newer revision and reports whether there was one. A text that does not decode is never put into the
// store by us; should it be there, the configuration before it stays in force and the log says why.
func (a *agreed) take(kv store.KV) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if kv.Revision == 0 || kv.Revision == a.revision {
		return false
	}
	a.revision = kv.Revision
	c, err := config.ParseCluster("the agreed configuration", kv.Value)
	if err != nil {
		a.log.Error("the agreed configuration is not usable, the one before stays in force", "error", err)
		return false
	}
	a.cfg = c
	return true
}

// at is the newest revision seen, 0 before the first.
func (a *agreed) at() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revision
}

func (a *agreed) get() config.Cluster {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

func (a *agreed) settings() cluster.Settings { return a.get().SettingsAt(time.Now()) }
