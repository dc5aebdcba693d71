//go:build e2e

package site_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"standfast/test/netlab"
)

// TestFullDisk: the disk with data, WAL and the agent's own state fills up on the primary.
func TestFullDisk(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.FillDisk(4<<20)) // less than a segment
	stop := s.fill(s.primary)
	s.reign(soon)
	stop()
	s.flow(s.anywhere...)
	ok(t, s.primary.FreeDisk())
	s.moved()
}

// TestStalledDisk: nothing that is written on the primary's host comes to an end, as with a dead path to a storage array.
func TestStalledDisk(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.StallDisk(all))
	s.reign(soon)
	s.flow(s.anywhere...)
	ok(t, s.primary.ContinueDisk(all))
	s.moved()
}

// TestReturnWithoutWAL: the old primary comes back when its successor has no longer the WAL that it would need, so it has to
// become a new copy.
func TestReturnWithoutWAL(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.PowerOff())
	s.reign(soon)
	s.flow(s.anywhere...)
	st, err := cluster.Newest(all)
	ok(t, err)
	s.outrun(cluster.Lab.Host(st.Primary), s.primary)
	ok(t, s.primary.Boot(all))
	s.moved()
	journal, err := s.primary.Run(all, "journalctl", "--no-pager", "-b", "-u", "standfast")
	ok(t, err)
	if !strings.Contains(journal, "clone") {
		t.Errorf("%s is whole without having been cloned", s.primary.Name)
	}
}

// fill has a host's PostgreSQL begin one WAL segment after the other until the returned function is called: the clients alone
// would take minutes to need a new one.
func (s *scene) fill(h *netlab.Host) (stop func()) {
	ctx, cancel := context.WithCancel(all)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = cluster.SQL(ctx, h, nextSegment...) // it is meant to fail in the end
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	stop = func() { cancel(); <-done }
	s.t.Cleanup(stop)
	return stop
}

// nextSegment begins a WAL segment, if anything is in the current one.
var nextSegment = []string{"SELECT pg_logical_emit_message(false, 'lab', '')", "SELECT pg_switch_wal()"}

// outrun writes WAL until the server no longer has what the absent host would need.
func (s *scene) outrun(server, absent *netlab.Host) {
	s.t.Helper()
	deadline := time.Now().Add(healTime)
	for {
		var burst []string
		for range 8 {
			burst = append(burst, nextSegment...)
		}
		_, err := cluster.SQL(all, server, append(burst, "CHECKPOINT")...)
		ok(s.t, err)
		status, err := cluster.SQL(all, server, "SELECT coalesce(max(wal_status), 'none') FROM pg_replication_slots WHERE slot_name = '"+absent.Name+"'")
		ok(s.t, err)
		switch {
		case status == "lost":
			return
		case time.Now().After(deadline):
			s.t.Fatalf("the slot of %s is %q still", absent.Name, status)
		}
	}
}
