package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/pgconf"
)

// WALEnd reads, of a server that may be stopped or running, where its WAL ends and when its newest commit was made (zero if there is
// none since the last checkpoint). It is read by pg_waldump from the last checkpoint on, or from where the newest timeline begins.
func (s *Server) WALEnd(ctx context.Context) (cluster.Position, time.Time, error) {
	c := s.config()
	cd, err := c.controlData(ctx)
	if err != nil {
		return cluster.Position{}, time.Time{}, err
	}
	from := cluster.Position{Timeline: cd.Checkpoint.Timeline, LSN: cd.Redo}
	if tl := c.newestTimeline(cd.SegmentSize); tl > from.Timeline {
		_, fork, err := c.history(tl)
		if err != nil {
			return from, time.Time{}, err
		}
		from = cluster.Position{Timeline: tl, LSN: max(fork, cd.Redo)}
	}
	end, committed, err := c.dump(ctx, from)
	if end.Before(cd.MinRecovery) {
		end = cd.MinRecovery
	}
	return end, committed, err
}

// newestTimeline is the highest one that pg_wal holds WAL of; 0 if it holds none.
func (c Config) newestTimeline(size uint64) cluster.Timeline {
	var newest cluster.Timeline
	entries, _ := os.ReadDir(c.walDir()) // what can't be read shows when it is dumped
	page := make([]byte, walPage)
	for _, e := range entries {
		seg, ok := pgconf.ParseSegment(e.Name(), size)
		if !ok || seg.Timeline <= newest {
			continue
		}
		if used, err := firstPage(filepath.Join(c.walDir(), e.Name()), page, seg.Start(size)); err == nil && used {
			newest = seg.Timeline
		}
	}
	return newest
}

// dump lists the transactions' ends from a position on. pg_waldump ends with an error where WAL does, and says where that is.
func (c Config) dump(ctx context.Context, from cluster.Position) (cluster.Position, time.Time, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.BinDir, "pg_waldump"), "-p", c.walDir(), "-t", fmt.Sprint(from.Timeline), "-s", from.LSN.String(), "-r", "Transaction")
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return from, time.Time{}, fmt.Errorf("read the WAL: %w", err)
	}
	end, committed := dumpEnd(from.LSN, string(out), words.String())
	return cluster.Position{Timeline: from.Timeline, LSN: end}, committed, nil
}

var (
	walErrorAt = regexp.MustCompile(`\bat ([0-9A-F]+/[0-9A-F]+)`)
	commitLine = regexp.MustCompile(`lsn: ([0-9A-F]+/[0-9A-F]+),.* desc: COMMIT(?:_PREPARED)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)`)
)

// dumpEnd reads pg_waldump's output, and its error as it comes to the end of WAL.
func dumpEnd(from cluster.LSN, out, words string) (cluster.LSN, time.Time) {
	end, committed := from, time.Time{}
	for line := range strings.Lines(out) {
		m := commitLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if lsn, err := cluster.ParseLSN(m[1]); err == nil {
			end = max(end, lsn)
		}
		if at, err := time.Parse("2006-01-02 15:04:05.999999", m[2]); err == nil && at.After(committed) {
			committed = at
		}
	}
	for _, m := range walErrorAt.FindAllStringSubmatch(words, -1) {
		if lsn, err := cluster.ParseLSN(m[1]); err == nil {
			end = max(end, lsn)
		}
	}
	return end, committed
}
