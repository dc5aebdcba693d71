package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// copyLock is the key of the advisory lock on the primary that lets one member at a time copy slots, for it restarts.
const copyLock = 0x73746e64666173 // "stndfas"

// proofRounds is how many rounds of FollowLogicalSlots a copy may stay unproven before it is made anew.
const proofRounds = 12

// Follow is what FollowLogicalSlots works with.
type Follow struct {
	From Source // the primary
	K    int    // with so many of Others attached to it, commits go on while this member restarts
	// Others are the other members of the commit rule.
	Others []string
	// Restart restarts this standby; it may refuse.
	Restart func(ctx context.Context) error
}

// FollowLogicalSlots, on a standby that follows the primary, keeps the declared logical slots here. From version 17 on
// PostgreSQL does that itself, and only what would be in its way is dropped. Before, a slot that is missing is copied from
// the primary with its state file, for which this server restarts, and then moved forward to where the primary's is.
// Rounds are some seconds apart.
func (s *Server) FollowLogicalSlots(ctx context.Context, f Follow) error {
	c := s.config()
	major, err := c.major()
	if err != nil {
		return err
	}
	if major >= failoverSlots {
		err = s.dropLeftovers(ctx)
	} else if len(c.Slots) > 0 {
		err = s.followCopies(ctx, c, f)
	}
	if err != nil {
		return fmt.Errorf("follow the primary's logical slots: %w", err)
	}
	return nil
}

func (s *Server) followCopies(ctx context.Context, c Config, f Follow) error {
	p, err := c.askPrimary(ctx, f.From)
	if err != nil {
		return err
	}
	defer p.close()
	theirs, err := p.slots(ctx, c.slotNames())
	if err != nil {
		return err
	}
	mine, err := s.copies(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var missing []string
	for _, t := range theirs {
		if _, ok := mine[t.name]; ok {
			errs = append(errs, s.advanceCopy(ctx, t))
		} else {
			missing = append(missing, t.name)
		}
	}
	unproven, err := s.proveCopies(ctx, p, theirs)
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	if missing = append(missing, s.overdue(unproven)...); len(missing) == 0 {
		return nil
	}
	return s.copySlots(ctx, c, p, f, missing)
}

// primarySession is a session on the primary as the role that replicates.
type primarySession struct {
	conn     *pgx.Conn
	self     string // this member's own slot there
	timeline cluster.Timeline
}

// askPrimary opens a session on the primary; a server in recovery is none, and an error.
func (c Config) askPrimary(ctx context.Context, from Source) (*primarySession, error) {
	conn, err := c.connectSourceAs(ctx, from, pgconf.ReplicationRole, "standfast_slots")
	if err != nil {
		return nil, err
	}
	p := &primarySession{conn: conn, self: c.slot()}
	if err := p.place(ctx); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *primarySession) close() { closeConn(p.conn) }

// place reads the primary's timeline. pg_current_wal_flush_lsn refuses on a standby.
func (p *primarySession) place(ctx context.Context) error {
	var tl int64
	err := p.conn.QueryRow(ctx, "select ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint").Scan(&tl)
	if err != nil {
		return fmt.Errorf("ask the primary for its timeline: %w", err)
	}
	p.timeline = cluster.Timeline(tl)
	return nil
}

// theirSlot is a declared slot on the primary.
type theirSlot struct{ name, database, confirmed string }

func (p *primarySession) slots(ctx context.Context, names []string) ([]theirSlot, error) {
	rows, err := p.conn.Query(ctx, `select slot_name::text, database::text, confirmed_flush_lsn::text from pg_replication_slots
		where slot_name = any($1) and slot_type = 'logical' and confirmed_flush_lsn is not null`, names)
	if err != nil {
		return nil, fmt.Errorf("ask the primary for its slots: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t theirSlot, err error) {
		err = row.Scan(&t.name, &t.database, &t.confirmed)
		return t, err
	})
}

// held reports whether the primary holds for this member all rows of the catalog from an xid on, and has held them ever
// since that was its own slot's: then nothing that a slot with this catalog_xmin needs was or will be removed.
// Transaction numbers wrap around, so it is their age that is compared, by one server.
func (p *primarySession) held(ctx context.Context, slot, xmin string) (held bool, err error) {
	err = p.conn.QueryRow(ctx, `select coalesce(bool_and(age(catalog_xmin) >= age($3::text::xid)) and count(*) = 2, false)
		from pg_replication_slots where slot_name in ($1, $2) and catalog_xmin is not null`, p.self, slot, xmin).Scan(&held)
	return held, err
}

// copies gives this server's logical slots by name, with their catalog_xmin.
func (s *Server) copies(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `select slot_name::text, catalog_xmin::text from pg_replication_slots
			where slot_type = 'logical' and catalog_xmin is not null`)
		if err != nil {
			return err
		}
		var name, xmin string
		_, err = pgx.ForEachRow(rows, []any{&name, &xmin}, func() error {
			out[name] = xmin
			return nil
		})
		return err
	})
	return out, err
}

