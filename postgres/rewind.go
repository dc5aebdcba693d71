package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// Bounds on what is kept of discarded WAL, beside the data directory.
const (
	keepSegments = 64 // of one rewind
	keepRewinds  = 3
)

// Rewind brings data that has left the source's history back onto it with pg_rewind. A server that was not stopped in
// order is first recovered as a standby behind the relay, which is what pg_rewind needs. The WAL that is discarded is
// kept aside (see Discarded). A durable marker makes the data Partial while it is neither the old nor the new.
//
// An error before that, for example because the source can't be reached or lacks the WAL, leaves the data as it was.
func (s *Server) Rewind(ctx context.Context, from Source) error {
	release, err := s.exclusive(ctx)
	if err == nil {
		defer release()
		err = s.rewind(ctx, from)
	}
	if err != nil {
		return fmt.Errorf("rewind to %s: %w", net.JoinHostPort(from.Host, strconv.Itoa(from.Port)), err)
	}
	return nil
}

func (s *Server) rewind(ctx context.Context, from Source) error {
	c := s.config()
	if work, err := c.marked(); err != nil || work != "" {
		return errors.Join(err, fmt.Errorf("the data is half made by an unfinished %s: clone it", work))
	}
	control, err := s.stopCleanly(ctx, c)
	if err != nil {
		return err
	}
	line, err := c.sourceLine(ctx, from)
	if err != nil {
		return err
	}
	tl, fork, err := divergence(line, control)
	if err != nil {
		return err
	}
	dir, err := c.discardedDir(tl, fork)
	if err != nil {
		return err
	}
	if _, err := c.keepDiscarded(dir, tl, fork, control.SegmentSize); err != nil {
		return fmt.Errorf("keep the WAL to be discarded in %s: %w", dir, err)
	}
	args := []string{"-D", c.DataDir, "--no-ensure-shutdown", "--source-server",
		c.libpq(from, pgconf.RewindRole, "standfast_rewind", "postgres")}
	if _, err := c.run(ctx, "pg_rewind", append(args, "--dry-run")...); err != nil {
		return err
	}
	if err := from.touch(func() error { return c.mark(workRewind) }); err != nil {
		return err
	}
	s.forget()
	if err := errors.Join(s.disprove(), c.removeCopies()); err != nil {
		return err
	}
	if err := c.rewindMarked(ctx, args, tl, fork, control.SegmentSize); err != nil {
		return err
	}
	return c.unmark()
}

// rewindMarked does what leaves the data in between.
func (c Config) rewindMarked(ctx context.Context, args []string, tl cluster.Timeline, fork cluster.LSN, segment uint64) error {
	said := &tail{max: 64 << 10}
	if _, err := c.runWatched(ctx, said, "pg_rewind", args...); err != nil {
		return err
	}
	if strings.Contains(string(said.buf), "no rewind required") {
		if err := c.cutWAL(tl, fork, segment); err != nil {
			return err
		}
	}
	return c.writeFile(c.standbyFile(), nil, true)
}

// stopCleanly brings the data into the state that pg_rewind wants: shut down, its recovery done. What has crashed, or
// was killed as a standby, is started as a standby (nothing reaches it but the relay's socket) and stopped again.
func (s *Server) stopCleanly(ctx context.Context, c Config) (pgconf.Control, error) {
	if err := s.Stop(ctx, Fast); err != nil {
		return pgconf.Control{}, err
	}
	if err := s.KillAll(ctx); err != nil {
		return pgconf.Control{}, err
	}
	control, err := c.controlData(ctx)
	if err != nil || control.Clean() {
		return control, err
	}
	if err := s.startStandby(ctx); err != nil {
		return control, fmt.Errorf("recover the data first: %w", err)
	}
	if err := s.awaitAnswer(ctx); err != nil {
		return control, fmt.Errorf("recover the data first: %w", err)
	}
	if err := s.Stop(ctx, Fast); err != nil {
		return control, err
	}
	control, err = c.controlData(ctx)
	if err == nil && !control.Clean() {
		err = fmt.Errorf("the data is %q after recovery", control.State)
	}
	return control, err
}

