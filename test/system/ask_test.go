//go:build e2e

package system

import (
	"context"
	"strings"
	"time"

	"standfast/api"
	"standfast/test/system/rig"

	"github.com/jackc/pgx/v5"
)

// ask returns the one value that the statement yields.
func (s *scene) ask(dsn, sql string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	must(s.t, err)
	defer conn.Close(context.WithoutCancel(ctx))
	var value string
	must(s.t, conn.QueryRow(ctx, sql).Scan(&value))
	return value
}

// status is what the node says of itself and the cluster now.
func (s *scene) status(n *rig.Node) *api.Status {
	s.t.Helper()
	for _, reply := range s.r.Client().Statuses(all) {
		if reply.Err == nil && reply.Status.Self == n.Name {
			return reply.Status
		}
	}
	s.t.Fatalf("%s does not answer", n.Name)
	return nil
}

// flowPast waits until clients are served through every router but the given node's.
func (s *scene) flowPast(without *rig.Node) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for _, w := range s.writers {
		if w.Name != without.Name {
			must(s.t, w.AwaitServed(ctx))
		}
	}
}

func mentions(text, word string) bool { return strings.Contains(strings.ToLower(text), word) }
