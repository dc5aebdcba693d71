package agent

import (
	"errors"
	"strings"
	"testing"

	"standfast/cluster"
)

// TestUselessDataIsTold: what keeps a member from using its data directory stands in its beat, where the others' status
// finds it, and goes when the cause has gone.
func TestUselessDataIsTold(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.record(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3")))
		own := w.recorded().SystemID
		if own == "" {
			t.Fatal("the record names no cluster")
		}
		data := func(s cluster.DataState, id string, err error) {
			w.pg.mu.Lock()
			w.pg.data, w.pg.id, w.pg.dataErr = s, id, err
			w.pg.mu.Unlock()
		}
		says := func(text string) func() bool {
			return func() bool { return strings.Contains(w.beats.said().Note, text) }
		}
		data("", "", errors.New("the data is PostgreSQL 14's"))
		w.start()
		w.until("the version is told", says("using the data directory failed: the data is PostgreSQL 14's"))
		data(cluster.DataReady, own+"8", nil)
		w.until("the other cluster is told", says("it belongs to another cluster (system identifier "+own+"8, this cluster's is "+own+")"))
		data(cluster.NoData, "", nil)
		w.until("what was moved away is forgotten", func() bool { return w.view().Postgres.Data == cluster.NoData && !says("data directory")() })
	})
}