// connectSource opens a session on the source with the rewind role's rights.
func (c Config) connectSource(ctx context.Context, from Source) (*pgx.Conn, error) {
	return c.connectSourceAs(ctx, from, pgconf.RewindRole, "standfast_rewind")
}

func (c Config) connectSourceAs(ctx context.Context, from Source, role, application string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(c.conninfo(from, role, application, pgconf.SyncDatabase).String())
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	cfg.RuntimeParams["search_path"] = "pg_catalog"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	return conn, nil
}

// sourceLine asks the source for its timeline and ancestors. It waits until the source's control file shows the
// timeline, which its first checkpoint after promotion does: before, pg_rewind would see nothing to do.
func (c Config) sourceLine(ctx context.Context, from Source) (cluster.History, error) {
	conn, err := c.connectSource(ctx, from)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	var tl, checkpointed uint32
	for {
		err := conn.QueryRow(ctx, `select ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint,
			(select timeline_id from pg_control_checkpoint())`).Scan(&tl, &checkpointed)
		if err != nil {
			return nil, fmt.Errorf("ask for the timeline: %w", err)
		}
		if tl == checkpointed {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("it has made no checkpoint since it was promoted: %w", context.Cause(ctx))
		}
	}
	var text []byte
	if tl > 1 {
		err = conn.QueryRow(ctx, "select pg_read_binary_file('pg_wal/' || $1)", pgconf.HistoryName(cluster.Timeline(tl))).Scan(&text)
		if err != nil {
			return nil, fmt.Errorf("read the timeline's history: %w", err)
		}
	}
	h, err := pgconf.ParseHistory(string(text))
	return append(h, cluster.Branch{Timeline: cluster.Timeline(tl), End: ^cluster.LSN(0)}), err
}

// divergence gives this data's timeline and where the source's line left it.
func divergence(line cluster.History, control pgconf.Control) (cluster.Timeline, cluster.LSN, error) {
	tl := max(control.Checkpoint.Timeline, control.MinRecovery.Timeline)
	i := slices.IndexFunc(line, func(b cluster.Branch) bool { return b.Timeline == tl })
	switch {
	case i < 0:
		return 0, 0, fmt.Errorf("timeline %d of this data is no ancestor of the primary's: clone it", tl)
	case i == len(line)-1:
		return 0, 0, fmt.Errorf("this data is on timeline %d like the primary: there is nothing to rewind", tl)
	}
	return tl, line[i].End, nil
}

// Discarded is the directory beside the data that holds, one directory for each rewind, the WAL that was discarded.
func (s *Server) Discarded() string { return s.config().discarded() }

func (c Config) discarded() string { return c.DataDir + ".standfast.discarded" }

// discardedDir makes the directory for one rewind and removes the oldest ones.
func (c Config) discardedDir(tl cluster.Timeline, fork cluster.LSN) (string, error) {
	dir := filepath.Join(c.discarded(), fmt.Sprintf("%s-timeline-%d-from-%X-%08X", time.Now().UTC().Format("20060102T150405.000"), tl, uint64(fork)>>32, uint32(fork)))
	if err := errors.Join(c.makeDir(c.discarded()), c.makeDir(dir)); err != nil {
		return "", fmt.Errorf("keep the WAL to be discarded: %w", err)
	}
	entries, err := os.ReadDir(c.discarded()) // sorted by name, hence by time
	if err != nil {
		return "", err
	}
	for len(entries) > keepRewinds {
		if err := os.RemoveAll(filepath.Join(c.discarded(), entries[0].Name())); err != nil {
			return "", err
		}
		entries = entries[1:]
	}
	return dir, nil
}
