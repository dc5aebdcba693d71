//go:build e2e

package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/playground"
	"standfast/playground/load"
	"standfast/test/system/rig"

	"github.com/jackc/pgx/v5"
)

// TestLogicalSubscriberGoesOn: a subscriber at a declared slot goes on through port 5000 after its primary's host has died,
// twice, and everything that was acknowledged comes to it.
func TestLogicalSubscriberGoesOn(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t, "bootstrap.postgresql.slots=[{name: cdc, database: "+playground.Name+", plugin: pgoutput}]")
	s := &scene{t: t, r: r, primary: primary, term: term}
	for _, sql := range []string{"ALTER ROLE " + playground.Name + " REPLICATION", "CREATE TABLE feed (id bigint PRIMARY KEY)",
		"GRANT ALL ON feed TO " + playground.Name, "CREATE PUBLICATION feed FOR TABLE feed"} {
		s.command(primary, sql)
	}
	s.awaitMade("cdc") // what is written before, the slot does not have
	rows := startFeed(r.WriteDSN(), "INSERT INTO feed VALUES ($1)")
	defer rows.close()
	sub := subscribe(r.WriteDSN(), "cdc", "feed")
	defer sub.close()
	for range 2 {
		s.awaitSlots("cdc")
		s.delivered(sub, rows.rows())
		must(t, s.primary.Kill())
		s.reign(takeover)
		must(t, s.primary.Start())
		before := rows.rows()
		s.delivered(sub, before)
		s.primary, s.term = s.heal()
		for ctx := all; len(rows.rows()) < len(before)+10 && ctx.Err() == nil; pause(ctx) {
		}
	}
	rows.close()
	s.delivered(sub, rows.rows())
	again := 0
	for _, n := range sub.rows {
		again += n - 1
	}
	t.Logf("%d rows were acknowledged, all came; %d came again", len(rows.rows()), again)
}

// delivered waits until the subscriber has all these rows.
func (s *scene) delivered(sub *subscriber, rows []int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for ; ; pause(ctx) {
		missing, why := sub.lacks(rows)
		if len(missing) == 0 {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("%d of %d acknowledged rows did not come to the subscriber, the first %d: its last session: %v", len(missing), len(rows), missing[0], why)
		}
	}
}

// awaitSlots waits until every standby has the logical slot as one that it could go on with as the primary.
func (s *scene) awaitSlots(slot string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 2*healTime)
	defer cancel()
	for _, n := range s.r.Others(s.primary) {
		for ; !s.ready(ctx, n, slot); pause(ctx) {
			if ctx.Err() != nil {
				s.t.Fatalf("%s does not get the slot %s", n.Name, slot)
			}
		}
	}
	if _, _, err := s.r.AwaitWhole(all, healTime); err != nil {
		s.t.Fatal(err)
	}
}

// awaitMade waits until the primary has the slot.
func (s *scene) awaitMade(slot string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for ; s.ask(s.r.WriteDSN(), "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '"+slot+"'") != "1"; pause(ctx) {
		if ctx.Err() != nil {
			s.t.Fatalf("the primary does not make the slot %s", slot)
		}
	}
}

// ready asks a standby, which may be restarting. Before PostgreSQL 17 its agent knows whether the slot is of use on the
// timeline that it follows.
func (s *scene) ready(ctx context.Context, n *rig.Node, slot string) bool {
	conn, err := s.superuser(ctx, n)
	if err != nil {
		return false
	}
	defer load.CloseNow(conn)
	var version, timeline int
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, coalesce((SELECT received_tli FROM pg_stat_wal_receiver), 0)").Scan(&version, &timeline)
	if err != nil {
		return false
	}
	if version >= 170000 {
		var synced bool
		err := conn.QueryRow(ctx, "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = $1 AND synced AND NOT temporary", slot).Scan(&synced)
		return err == nil && synced
	}
	b, err := os.ReadFile(filepath.Join(n.StateDir(), "passwords", "logical-slots.json"))
	return err == nil && timeline > 0 && strings.Contains(string(b), fmt.Sprintf("%q:%d", slot, timeline))
}

// superuser is a session over the member's own socket, where only the operating system's user counts.
func (s *scene) superuser(ctx context.Context, n *rig.Node) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", filepath.Join(n.StateDir(), "run"), s.r.Ports().Postgres, playground.Name))
}

func (s *scene) command(n *rig.Node, sql string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	conn, err := s.superuser(ctx, n)
	must(s.t, err)
	defer load.CloseNow(conn)
	_, err = conn.Exec(ctx, sql)
	must(s.t, err)
}
