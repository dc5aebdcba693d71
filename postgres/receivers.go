package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// ReplicationClient receives WAL and is no member: Barman, pg_receivewal, a standby of another site.
type ReplicationClient struct {
	Name string // of its physical replication slot
	Role string // that it logs in as
}

// ClientSlot is a replication client's slot on one server ("pg_replication_slots" in "System Views").
type ClientSlot struct {
	Name    string
	Active  bool        // somebody receives from it now
	Restart cluster.LSN // from here on WAL is kept; 0: none is
	Held    int64       // bytes of WAL from there to the server's end
	Status  string      // wal_status: reserved, extended, unreserved, lost
}

// clientRoles are the roles that replication clients log in as.
func (c Config) clientRoles() []string {
	out := make([]string, 0, len(c.ReplicationClients))
	for _, r := range c.ReplicationClients {
		out = append(out, r.Role)
	}
	return out
}

func (c Config) clientNames() []string {
	out := make([]string, 0, len(c.ReplicationClients))
	for _, r := range c.ReplicationClients {
		out = append(out, r.Name)
	}
	return out
}

// KeepClientSlots, on a primary, makes the roles and slots of the declared replication clients that are missing, and drops the
// slots made earlier for clients that are declared no longer. It returns the slots. dropped names those whose WAL PostgreSQL
// has given up because it exceeded max_slot_wal_keep_size; they were made anew, and a client that needs that WAL is told by
// PostgreSQL that it is gone.
func (s *Server) KeepClientSlots(ctx context.Context) (slots []ClientSlot, dropped []string, err error) {
	c := s.config()
	if err := s.makeRoles(ctx, c.ReplicationClients); err != nil {
		return nil, nil, fmt.Errorf("keep the replication clients' slots: %w", err)
	}
	return s.keepClientSlots(ctx, c)
}

// FollowClientSlots, on a standby, keeps the same slots here and moves each forward to where it is on the primary, so that
// a client goes on with this server once it is promoted. It returns the primary's slots, and lacking, the clients whose
// next WAL this server does not have (it was cloned since, for example): until they have come further on the primary they
// could not go on here.
func (s *Server) FollowClientSlots(ctx context.Context, from Source) (theirs []ClientSlot, lacking []string, err error) {
	c := s.config()
	mine, _, err := s.keepClientSlots(ctx, c)
	if err != nil || len(c.ReplicationClients) == 0 {
		return nil, nil, err
	}
	p, err := c.askPrimary(ctx, from)
	if err != nil {
		return nil, nil, fmt.Errorf("follow the replication clients: %w", err)
	}
	defer p.close()
	theirs, err = clientSlots(ctx, p.conn, c.clientNames())
	if err != nil {
		return nil, nil, fmt.Errorf("follow the replication clients: %w", err)
	}
	to := map[string]cluster.LSN{}
	for _, t := range theirs {
		i := slices.IndexFunc(mine, func(m ClientSlot) bool { return m.Name == t.Name })
		if t.Restart == 0 || i < 0 {
			continue
		}
		to[t.Name] = t.Restart
		if !mine[i].Active && mine[i].Restart > t.Restart {
			lacking = append(lacking, t.Name)
		}
	}
	return theirs, lacking, s.AdvanceSlots(ctx, to)
}

// keepClientSlots makes and drops slots on whatever this server is.
func (s *Server) keepClientSlots(ctx context.Context, c Config) (slots []ClientSlot, dropped []string, err error) {
	s.proofs.Lock()
	defer s.proofs.Unlock()
	made, err := c.madeForClients()
	if err != nil || len(made)+len(c.ReplicationClients) == 0 {
		return nil, nil, err
	}
	names := c.clientNames()
	for _, n := range names {
		if slices.ContainsFunc(c.Members, func(m string) bool { return pgconf.SlotName(m) == n }) {
			return nil, nil, fmt.Errorf("keep the slot of the replication client %s: a member's own slot has this name: choose another", n)
		}
	}
	if err := c.rememberClients(append(slices.Clone(made), names...)); err != nil { // before they are made: none is forgotten
		return nil, nil, err
	}
	err = s.control.use(ctx, func(conn *pgx.Conn) error {
		dropped, err = makeClientSlots(ctx, conn, names)
		if err == nil {
			made, err = dropUndeclared(ctx, conn, made, names)
		}
		if err == nil {
			slots, err = clientSlots(ctx, conn, names)
		}
		return err
	})
	if err == nil {
		err = c.rememberClients(append(made, names...))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("keep the replication clients' slots: %w", err)
	}
	return slots, dropped, nil
}

