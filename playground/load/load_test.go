package load_test

import (
	"context"
	"net"
	"sync/atomic"
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

// TestArrivals: every row has a session of its own, and sessions that get stuck hold up none of those after them.
func TestArrivals(t *testing.T) {
	s := loadtest.New(t)
	var dials atomic.Int32
	stick := func(ctx context.Context, network, address string) (net.Conn, error) {
		if n := dials.Add(1); n == 2 || n == 3 { // the first makes the table
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	r, err := load.Start(t.Context(), load.Config{DSN: s.DSN(), Dial: stick, Every: 10 * time.Millisecond, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); load.Count(r.Ops())[load.Acknowledged] < 5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not five commits in 30 s: %+v", r.Ops())
		}
	}
	backends := map[int32]bool{}
	ops := r.Stop()
	for _, op := range ops {
		if op.Outcome != load.Acknowledged || op.Attempt != 1 || backends[op.PID] {
			t.Errorf("not a session of its own: %+v", op)
		}
		backends[op.PID] = true
	}
	if lost, err := r.Lost(t.Context(), ""); err != nil || len(lost) > 0 {
		t.Errorf("lost %v, %v", lost, err)
	}
}
