//go:build e2e

package system

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"standfast/playground/load"
	"standfast/test/system/rig"
)

// TestDrain: new readers keep away from a standby that is drained, one that is there stays; with both drained the primary serves them.
func TestDrain(t *testing.T) {
	t.Parallel()
	r, primary, _ := whole(t)
	one, other := r.Others(primary)[0], r.Others(primary)[1]
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	t.Cleanup(func() { // the next test has the same playground
		for _, n := range []*rig.Node{one, other} {
			command(t, 0, "takes new sessions", primary, "node", "drain", "off", n.Name)
		}
	})
	stays := reader(t, ctx, r, primary)
	for at(t, ctx, stays) != one.Address {
		load.CloseNow(stays)
		stays = reader(t, ctx, r, primary)
	}
	defer load.CloseNow(stays)

	command(t, 0, "takes no new sessions", other, "node", "drain", "on", one.Name)
	onlyAt(t, ctx, r, primary, other)
	command(t, 0, "takes no new sessions", other, "node", "drain", "on", other.Name)
	onlyAt(t, ctx, r, primary, primary)
	if was := at(t, ctx, stays); was != one.Address {
		t.Errorf("the session on %s is at %s now", one.Name, was)
	}
	command(t, 0, "takes new sessions", primary, "node", "drain", "off", one.Name)
	onlyAt(t, ctx, r, primary, one)
}

// reader is a new session through the node's router.
func reader(t *testing.T, ctx context.Context, r *rig.Rig, through *rig.Node) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctx, r.ReadThrough(through))
	must(t, err)
	return conn
}

// at is the address of the server that a session has come to.
func at(t *testing.T, ctx context.Context, conn *pgx.Conn) (address string) {
	t.Helper()
	must(t, conn.QueryRow(ctx, "select host(inet_server_addr())").Scan(&address))
	return address
}

// onlyAt waits until the router has heard of the change and new readers come to the one server only.
func onlyAt(t *testing.T, ctx context.Context, r *rig.Rig, through, want *rig.Node) {
	t.Helper()
	for came := 0; came < 10; {
		conn := reader(t, ctx, r, through)
		address := at(t, ctx, conn)
		load.CloseNow(conn)
		if came++; address != want.Address { // two standbys take turns: so many in a row are no chance
			came = 0
			pause(ctx)
		}
	}
}
