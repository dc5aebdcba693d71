package node

import (
	"testing"

	"standfast/cluster"
	"standfast/ops/founding"
	"standfast/store"
)

// TestRestoredDataFoundsTheCluster whoever was faster with the configuration, once.
func TestRestoredDataFoundsTheCluster(t *testing.T) {
	for _, first := range []string{"pg1", "pg2"} {
		n, m := bare(t, "pg2")
		n.cfg.StateDir = t.TempDir()
		n.store = store.New(m, "main")
		if first == "pg1" {
			other, _ := bare(t, "pg1")
			other.cfg.StateDir = t.TempDir()
			other.store = n.store
			if err := other.seedOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		seed := founding.Seed{SystemID: "7/ab", Term: 7, Timeline: 5, From: "backup x"}
		if err := seed.Write(n.cfg.StateDir); err != nil {
			t.Fatal(err)
		}
		if err := n.seedOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		st, err := n.store.State(t.Context())
		if err != nil || st.SystemID != "7/ab" || st.Term != 8 || st.Timeline != 6 || st.Phase != cluster.Electing || st.Last != "pg2" || st.Primary != "" || st.Cluster != n.cfg.Cluster {
			t.Errorf("%s was first: the record is %+v, %v", first, st, err)
		}
		if left, err := founding.ReadSeed(n.cfg.StateDir); left != nil || err != nil {
			t.Errorf("%s was first: the seed is still there: %+v, %v", first, left, err)
		}
	}
}

// TestRestoredDataComesTooLate: a cluster that has a record is left alone.
func TestRestoredDataComesTooLate(t *testing.T) {
	n, m := bare(t, "pg2")
	n.cfg.StateDir = t.TempDir()
	n.store = store.New(m, "main")
	was := cluster.State{Cluster: "main", SystemID: "9", Term: 3, Phase: cluster.Reigning, Primary: "pg1", Timeline: 3}
	if _, err := n.store.WriteState(t.Context(), was); err != nil {
		t.Fatal(err)
	}
	if err := (founding.Seed{SystemID: "7/ab", Term: 7, Timeline: 5, From: "backup x"}).Write(n.cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	if err := n.seedOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := n.store.State(t.Context()); err != nil || st.SystemID != "9" || st.Term != 3 {
		t.Errorf("the record became %+v, %v", st, err)
	}
}
