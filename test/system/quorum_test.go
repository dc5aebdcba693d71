//go:build e2e

package system

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/playground/load"
	"standfast/test/system/rig"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestBothStandbysDie: the primary is alone, so nothing may be acknowledged, and clients are told why.
func TestBothStandbysDie(t *testing.T) {
	t.Parallel()
	s := begin(t)
	twoOfThree(s, s.r.Others(s.primary), s.primary)
}

// TestPrimaryAndStandbyDie: nobody can be elected.
func TestPrimaryAndStandbyDie(t *testing.T) {
	t.Parallel()
	s := begin(t)
	rest := s.r.Others(s.primary)
	twoOfThree(s, []*rig.Node{s.primary, rest[0]}, rest[1])
}

func twoOfThree(s *scene, dying []*rig.Node, left *rig.Node) {
	for _, n := range slices.Backward(dying) { // the primary last: while it is there nobody is elected, however long this takes
		n.Freeze()
	}
	dead := s.clients.Elapsed()
	for _, n := range dying {
		must(s.t, n.Kill())
	}
	s.awaitRefusal(s.r.WriteThrough(left))
	for _, op := range s.clients.Ops() {
		if op.Outcome == load.Acknowledged && op.Begin > dead {
			s.t.Errorf("acknowledged with two of three nodes gone: %+v", op)
		}
	}
	must(s.t, dying[0].Start()) // two of three are a majority again
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	must(s.t, s.r.Await(ctx, "a primary takes writes with two nodes", rig.Reigns(s.term-1)))
	s.flowPast(dying[1])
	must(s.t, dying[1].Start())
	s.end()
}

// awaitRefusal waits until a new connection is answered with PostgreSQL's error for "can't connect now", in words. Before the
// primary's lease is over it may still be let in; while somebody might be elected connections wait.
func (s *scene) awaitRefusal(dsn string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	var last error
	for ; ctx.Err() == nil; pause(ctx) {
		one, cancel := context.WithTimeout(ctx, 20*time.Second)
		conn, err := pgx.Connect(one, dsn)
		if err == nil {
			_ = conn.Close(one)
		}
		cancel()
		last = err
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "57P03" {
			s.t.Logf("clients are told: %s", refused.Message)
			if len(refused.Message) < 20 || !mentions(refused.Message, "major") && !mentions(refused.Message, "member") {
				s.t.Errorf("that does not say what is missing: %q", refused.Message)
			}
			return
		}
	}
	s.t.Fatalf("no connection was answered with 57P03; the last ended with: %v", last)
}

// TestFailoverAskedWithoutMajority: an operator who was told that a failover could not be recorded does not see it begin when
// the majority is back.
func TestFailoverAskedWithoutMajority(t *testing.T) {
	s := begin(t)
	frozen := s.r.Others(s.primary)
	for _, n := range frozen {
		n.Freeze()
	}
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	err := s.r.Client().Client.Failover(ctx, api.FailoverRequest{}, progress(t))
	for _, n := range frozen {
		n.Thaw()
	}
	if err == nil {
		t.Error("a failover was recorded without a majority")
	}
	t.Logf("the operator is told: %v", err)
	s.end()
	entries, err := s.r.Client().Client.History(ctx)
	must(t, err)
	for _, e := range entries {
		if uint64(e.Term) > s.term && strings.Contains(e.Reason, "asked for") {
			t.Errorf("term %d: %s", e.Term, e.Reason)
		}
	}
}
