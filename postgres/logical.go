package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"standfast/pgconf"
)

// Slot is a logical replication slot that the cluster declares: it is made on the primary and follows a failover.
type Slot struct {
	Name     string // a-z, 0-9 and _
	Database string
	Plugin   string // its output plugin: pgoutput, test_decoding, ...
}

// slotNames lists the declared slots.
func (c Config) slotNames() []string {
	out := make([]string, 0, len(c.Slots))
	for _, d := range c.Slots {
		out = append(out, d.Name)
	}
	return out
}

// slotSchema remembers which slots were made. The rows are replicated, slots are not: a new primary that has the row and
// not the slot knows that its subscriber would miss something if one were simply made again.
const slotSchema = `
create schema if not exists standfast;
revoke all on schema standfast from public;
create table if not exists standfast.slot (
	name text primary key,
	at timestamptz not null default clock_timestamp())`

// SlotLostError names declared slots that existed once and did not follow a failover.
type SlotLostError struct{ Names []string }

func (e *SlotLostError) Error() string {
	return fmt.Sprintf("the logical slots %q are gone: their subscribers have to be loaded anew; then remove them from postgresql.slots and declare them again", e.Names)
}

// madeSlot is a logical slot as pg_replication_slots shows it.
type madeSlot struct {
	Name, Database, Plugin string
	Active, Failover       bool
}

// KeepLogicalSlots, on a primary, makes the declared slots that were never made and drops those that are declared no
// longer, unless they are in use. From version 17 on they are made for failover. A SlotLostError is returned for slots
// that were made and are gone; everything else has been done then.
func (s *Server) KeepLogicalSlots(ctx context.Context) error {
	c := s.config()
	kept, err := s.keptSlots(ctx, len(c.Slots) > 0)
	if err != nil || len(c.Slots)+len(kept) == 0 {
		return err
	}
	have, err := s.logicalSlots(ctx)
	if err != nil {
		return fmt.Errorf("keep the logical slots: %w", err)
	}
	var lost SlotLostError
	var errs []error
	for _, d := range c.Slots {
		i := slices.IndexFunc(have, func(m madeSlot) bool { return m.Name == d.Name })
		switch {
		case i >= 0:
			err = s.checkSlot(ctx, d, have[i], slices.Contains(kept, d.Name))
		case slices.Contains(kept, d.Name):
			lost.Names, err = append(lost.Names, d.Name), nil
		default:
			err = s.makeSlot(ctx, d)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("keep the logical slot %s: %w", d.Name, err))
		}
	}
	for _, name := range kept {
		if !slices.Contains(c.slotNames(), name) {
			errs = append(errs, s.unmakeSlot(ctx, name))
		}
	}
	if len(lost.Names) > 0 {
		errs = append(errs, &lost)
	}
	return errors.Join(errs...)
}

// keptSlots lists the slots that were made, and makes the table for them if it will be needed.
func (s *Server) keptSlots(ctx context.Context, needed bool) (kept []string, err error) {
	err = s.control.use(ctx, func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, "select to_regclass('standfast.slot') is not null").Scan(&there); err != nil {
			return err
		}
		if !there && needed {
			if _, err := conn.Exec(ctx, slotSchema); err != nil {
				return err
			}
		}
		if !there {
			return nil
		}
		rows, err := conn.Query(ctx, "select name from standfast.slot order by name")
		if err == nil {
			kept, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("keep the logical slots: %w", err)
	}
	return kept, err
}

// logicalSlots lists the permanent logical slots of this server.
func (s *Server) logicalSlots(ctx context.Context) (have []madeSlot, err error) {
	major, err := s.config().major()
	if err != nil {
		return nil, err
	}
	failover := "false"
	if major >= failoverSlots {
		failover = "failover"
	}
	err = s.control.use(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "select slot_name::text, database::text, plugin::text, active, "+failover+
			" from pg_replication_slots where slot_type = 'logical' and not temporary")
		if err == nil {
			have, err = pgx.CollectRows(rows, pgx.RowToStructByPos[madeSlot])
		}
		return err
	})
	return have, err
}

// makeSlot makes a declared slot, in a session of its database, and remembers it.
func (s *Server) makeSlot(ctx context.Context, d Slot) error {
	c := s.config()
	major, err := c.major()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(c.Members, func(m string) bool { return pgconf.SlotName(m) == d.Name }) {
		return errors.New("a member's own slot has this name: choose another")
	}
	make := "select pg_create_logical_replication_slot($1, $2, false, false)"
	if major >= failoverSlots {
		make = "select pg_create_logical_replication_slot($1, $2, false, false, true)"
	}
	conn, err := c.connectTo(ctx, d.Database, ourApplication)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	var level string
	if err := conn.QueryRow(ctx, "select current_setting('wal_level')").Scan(&level); err != nil {
		return err
	}
	if level != walLogical {
		return fmt.Errorf("wal_level is %s and has to be logical: restart the members", level)
	}
	if _, err := conn.Exec(ctx, make, d.Name, d.Plugin); err != nil {
		return err
	}
	return s.remember(ctx, d.Name)
}

// remember notes that a slot was made, and that it is this primary's own.
func (s *Server) remember(ctx context.Context, name string) error {
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "insert into standfast.slot (name) values ($1) on conflict do nothing", name)
		return err
	})
	if err != nil {
		return err
	}
	o, err := s.Observe(ctx)
	if err != nil || o.Postgres.Recovery {
		return err
	}
	return s.prove(o.Postgres.Position.Timeline, []string{name})
}

// checkSlot compares a slot that is there with what is declared.
func (s *Server) checkSlot(ctx context.Context, d Slot, m madeSlot, kept bool) error {
	major, err := s.config().major()
	switch {
	case err != nil:
		return err
	case m.Database != d.Database || m.Plugin != d.Plugin:
		return fmt.Errorf("there is one for database %s with plugin %s: drop it, or declare it so", m.Database, m.Plugin)
	case major >= failoverSlots && !m.Failover && !m.Active:
		err = s.alterFailover(ctx, d)
	case major >= failoverSlots && !m.Failover:
		err = errors.New("it is in use and was not made for failover: it is altered once its subscriber pauses")
	}
	if err != nil || kept {
		return err
	}
	return s.remember(ctx, d.Name)
}

// alterFailover makes a slot one for failover ("ALTER_REPLICATION_SLOT" in "Streaming Replication Protocol").
func (s *Server) alterFailover(ctx context.Context, d Slot) error {
	c := s.config()
	cfg, err := c.session(d.Database, ourApplication)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return conn.PgConn().Exec(ctx, "ALTER_REPLICATION_SLOT "+pgconf.Identifier(d.Name)+" ( FAILOVER true )").Close()
}

// unmakeSlot drops a slot that is declared no longer and forgets it. One in use is kept until it is not.
func (s *Server) unmakeSlot(ctx context.Context, name string) error {
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and slot_type = 'logical' and not active", name); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "delete from standfast.slot where name = $1 and not exists (select from pg_replication_slots where slot_name = $1::name)", name)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop the logical slot %s: %w", name, err)
	}
	return nil
}

// dropLeftovers drops, on a standby from version 17 on, the failover slots that it had as a primary: PostgreSQL's slot
// synchronization refuses to go on beside them.
func (s *Server) dropLeftovers(ctx context.Context) error {
	return s.control.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots
			where pg_is_in_recovery() and slot_type = 'logical' and failover and not synced and not temporary and not active`)
		return err
	})
}
