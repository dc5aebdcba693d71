package load_test

import (
	"context"
	"testing"
	"time"

	"standfast/playground/load"
	"standfast/playground/load/loadtest"
)

// TestOutageOfOneServer stops a real server without warning and starts it again: the gap must show, nothing may be lost,
// and a row that is deleted behind the workload's back must be found missing.
func TestOutageOfOneServer(t *testing.T) {
	s := loadtest.New(t)
	ctx := context.Background()
	r, err := load.Start(ctx, load.Config{DSN: s.DSN()})
	if err != nil {
		t.Fatal(err)
	}
	until := func(n int) {
		for end := time.Now().Add(30 * time.Second); load.Count(r.Ops())[load.Acknowledged] < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("fewer than %d commits in 30 s; the last attempts: %+v", n, r.Since(len(r.Ops())-3))
			}
		}
	}
	until(50)
	down := r.Elapsed()
	s.Kill()
	time.Sleep(300 * time.Millisecond) // the outage that has to be found
	before := load.Count(r.Ops())[load.Acknowledged]
	s.Start()
	until(before + 50)
	ops := r.Stop()

	if gap := load.LongestGap(ops, down-time.Second, r.Elapsed()); gap.Length() < 250*time.Millisecond {
		t.Errorf("an outage of at least 300 ms was measured as %v", gap.Length())
	}
	n := load.Count(ops)
	if n[load.Refused] == 0 || n[load.Failed]+n[load.NoSession] == 0 {
		t.Errorf("the outage left no errors: %v", n)
	}
	if o := load.Overlaps(ops); len(o) > 0 {
		t.Errorf("one server can't overlap with itself: %+v", o)
	}
	lost, err := r.Lost(ctx, "")
	if err != nil || len(lost) > 0 {
		t.Fatalf("lost %v, %v", lost, err)
	}
	s.Run("psql", "-q", s.DSN(), "-c", "DELETE FROM standfast_load WHERE id = (SELECT min(id) FROM standfast_load)")
	if lost, err = r.Lost(ctx, ""); err != nil || len(lost) != 1 {
		t.Errorf("a row that is gone was not missed: %v, %v", lost, err)
	}
	for _, op := range ops {
		if op.Outcome == load.Acknowledged && (op.Server != "one" || op.Timeline != 1) {
			t.Fatalf("an acknowledgement without its server: %+v", op)
		}
	}
}
