package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// ErrWrongTimeline says that a promotion has taken another timeline than the one reserved for it. The server has been
// killed.
var ErrWrongTimeline = errors.New("promoted to another timeline than the one reserved")

// Promote makes this standby the primary on exactly timeline tl. In this order: clients are kept out and their sessions
// ended, the rule's names are in force (never empty until the promotion is over), the numbers between this server's
// timeline and tl are skipped, and the server is promoted. It stays closed to clients.
func (s *Server) Promote(ctx context.Context, tl cluster.Timeline, r cluster.Rule) error {
	release, err := s.exclusive(ctx)
	if err == nil {
		defer release()
		err = s.promote(ctx, tl, r)
	}
	if err != nil {
		return fmt.Errorf("promote to timeline %d: %w", tl, err)
	}
	return nil
}

func (s *Server) promote(ctx context.Context, tl cluster.Timeline, r cluster.Rule) error {
	names := r
	if names.K == 0 {
		names = cluster.NewRule(1)
	}
	s.door.Lock()
	defer s.door.Unlock()
	ready := make(chan error, 1)
	go func() { ready <- s.prepareTimeline(ctx, tl, r) }()
	err := s.closeDoor(ctx, pgconf.SyncNames(names))
	if err = errors.Join(err, <-ready); err != nil {
		return err
	}
	have, err := s.leave(ctx, names)
	if err != nil {
		return err
	}
	if have != tl {
		return errors.Join(fmt.Errorf("%w: it is on %d", ErrWrongTimeline, have), s.KillAll(context.WithoutCancel(ctx)))
	}
	if err := s.endAllSenders(ctx); err != nil {
		return err
	}
	if r.K == 0 {
		return s.setNames(ctx, r, false)
	}
	return nil
}

// closeDoor keeps clients out, puts the names in force and ends the clients' sessions. Names that were prepared while this
// server was a standby need no writing: one reload puts the closed pg_hba in force and shows, in a session that begins
// after it, what the postmaster works by.
func (s *Server) closeDoor(ctx context.Context, names string) error {
	if err := s.writeAdmission(false); err != nil {
		return err
	}
	have, err := s.config().writtenNames()
	if err != nil || have != names {
		err = s.alterSystem(ctx, "synchronous_standby_names", names)
	}
	if err != nil {
		return err
	}
	if _, err := s.putNames(ctx, names); err != nil {
		return err
	}
	return s.endClients(ctx)
}

// prepareTimeline does what the promotion to tl needs beside closed doors. Members attach within milliseconds of it, and
// each needs its slot here.
func (s *Server) prepareTimeline(ctx context.Context, tl cluster.Timeline, r cluster.Rule) error {
	if err := s.skipTimelines(ctx, tl); err != nil {
		return err
	}
	if err := s.EnsureSlots(ctx, s.config().Members); err != nil {
		return err
	}
	return s.prepareLogical(ctx, tl, r)
}

// leave ends recovery and returns the new timeline. On return the names are in force.
func (s *Server) leave(ctx context.Context, names cluster.Rule) (cluster.Timeline, error) {
	lower, err := s.lowers(ctx)
	switch {
	case err != nil:
		return 0, err
	case lower:
		return s.promoteLowered(ctx, names)
	}
	return s.leaveRecovery(ctx)
}

// skipTimelines makes PostgreSQL take tl as its next timeline. It takes the first number above its own that has no
// history file (findNewestTimeLine in timeline.c), so every number below tl gets one of comments only. They stay: a
// standby that comes later asks the primary for the history files of all numbers in between. Numbers below this
// server's own are filled in too, for a clone has not got those that were skipped before it.
func (s *Server) skipTimelines(ctx context.Context, tl cluster.Timeline) error {
	c := s.config()
	o, err := s.Observe(ctx)
	if err != nil {
		return err
	}
	if !o.Postgres.Recovery {
		return errors.New("this server is a primary already")
	}
	if now := o.Postgres.Position.Timeline; now >= tl {
		return fmt.Errorf("this server is on timeline %d already", now)
	}
	if _, err := os.Stat(filepath.Join(c.walDir(), pgconf.HistoryName(tl))); err == nil {
		return errors.New("the timeline's number has been used: its history file exists")
	}
	for n := cluster.Timeline(2); n < tl; n++ {
		path := filepath.Join(c.walDir(), pgconf.HistoryName(n))
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := c.writeFile(path, []byte(pgconf.SkippedHistory), false); err != nil {
			return err
		}
	}
	return nil // not synced: whoever becomes primary again, after a power loss for example, comes through here again
}

// leaveRecovery promotes and polls until it is done: PostgreSQL's own waiting sleeps in steps of 100 ms. It returns the
// new timeline.
//
// Once PostgreSQL has been asked, a server whose promotion is not seen to the end is killed: it could be carried out later, with
// the WAL and above the timeline of a term that has come between. A postmaster that starts forgets it (RemovePromoteSignalFiles).
func (s *Server) leaveRecovery(ctx context.Context) (cluster.Timeline, error) {
	var tl uint32
	asked := false
	err := s.safety.use(ctx, func(conn *pgx.Conn) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		asked = true
		if _, err := conn.Exec(ctx, "select pg_promote(false)"); err != nil {
			return err
		}
		for {
			// One statement for both, the timeline only once recovery is over.
			err := conn.QueryRow(ctx, `select case when pg_is_in_recovery() then 0
				else ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint end`).Scan(&tl)
			if err != nil || tl != 0 {
				return err
			}
			select {
			case <-time.After(pollPace):
			case <-ctx.Done():
				return fmt.Errorf("still in recovery: %w", context.Cause(ctx))
			}
		}
	})
	if err != nil && asked {
		err = errors.Join(err, s.KillAll(context.WithoutCancel(ctx)))
	}
	return cluster.Timeline(tl), err
}