// advanceCopy moves a slot here to where the primary's is, as far as WAL has been replayed. That decodes, so it takes a
// session of the slot's database.
func (s *Server) advanceCopy(ctx context.Context, t theirSlot) error {
	conn, err := s.config().connectTo(ctx, t.database, ourApplication)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "set log_min_messages = fatal"); err != nil { // the server would tell of each round; errors come here
		return err
	}
	_, err = conn.Exec(ctx, `select pg_replication_slot_advance(slot_name, least($2::pg_lsn, pg_last_wal_replay_lsn()))
		from pg_replication_slots where slot_name = $1 and not active and confirmed_flush_lsn < least($2::pg_lsn, pg_last_wal_replay_lsn())`, t.name, t.confirmed)
	if err != nil {
		return fmt.Errorf("advance the logical slot %s: %w", t.name, err)
	}
	return nil
}

// proveCopies looks which slots here are usable on the primary's timeline, and returns those that are not known to be.
func (s *Server) proveCopies(ctx context.Context, p *primarySession, theirs []theirSlot) (unproven []string, err error) {
	mine, err := s.copies(ctx)
	if err != nil {
		return nil, err
	}
	proven, err := s.config().proven()
	if err != nil {
		return nil, err
	}
	var now []string
	for _, t := range theirs {
		xmin, here := mine[t.name]
		if !here || proven[t.name] >= p.timeline {
			continue
		}
		held, err := p.held(ctx, t.name, xmin)
		if err != nil {
			return nil, err
		}
		if held {
			now = append(now, t.name)
		} else {
			unproven = append(unproven, t.name)
		}
	}
	return unproven, s.prove(p.timeline, now)
}

// overdue counts rounds and returns the slots that have been unproven for too many.
func (s *Server) overdue(unproven []string) []string {
	s.proofs.Lock()
	defer s.proofs.Unlock()
	rounds := map[string]int{}
	var out []string
	for _, name := range unproven {
		if rounds[name] = s.rounds[name] + 1; rounds[name] > proofRounds {
			out = append(out, name)
		}
	}
	s.rounds = rounds
	return out
}

// errBusy and errAlone put a copy off.
var (
	errBusy  = errors.New("another member is copying its slots")
	errAlone = errors.New("too few other members are attached for this one to restart")
)

// copySlots copies slots from the primary, restarts to have them loaded, and waits until they are proven. Meanwhile a
// temporary copy of each slot on the primary keeps there what it needs.
func (s *Server) copySlots(ctx context.Context, c Config, p *primarySession, f Follow, names []string) error {
	if err := p.mayCopy(ctx, f); err != nil {
		return fmt.Errorf("copy %q later: %w", names, err)
	}
	reader, err := c.connectSource(ctx, f.From)
	if err != nil {
		return err
	}
	defer closeConn(reader)
	guards := map[string]string{}
	for i, name := range names {
		guards[name] = fmt.Sprintf("standfast_copy_%d", i)
		state, err := p.guarded(ctx, reader, name, guards[name])
		if err != nil {
			return fmt.Errorf("copy the logical slot %s: %w", name, err)
		}
		if err := s.placeCopy(ctx, c, p, name, guards[name], state); err != nil {
			return fmt.Errorf("copy the logical slot %s: %w", name, err)
		}
	}
	if err := f.Restart(ctx); err != nil {
		return fmt.Errorf("restart to load the logical slots %q: %w", names, err)
	}
	return s.awaitCopies(ctx, p, guards)
}