// makeClientSlots makes what is missing, in place of what PostgreSQL has invalidated too.
func makeClientSlots(ctx context.Context, conn *pgx.Conn, names []string) (dropped []string, err error) {
	var other string
	err = conn.QueryRow(ctx, "select slot_name::text from pg_replication_slots where slot_name = any($1) and slot_type <> 'physical' limit 1", names).Scan(&other)
	if err == nil {
		return nil, fmt.Errorf("%s is a logical slot: choose another name for the client", other)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	rows, err := conn.Query(ctx, `select slot_name::text from (select slot_name, pg_drop_replication_slot(slot_name) from pg_replication_slots
		where slot_name = any($1) and wal_status = 'lost' and not active) gone`, names)
	if err == nil {
		dropped, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, `select pg_create_physical_replication_slot(name, true) from unnest($1::name[]) name
		where not exists (select from pg_replication_slots where slot_name = name)`, names)
	return dropped, err
}

// dropUndeclared drops the slots made for clients that are declared no longer, and returns those that are left because
// somebody uses them.
func dropUndeclared(ctx context.Context, conn *pgx.Conn, made, names []string) (left []string, err error) {
	gone := slices.DeleteFunc(slices.Clone(made), func(n string) bool { return slices.Contains(names, n) })
	if len(gone) == 0 {
		return nil, nil
	}
	_, err = conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots
		where slot_name = any($1) and slot_type = 'physical' and not active`, gone)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, "select slot_name::text from pg_replication_slots where slot_name = any($1) and slot_type = 'physical'", gone)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func clientSlots(ctx context.Context, conn *pgx.Conn, names []string) ([]ClientSlot, error) {
	rows, err := conn.Query(ctx, `select slot_name::text, active, coalesce(restart_lsn::text, '0/0'), coalesce(wal_status, 'lost'),
			coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end, restart_lsn), 0)::bigint
		from pg_replication_slots where slot_name = any($1) and slot_type = 'physical' order by 1`, names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s ClientSlot, err error) {
		var restart string
		if err = row.Scan(&s.Name, &s.Active, &restart, &s.Status, &s.Held); err == nil {
			s.Restart, err = cluster.ParseLSN(restart)
		}
		return s, err
	})
}

// makeRoles makes the roles that are missing. They have no password, so nobody can log in before the site gives one; a role
// that is there is left as it is.
func (s *Server) makeRoles(ctx context.Context, clients []ReplicationClient) error {
	return s.control.use(ctx, func(conn *pgx.Conn) error {
		for _, r := range clients {
			var there bool
			err := conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", r.Role).Scan(&there)
			if err == nil && !there {
				_, err = conn.Exec(ctx, "create role "+pgconf.Identifier(r.Role)+" login replication")
			}
			if err != nil {
				return fmt.Errorf("make the role %s: %w", r.Role, err)
			}
		}
		return nil
	})
}

// clientsFile remembers for which clients slots were made here, so that one that is taken out of the configuration, perhaps
// while this member is away, does not leave a slot behind that keeps WAL for ever. Slots that somebody else made under
// other names are not ours to drop.
func (c Config) clientsFile() string {
	return filepath.Join(filepath.Dir(c.proofFile()), "client-slots.json")
}

func (c Config) madeForClients() (names []string, err error) {
	b, err := os.ReadFile(c.clientsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &names)
	}
	if err != nil {
		return nil, fmt.Errorf("read which replication clients have slots: %w", err)
	}
	return names, nil
}

// rememberClients writes the names if they are others than before.
func (c Config) rememberClients(names []string) error {
	slices.Sort(names)
	names = slices.Compact(names)
	have, err := c.madeForClients()
	if err != nil || slices.Equal(have, names) {
		return err
	}
	b, err := json.Marshal(names)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(c.clientsFile()), 0o700)
	}
	if err == nil {
		err = c.writeFile(c.clientsFile(), b, true)
	}
	if err != nil {
		return fmt.Errorf("remember which replication clients have slots: %w", err)
	}
	return nil
}

// EndImpostors ends the WAL senders that bear a member's name and are not the member's: PostgreSQL goes by the name alone when
// it counts who has flushed a commit. It returns the roles that they had logged in as.
func (s *Server) EndImpostors(ctx context.Context) (roles []string, err error) {
	err = s.safety.use(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `select usename::text from (select usename, pg_terminate_backend(pid) from pg_stat_replication
			where application_name = any($1) and usename is distinct from $2) ended`, s.config().Members, pgconf.ReplicationRole)
		if err == nil {
			roles, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("end WAL senders that bear a member's name: %w", err)
	}
	return roles, nil
}
