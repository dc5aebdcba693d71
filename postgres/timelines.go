package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"standfast/cluster"
	"standfast/pgconf"
)

// gap is how many numbers in a row may be missing before nobody is thought to have used one above. PostgreSQL itself stops at the first
// (findNewestTimeLine in timeline.c); but elections reserve a number each, and those that were skipped are in no archive.
const gap = 16

// proveArchive has the archive bring the WAL file that the backup begins with. A restore command that brings nothing, for a mistake in it, is
// otherwise taken for an archive that ends there.
func (c Config) proveArchive(ctx context.Context, command string) error {
	if command == "" {
		return nil
	}
	label, err := os.ReadFile(filepath.Join(c.DataDir, "backup_label"))
	if err != nil {
		return err
	}
	m := startFile.FindSubmatch(label)
	if m == nil {
		return errors.New("backup_label does not name the WAL file that the backup begins with")
	}
	name := string(m[1])
	_, said, err := c.bring(ctx, command, name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the restore command does not bring %s, the WAL file that the backup begins with: %s (if the archive does not hold it, do without a restore command)", name, cmp.Or(said, "it says nothing"))
	}
	return err
}

// startFile finds the file in backup_label ("START WAL LOCATION: 0/2000028 (file 000000010000000000000002)").
var startFile = regexp.MustCompile(`(?m)^START WAL LOCATION: .*\(file ([0-9A-F]{24})\)`)

// prepareTimelines finds the timeline that the recovery is to follow and sees to it that it ends on a number that nobody has used: the
// history files that are known are put into pg_wal, and comment-only ones for the numbers between.
func (c Config) prepareTimelines(ctx context.Context, r Recovery, of cluster.Timeline) (cluster.Timeline, error) {
	known, err := c.histories(ctx, r.Command, of, max(of, r.Above))
	if err != nil {
		return 0, err
	}
	follow, err := chooseTimeline(known, of, r.Timeline)
	if err != nil {
		return 0, err
	}
	newest := max(of, r.Above)
	for tl := range known {
		newest = max(newest, tl)
	}
	for tl := of + 1; tl <= newest; tl++ {
		text, ok := known[tl]
		if !ok {
			text = pgconf.SkippedHistory
		}
		path := filepath.Join(c.walDir(), pgconf.HistoryName(tl))
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := c.writeFile(path, []byte(text), false); err != nil {
			return 0, err
		}
	}
	return follow, nil
}

// histories reads the history files that pg_wal and the archive hold, of the timelines above one until gap numbers above least are
// missing.
func (c Config) histories(ctx context.Context, command string, above, least cluster.Timeline) (map[cluster.Timeline]string, error) {
	out := map[cluster.Timeline]string{}
	for tl, missing := above+1, 0; missing < gap || tl <= least+gap; tl++ {
		text, err := c.readHistory(ctx, command, tl)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return nil, err
		default:
			out[tl], missing = text, 0
		}
	}
	return out, nil
}

func (c Config) readHistory(ctx context.Context, command string, tl cluster.Timeline) (string, error) {
	name := pgconf.HistoryName(tl)
	b, err := os.ReadFile(filepath.Join(c.walDir(), name))
	if err == nil || command == "" || !errors.Is(err, fs.ErrNotExist) {
		return string(b), err
	}
	text, _, err := c.bring(ctx, command, name)
	return text, err
}

// bring has the archive bring a file and returns its content, and what the command said; fs.ErrNotExist: the archive does not have it.
func (c Config) bring(ctx context.Context, command, name string) (content, said string, err error) {
	tmp, err := os.MkdirTemp(c.DataDir, "standfast.restore-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(tmp)
	if err := c.own(tmp); err != nil {
		return "", "", err
	}
	to := filepath.Join(tmp, name)
	if said, err = c.fetch(ctx, command, name, to); err != nil {
		return "", said, fmt.Errorf("run the restore command for %s: %w: %s", name, err, said)
	}
	b, err := os.ReadFile(to)
	return string(b), said, err
}

// fetch runs a restore_command as PostgreSQL would ("Recovering Using a Continuous Archive Backup"): an exit code up to 125 says that the
// archive does not have the file.
func (c Config) fetch(ctx context.Context, command, name, to string) (said string, err error) {
	line := strings.NewReplacer("%%", "%", "%f", name, "%p", to, "%r", "000000010000000000000001").Replace(command)
	cmd := c.command(ctx, "/bin/sh", "-c", line)
	cmd.Path, cmd.Dir = "/bin/sh", c.DataDir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 1 && exit.ExitCode() <= 125 {
		err = nil
	}
	return lastLines(string(out), 3), err
}

// chooseTimeline is the newest timeline that data of timeline of can be recovered along, or the wanted one if it is such.
func chooseTimeline(known map[cluster.Timeline]string, of, wanted cluster.Timeline) (cluster.Timeline, error) {
	best := of
	for tl, text := range known {
		h, err := pgconf.ParseHistory(text)
		if err != nil {
			return 0, fmt.Errorf("history of timeline %d: %w", tl, err)
		}
		if tl <= of || !ancestor(h, of) {
			continue
		}
		if tl == wanted {
			return tl, nil
		}
		best = max(best, tl)
	}
	switch wanted {
	case 0:
		return best, nil
	case of:
		return of, nil
	}
	return 0, fmt.Errorf("the data is of timeline %d, and nothing leads from it to timeline %d: choose an older backup, or another timeline", of, wanted)
}

func ancestor(h cluster.History, tl cluster.Timeline) bool {
	for _, b := range h {
		if b.Timeline == tl {
			return true
		}
	}
	return false
}