// mayCopy takes the lock and sees that commits go on without this member. The lock and the guards go with the session.
func (p *primarySession) mayCopy(ctx context.Context, f Follow) error {
	others := make([]string, 0, len(f.Others))
	for _, m := range f.Others {
		others = append(others, pgconf.SlotName(m))
	}
	var locked bool
	var attached int
	err := p.conn.QueryRow(ctx, `select pg_try_advisory_lock($1), (select count(*) from pg_replication_slots where slot_name = any($2) and active)`,
		int64(copyLock), others).Scan(&locked, &attached)
	switch {
	case err != nil:
		return err
	case !locked:
		return errBusy
	case attached < f.K:
		return errAlone
	}
	return nil
}

// guarded makes the temporary copy on the primary and then reads the slot's state, which is no older. PostgreSQL replaces
// the file by renaming, so what is read is whole.
func (p *primarySession) guarded(ctx context.Context, reader *pgx.Conn, name, guard string) (state []byte, err error) {
	if _, err := p.conn.Exec(ctx, "select pg_copy_logical_replication_slot($1, $2, true)", name, guard); err != nil {
		return nil, err
	}
	err = reader.QueryRow(ctx, "select pg_read_binary_file('pg_replslot/' || $1 || '/state')", name).Scan(&state)
	return state, err
}

// placeCopy puts a slot's state where the next start finds it, as PostgreSQL itself makes slots: under another name first
// (which a start removes), then renamed. The WAL that it needs must be here.
func (s *Server) placeCopy(ctx context.Context, c Config, p *primarySession, name, guard string, state []byte) error {
	var text string
	if err := p.conn.QueryRow(ctx, "select restart_lsn::text from pg_replication_slots where slot_name = $1", guard).Scan(&text); err != nil {
		return err
	}
	from, err := cluster.ParseLSN(text)
	if err != nil {
		return err
	}
	segment, err := s.segmentSize(ctx)
	if err != nil {
		return err
	}
	if tl, err := c.timelineOf(from+1, segment); err != nil || tl == 0 {
		return errors.Join(err, fmt.Errorf("this member has no WAL from %s on any more: once the subscriber has caught up it can be copied", from))
	}
	if err := s.dropLogical(ctx, []string{name}); err != nil {
		return err
	}
	dir := filepath.Join(c.DataDir, "pg_replslot", name)
	if err := errors.Join(os.RemoveAll(dir+".tmp"), os.RemoveAll(dir), c.makeDir(dir+".tmp"),
		c.writeFile(filepath.Join(dir+".tmp", "state"), state, true)); err != nil {
		return err
	}
	if err := os.Rename(dir+".tmp", dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// awaitCopies waits, after the restart, until the primary holds for this member what the copies need, as its feedback
// comes to say. The guards have held it until then.
func (s *Server) awaitCopies(ctx context.Context, p *primarySession, guards map[string]string) error {
	if err := s.awaitAnswer(ctx); err != nil {
		return err
	}
	var left []string
	for name := range guards {
		left = append(left, name)
	}
	for {
		mine, err := s.copies(ctx)
		if err != nil {
			return err
		}
		var done []string
		for _, name := range left {
			xmin, here := mine[name]
			if !here {
				return fmt.Errorf("copy the logical slot %s: the restarted server does not have it", name)
			}
			held, err := p.held(ctx, guards[name], xmin)
			if err != nil {
				return err
			}
			if held {
				done = append(done, name)
			}
		}
		if len(done) > 0 {
			if err := errors.Join(p.place(ctx), s.prove(p.timeline, done)); err != nil {
				return err
			}
			left = slices.DeleteFunc(left, func(n string) bool { return slices.Contains(done, n) })
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the primary does not hold what the logical slots %q need: is hot_standby_feedback on? %w", left, context.Cause(ctx))
		}
	}
}
