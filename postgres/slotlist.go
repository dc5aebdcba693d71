package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// ListedSlot is any replication slot of this server ("pg_replication_slots" in "System Views").
type ListedSlot struct {
	Name, Type       string
	Database, Plugin string // of a logical one
	Temporary        bool   // it ends with the session that made it
	Failover         bool   // a logical one that PostgreSQL copies to standbys (from version 17 on)
	Synced           bool   // a standby's copy of one on the primary, of that kind
	Active           bool
	Client           string      // of who receives: application and address
	Restart          cluster.LSN // from here on WAL is kept; 0: none is
	Held             int64       // bytes of WAL from there to the server's end
	Status           string      // wal_status; "": none is kept
}

// ListSlots lists all of this server's slots by name.
func (s *Server) ListSlots(ctx context.Context) (slots []ListedSlot, err error) {
	major, err := s.config().major()
	if err != nil {
		return nil, fmt.Errorf("list replication slots: %w", err)
	}
	synced := "false, false"
	if major >= failoverSlots {
		synced = "s.failover, s.synced"
	}
	err = s.Inspect(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `select s.slot_name::text, s.slot_type::text, coalesce(s.database::text, ''), coalesce(s.plugin::text, ''), s.temporary, `+synced+`, s.active,
				coalesce(nullif(concat_ws(' at ', nullif(a.application_name, ''), host(a.client_addr)), ''), ''), coalesce(s.restart_lsn::text, '0/0'),
				greatest(coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end, s.restart_lsn), 0), 0)::bigint,
				coalesce(s.wal_status, '')
			from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid order by 1`)
		if err != nil {
			return err
		}
		slots, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l ListedSlot, err error) {
			var restart string
			if err = row.Scan(&l.Name, &l.Type, &l.Database, &l.Plugin, &l.Temporary, &l.Failover, &l.Synced, &l.Active, &l.Client, &restart, &l.Held, &l.Status); err == nil {
				l.Restart, err = cluster.ParseLSN(restart)
			}
			return l, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list replication slots: %w", err)
	}
	return slots, nil
}

// MadeForClients names the slots that were made here for replication clients, declared still or not, and MadeLogical those that were made for the
// cluster's logical ones.
func (s *Server) MadeForClients() ([]string, error) { return s.config().madeForClients() }

// MadeLogical: see MadeForClients.
func (s *Server) MadeLogical(ctx context.Context) ([]string, error) { return s.keptSlots(ctx, false) }

// ErrSlotInUse says that somebody receives from a slot, so that it can't be dropped.
var ErrSlotInUse = errors.New("somebody receives from it")

// DropStranger drops a slot that is nobody's of the cluster's. That is the caller's to know, but for a member's: such a one is never dropped
// here, for safety rests on it.
func (s *Server) DropStranger(ctx context.Context, name string) error {
	for _, m := range s.config().Members {
		if pgconf.SlotName(m) == name {
			return fmt.Errorf("drop the replication slot %s: it is the member %s's", name, m)
		}
	}
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		var active bool
		err := conn.QueryRow(ctx, "select active from pg_replication_slots where slot_name = $1 and not temporary", name).Scan(&active)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil // somebody was faster
		case err != nil:
			return err
		case active:
			return ErrSlotInUse
		}
		_, err = conn.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not temporary", name)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop the replication slot %s: %w", name, err)
	}
	return nil
}
