package gather

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"standfast/doctor/facts"
)

// How much of a log's end is read, and how old a line may be.
const (
	tailSize = 256 << 10
	recent   = time.Hour
)

// kinds are the lines of PostgreSQL's log that say what is wrong, by what they are about ("Error Codes"; the words are those of its
// English messages). The first that matches counts.
var kinds = []struct {
	kind string
	line *regexp.Regexp
}{
	{"full", regexp.MustCompile(`No space left on device`)},
	{"disk", regexp.MustCompile(`Input/output error|could not fsync|Read-only file system|Stale file handle`)},
	{"corrupt", regexp.MustCompile(`invalid page in block|page verification failed|could not read block|invalid record length.*PANIC|unexpected data beyond EOF`)},
	{"panic", regexp.MustCompile(`PANIC:`)},
	{"memory", regexp.MustCompile(`out of memory|Cannot allocate memory`)},
	{"crash", regexp.MustCompile(`was terminated by signal (4|6|7|8|11)\b`)},
	{"clients", regexp.MustCompile(`too many clients already|remaining connection slots are reserved|too many connections for`)},
	{"hba", regexp.MustCompile(`no pg_hba\.conf entry for host`)},
	{"password", regexp.MustCompile(`password authentication failed`)},
	{"archive", regexp.MustCompile(`archive command failed|archiving write-ahead log file .* failed`)},
	{"wal gone", regexp.MustCompile(`requested WAL segment \S+ has already been removed`)},
}

// logs counts what the ends of PostgreSQL's and etcd's logs say of the last hour.
func (g *Gatherer) logs(context.Context) (func(*facts.Member), error) {
	dir := filepath.Join(g.cfg.Node.StateDir, "log")
	pg, err := tail(filepath.Join(dir, "postgresql.log"))
	store, err2 := tail(filepath.Join(dir, "etcd.log"))
	out := append(countPostgres(pg, time.Now()), countEtcd(store, time.Now())...)
	return func(m *facts.Member) { m.Logs = out }, errors.Join(err, err2)
}

// tail reads the last lines of a file; nothing if there is none.
func tail(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(max(0, end-tailSize), io.SeekStart)
	}
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, tailSize))
	return string(text), err
}

func countPostgres(text string, now time.Time) []facts.Log {
	c := counter{name: "postgresql"}
	var at time.Time
	for line := range strings.Lines(text) {
		if t, ok := stamp(line); ok {
			at = t // lines without one belong to the one before
		}
		if now.Sub(at) > recent {
			continue
		}
		for _, k := range kinds {
			if k.line.MatchString(line) {
				c.add(k.kind, at)
				break
			}
		}
	}
	return c.logs
}

// stamp reads the time that Standfast's log_line_prefix begins with (%m). A site that has another gets no findings from its log.
func stamp(line string) (time.Time, bool) {
	f := strings.SplitN(line, " ", 4)
	if len(f) < 4 {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05.999 MST", strings.Join(f[:3], " "), time.Local)
	return t, err == nil
}

// countEtcd reads etcd's lines of JSON. "slow fdatasync" and "apply request took too long" are its own words for a disk that is too slow.
func countEtcd(text string, now time.Time) []facts.Log {
	c := counter{name: "etcd"}
	for line := range strings.Lines(text) {
		var l struct {
			Time string `json:"ts"`
			Text string `json:"msg"`
		}
		if json.Unmarshal([]byte(line), &l) != nil {
			continue // cut off, or another program's
		}
		at, err := time.Parse("2006-01-02T15:04:05.999999Z0700", l.Time)
		if err != nil || now.Sub(at) > recent {
			continue
		}
		switch {
		case strings.HasPrefix(l.Text, "slow fdatasync"):
			c.add("slow disk", at)
		case strings.HasPrefix(l.Text, "leader failed to send out heartbeat on time"):
			c.add("late", at)
		}
	}
	return c.logs
}

// counter keeps one entry for each kind.
type counter struct {
	name string
	logs []facts.Log
}

func (c *counter) add(kind string, at time.Time) {
	i := slices.IndexFunc(c.logs, func(l facts.Log) bool { return l.Kind == kind })
	if i < 0 {
		c.logs, i = append(c.logs, facts.Log{Name: c.name, Kind: kind}), len(c.logs)
	}
	c.logs[i].Count++
	c.logs[i].Last = at
}
