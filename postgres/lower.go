package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"standfast/cluster"
	"standfast/pgconf"
)

// Lower lets the next promotion, and that one only, put lowered values of the parameters in force that a standby must not
// have less of than its primary. Every primary here begins as a standby, with what the primary before it had; so it
// takes another start, in the middle of the promotion, and is done where an operator asked for a restart and never in a
// failover. Lower(false) takes it back.
func (s *Server) Lower(on bool) { s.lower.Store(on) }

// lowers reports whether this promotion is to lower anything.
func (s *Server) lowers(ctx context.Context) (bool, error) {
	if !s.lower.Swap(false) {
		return false, nil
	}
	c := s.config()
	control, err := c.controlData(ctx)
	if err != nil {
		return false, err
	}
	settings := c.settings()
	return slices.ContainsFunc(slices.Collect(maps.Keys(control.Floors)), func(name string) bool {
		want, ok := wanted(settings, name)
		return ok && want < control.Floors[name]
	}), nil
}

// promoteLowered starts the stopped standby once more with hot_standby off, which is the only way for PostgreSQL to recover
// with less than the former primary had (xlogrecovery.c, CheckRequiredParameterValues), and promotes it. It
// answers nobody until the promotion is over; then its first record tells the standbys of the new values.
//
// Whatever fails kills the server: one that answers nobody could not be told from one that hangs.
func (s *Server) promoteLowered(ctx context.Context, names cluster.Rule) (tl cluster.Timeline, err error) {
	before, err := s.Observe(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.Stop(ctx, Fast); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("with lowered parameters: %w", err), s.KillAll(context.WithoutCancel(ctx)))
		}
	}()
	c := s.config()
	c.unseen = true
	if err := s.launch(ctx, c); err != nil {
		return 0, err
	}
	if err := s.promoteUnseen(ctx, c); err != nil {
		return 0, err
	}
	after, err := s.Observe(ctx)
	if err != nil {
		return 0, err
	}
	if fork := after.Postgres.Fork; fork < before.Postgres.Replayed {
		return 0, fmt.Errorf("it forked at %s, before the end of its WAL at %s", fork, before.Postgres.Replayed)
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	if err := s.decodeBehind(ctx, names); err != nil { // the start has emptied what it sets
		return 0, err
	}
	_, err = s.writeNames(ctx, pgconf.SyncNames(names)) // until now they were ones that nobody can meet
	return after.Postgres.Position.Timeline, err
}

// promoteUnseen promotes a server that lets no session in, as pg_ctl does: by a file and a signal, which the postmaster
// passes on once recovery has begun. It returns when the server answers.
func (s *Server) promoteUnseen(ctx context.Context, c Config) error {
	w := s.postmaster()
	if w == nil {
		return errors.New("it has ended")
	}
	file := filepath.Join(c.DataDir, "promote")
	defer removeFile(file) // gone by then unless the server is
	t := time.NewTicker(pollPace)
	defer t.Stop()
	asked := false
	for {
		switch _, status := c.lockFile(); {
		case status == "standby" && !asked: // pidfile.h: in recovery, with nobody let in
			if err := errors.Join(c.writeFile(file, nil, false), w.signal(unix.SIGUSR1)); err != nil {
				return err
			}
			asked = true
		case status == "ready":
			return s.control.use(ctx, func(conn *pgx.Conn) error { return conn.Ping(ctx) })
		}
		select {
		case <-t.C:
		case <-w.exited:
			return fmt.Errorf("it ended: see %s", c.LogFile)
		case <-ctx.Done():
			return fmt.Errorf("still in recovery: %w", context.Cause(ctx))
		}
	}
}
