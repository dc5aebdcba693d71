//go:build e2e

package site_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"standfast/playground/load"
	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// TestPrimaryAndStandbyOff: nobody can be elected, nothing is acknowledged, and clients are told why. One of the two is enough
// to go on, with no command given.
func TestPrimaryAndStandbyOff(t *testing.T) {
	s := begin(t)
	off, left := s.standbys()[0], s.standbys()[1]
	ok(t, s.primary.PowerOff())
	ok(t, off.PowerOff())
	dead := s.clients.Elapsed()
	s.refused(left)
	for _, op := range s.clients.Ops() {
		if op.Outcome == load.Acknowledged && op.Begin > dead {
			t.Errorf("acknowledged with two of three hosts off: %+v", op)
		}
	}
	ok(t, off.Boot(all))
	s.flow(s.anywhere...)
	ok(t, s.primary.Boot(all))
	s.end()
}

// refused waits until a new connection to a host's port 5000 is answered with PostgreSQL's error for "can't connect now", in
// words that say what is missing. While somebody might be elected connections wait.
func (s *scene) refused(h *netlab.Host) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	cfg, err := pgx.ParseConfig(cluster.DSN(site.WritePort, h))
	ok(s.t, err)
	cfg.DialFunc, cfg.ConnectTimeout = cluster.Lab.Dial, 20*time.Second
	var last error
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		var conn *pgx.Conn
		if conn, last = pgx.ConnectConfig(ctx, cfg); last == nil {
			load.CloseNow(conn)
		}
		var why *pgconn.PgError
		if errors.As(last, &why) && why.Code == "57P03" {
			s.t.Logf("clients are told: %s", why.Message)
			if said := strings.ToLower(why.Message); !strings.Contains(said, "major") && !strings.Contains(said, "member") {
				s.t.Errorf("that does not say what is missing: %q", why.Message)
			}
			return
		}
	}
	s.t.Fatalf("no connection was answered with 57P03; the last ended with: %v", last)
}

// aLot is more than a standby catches up with in passing, and less than what its slot keeps for it.
const aLot = 96 << 20

// write makes a server write so many bytes of WAL.
func (s *scene) write(h *netlab.Host, bytes int) {
	s.t.Helper()
	const piece = 8 << 20
	for range bytes / piece {
		_, err := cluster.SQL(all, h, fmt.Sprintf("SELECT pg_logical_emit_message(false, 'lab', repeat('x', %d))", piece))
		ok(s.t, err)
	}
}

// TestReturnAfterManyWrites: the old primary comes back when its successor has written much more, with a tail of its own that
// nobody else has, as ever after a loss of power.
func TestReturnAfterManyWrites(t *testing.T) {
	s := begin(t)
	ok(t, s.primary.PowerOff())
	s.reign(soon)
	s.flow(s.anywhere...)
	s.write(s.reigning(), aLot)
	ok(t, s.primary.Boot(all))
	s.moved()
}

// TestStandbyFarBehind: the primary is lost when one standby has everything and the other lacks much, but is there. The first
// has to be elected, and the other catches up from it.
func TestStandbyFarBehind(t *testing.T) {
	s := begin(t)
	behind, ahead := s.standbys()[0], s.standbys()[1]
	ok(t, behind.Pause(all))
	s.write(s.primary, aLot)
	ok(t, behind.Resume(all))
	ok(t, s.primary.PowerOff())
	s.reign(soon)
	if now := s.reigning(); now != nil && now != ahead {
		t.Logf("%s had caught up before it was asked", now.Name)
	}
	s.flow(s.anywhere...)
	ok(t, s.primary.Boot(all))
	s.moved()
}
