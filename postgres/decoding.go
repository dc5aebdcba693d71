package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// A subscriber of logical replication must not receive what a failover may discard. PostgreSQL 17 lets the decoding of
// failover slots wait for the physical slots in synchronized_standby_slots, all of them. Not all members are listed, for
// one that is away would then stop every subscriber, but as many as a commit waits for: k members of the rule in force.
// What a subscriber has seen is then on as many copies as what a client was told, and an election finds both. Which k of
// them does not matter and may change at any time, so those are listed that stream now.
//
// When the rule changes, the list follows in the same order as the names: it is in force before them, and the WAL
// senders that work by an older list, logical ones too, are ended with those that work by older names.

// walLogical is the value of wal_level that logical decoding needs.
const walLogical = "logical"

// failoverSlots is the first version with failover slots and slot synchronization.
const failoverSlots = 17

// major is the version of the data.
func (c Config) major() (int, error) {
	b, err := os.ReadFile(filepath.Join(c.DataDir, "PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("read the data's version: %w", err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read the data's version: %w", err)
	}
	return v, nil
}

// slotSync gives the parameters that start slot synchronization. They stand on the command line, for they must agree with
// wal_level, which changes at a start only: a postmaster that is told by a reload to synchronize slots below logical
// ends with an error.
func (c Config) slotSync() ([]pgconf.Setting, error) {
	major, err := c.major()
	if err != nil || major < failoverSlots {
		return nil, err
	}
	level, err := c.levelAtStart()
	on := "off"
	if level == walLogical {
		on = "on"
	}
	return []pgconf.Setting{{Name: "sync_replication_slots", Value: on}}, err
}

// levelAtStart is the wal_level of a server that is started now: postgresql.auto.conf's, else the cluster's, else ours.
func (c Config) levelAtStart() (string, error) {
	text, err := os.ReadFile(c.autoFile())
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	auto, err := pgconf.Auto(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.autoFile(), err)
	}
	level := c.walLevel()
	for name, v := range c.Parameters {
		if strings.EqualFold(name, "wal_level") {
			level = v
		}
	}
	if v, ok := auto["wal_level"]; ok {
		level = v
	}
	return strings.ToLower(level), nil
}

// KeepDecoding looks whether decoding waits for members that stream, and lists others if not. It has no effect on a
// standby, before PostgreSQL 17 or below wal_level = logical.
func (s *Server) KeepDecoding(ctx context.Context) error {
	if !s.naming.TryLock() {
		return nil // the rule is being changed, and the list with it
	}
	defer s.naming.Unlock()
	c := s.config()
	major, err := c.major()
	if err != nil || major < failoverSlots {
		return err
	}
	if level, err := c.levelAtStart(); err != nil || level != walLogical {
		return err // which is cheaper than asking the server
	}
	var names string
	var recovery bool
	err = s.control.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select current_setting('synchronous_standby_names'), pg_is_in_recovery()").Scan(&names, &recovery)
	})
	if err != nil || recovery {
		return err
	}
	r, err := pgconf.ParseSyncNames(names)
	if err == nil {
		err = s.decodeBehind(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("let logical decoding wait for standbys: %w", err)
	}
	return nil
}

// decodeBehind lets the decoding of failover slots wait for k members of the rule, and returns when that is in force for
// sessions that begin from now on. s.naming is held.
func (s *Server) decodeBehind(ctx context.Context, r cluster.Rule) error {
	if major, err := s.config().major(); err != nil || major < failoverSlots {
		return err
	}
	var level, have string
	var active []string
	err := s.control.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select current_setting('wal_level'), current_setting('synchronized_standby_slots'),
			array(select slot_name::text from pg_replication_slots where slot_type = 'physical' and active)`).Scan(&level, &have, &active)
	})
	if err != nil || level != walLogical {
		return err
	}
	want := waitFor(r, splitList(have), active)
	if want == have {
		return nil
	}
	if err := s.EnsureSlots(ctx, r.Of); err != nil { // a slot that is not there can't be named
		return err
	}
	if err := s.alterSystem(ctx, "synchronized_standby_slots", want); err != nil {
		return err
	}
	return s.reload(ctx, func(conn *pgx.Conn) (bool, error) {
		err := conn.QueryRow(ctx, "select current_setting('synchronized_standby_slots')").Scan(&have)
		return have == want, err
	})
}

// waitFor chooses the slots of k members of the rule: of those that stream the ones listed already, then others that
// stream, then whoever is left. For a rule that nobody can meet the list stays: under it nobody but this primary can be
// elected, so that whatever it lets out is safe.
func waitFor(r cluster.Rule, have, active []string) string {
	if r.K > len(r.Of) {
		return strings.Join(have, ", ")
	}
	rank := func(slot string) int {
		switch {
		case !slices.Contains(active, slot):
			return 2
		case !slices.Contains(have, slot):
			return 1
		}
		return 0
	}
	slots := make([]string, 0, len(r.Of))
	for _, m := range r.Of {
		slots = append(slots, pgconf.SlotName(m))
	}
	slices.SortStableFunc(slots, func(a, b string) int { return rank(a) - rank(b) })
	slots = slots[:max(r.K, 0)]
	slices.Sort(slots)
	return strings.Join(slots, ", ")
}

// splitList reads a list of slots' names, which need no quotes.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '"' })
}
