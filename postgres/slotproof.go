package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
)

// Before PostgreSQL 17 a logical slot on a standby is a copy that PostgreSQL knows nothing about: nothing keeps the primary
// from removing rows of the catalog that the copy will need to decode old WAL. It is known to be usable only once the
// primary has been seen to hold those rows for this member (see copied). That is remembered here, with the timeline
// that it was seen on: on a later one another server was the primary, which did not hold them from its beginning.
//
// A proof is of no use for other data, so it goes before data is replaced.

func (c Config) proofFile() string {
	dir := c.PasswordDir
	if dir == "" {
		dir = filepath.Dir(c.DataDir)
	}
	return filepath.Join(dir, "logical-slots.json")
}

// proven gives, by slot, the newest timeline on which it was seen to be usable.
func (c Config) proven() (map[string]cluster.Timeline, error) {
	out := map[string]cluster.Timeline{}
	b, err := os.ReadFile(c.proofFile())
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("read which logical slots are usable: %w", err)
	}
	return out, nil
}

// prove remembers that the slots are usable on the timeline.
func (s *Server) prove(tl cluster.Timeline, names []string) error {
	s.proofs.Lock()
	defer s.proofs.Unlock()
	c := s.config()
	have, err := c.proven()
	if err != nil {
		return err
	}
	next := maps.Clone(have)
	for _, n := range names {
		next[n] = max(next[n], tl)
	}
	if maps.Equal(next, have) {
		return nil
	}
	b, err := json.Marshal(next)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(c.proofFile()), 0o700)
	}
	if err == nil {
		err = c.writeFile(c.proofFile(), b, true)
	}
	if err != nil {
		return fmt.Errorf("remember which logical slots are usable: %w", err)
	}
	return nil
}

// disprove forgets every proof: the data is about to become other data.
func (s *Server) disprove() error {
	s.proofs.Lock()
	defer s.proofs.Unlock()
	path := s.config().proofFile()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return removeFile(path)
}

// removeCopies removes the declared slots from a data directory that no server runs on. pg_rewind keeps slots as they are,
// and one that was used beyond the fork would skip what the new history has there.
func (c Config) removeCopies() error {
	var errs []error
	for _, name := range c.slotNames() {
		errs = append(errs, os.RemoveAll(filepath.Join(c.DataDir, "pg_replslot", name)))
	}
	return errors.Join(errs...)
}

// prepareLogical makes the logical slots here those of a primary on timeline tl. Copies of declared slots that are not known
// to be usable are dropped: one that lacks rows of the catalog would decode wrongly. KeepLogicalSlots tells of them.
// From version 17 on PostgreSQL does this itself, and decoding is made to wait for members of the rule.
func (s *Server) prepareLogical(ctx context.Context, tl cluster.Timeline, r cluster.Rule) error {
	c := s.config()
	major, err := c.major()
	if err != nil {
		return err
	}
	if major >= failoverSlots {
		s.naming.Lock()
		defer s.naming.Unlock()
		return s.decodeBehind(ctx, r)
	}
	if len(c.Slots) == 0 {
		return nil
	}
	o, err := s.Observe(ctx)
	if err != nil {
		return err
	}
	proven, err := c.proven()
	if err != nil {
		return err
	}
	var keep, drop []string
	for _, name := range c.slotNames() {
		if proven[name] < o.Postgres.Position.Timeline {
			drop = append(drop, name)
		} else {
			keep = append(keep, name)
		}
	}
	return errors.Join(s.dropLogical(ctx, drop), s.prove(tl, keep))
}

// dropLogical drops logical slots that nobody uses.
func (s *Server) dropLogical(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return s.control.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots
			where slot_name = any($1) and slot_type = 'logical' and not active`, names)
		return err
	})
}
