package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// EnsureSlots makes a physical replication slot for each of the given members but this one, on a primary and on a
// standby alike: whoever wins must not have recycled what a sibling needs. A slot that PostgreSQL has invalidated,
// because its WAL exceeded max_slot_wal_keep_size, is dropped and made anew.
func (s *Server) EnsureSlots(ctx context.Context, members []string) error {
	var slots []string
	for _, m := range members {
		if m != s.config().Name {
			slots = append(slots, pgconf.SlotName(m))
		}
	}
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots
			where slot_name = any($1) and wal_status = 'lost' and not active`, slots)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `select pg_create_physical_replication_slot(name, true) from unnest($1::name[]) name
			where not exists (select from pg_replication_slots where slot_name = name)`, slots)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the members' replication slots: %w", err)
	}
	return nil
}

// AdvanceSlots moves the members' slots here forward to what they have flushed, so that WAL can be recycled. A slot in
// use moves by itself; one that is further already, or does not exist, is left alone.
func (s *Server) AdvanceSlots(ctx context.Context, to map[string]cluster.LSN) error {
	return s.control.use(ctx, func(conn *pgx.Conn) error {
		for m, lsn := range to {
			_, err := conn.Exec(ctx, `select pg_replication_slot_advance(slot_name, least($2::pg_lsn,
					case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end))
				from pg_replication_slots
				where slot_name = $1 and not active and slot_type = 'physical' and restart_lsn < least($2::pg_lsn,
					case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end)`,
				pgconf.SlotName(m), lsn.String())
			if err != nil {
				return fmt.Errorf("advance the replication slot of %s: %w", m, err)
			}
		}
		return nil
	})
}

// DropSlot removes the slot of a member that has left the cluster. One that does not exist is no error.
func (s *Server) DropSlot(ctx context.Context, member string) error {
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and slot_type = 'physical'", pgconf.SlotName(member))
		return err
	})
	if err != nil {
		return fmt.Errorf("drop the replication slot of %s: %w", member, err)
	}
	return nil
}
