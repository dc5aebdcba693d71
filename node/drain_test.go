package node

import (
	"slices"
	"testing"

	"standfast/cluster"
	"standfast/config"
	"standfast/router"
)

// TestDrainedPrimaryIsLetAlone: a member that is drained and becomes the primary takes sessions as ever, and none once it is a standby
// again.
func TestDrainedPrimaryIsLetAlone(t *testing.T) {
	n := &Node{router: idleRouter(t)}
	n.agreed.cfg = config.DefaultCluster()
	n.agreed.cfg.Drained = []string{"pg2", "pg3"}
	for _, c := range []struct {
		primary string
		want    []string
	}{{"pg1", []string{"pg2", "pg3"}}, {"pg2", []string{"pg3"}}, {"", []string{"pg2", "pg3"}}} {
		n.keepDrained(cluster.Route{Write: c.primary})
		if !slices.Equal(n.drained, c.want) {
			t.Errorf("with %q as the primary new sessions keep away from %v, want %v", c.primary, n.drained, c.want)
		}
	}
	n.agreed.cfg.Drained = nil
	if n.keepDrained(cluster.Route{Write: "pg1"}); len(n.drained) != 0 {
		t.Errorf("after the draining: %v", n.drained)
	}
}

func idleRouter(t *testing.T) *router.Router {
	r, err := router.New(router.Config{Write: []string{"127.0.0.1:0"}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
