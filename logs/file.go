package logs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"standfast/api"
)

const (
	most    = 2 << 20 // bytes of PostgreSQL's log that are read at once, its end
	longest = 8 << 10 // bytes of one line; the rest is left out
)

// ReadFile returns the lines of PostgreSQL's log from the offset on, at most its last 2 MB, and the offset to go on from. 0 is the
// beginning; of a file that is smaller than the offset, for it was begun anew, everything is read. A line without its end is left for the
// next time. What follows a line and has no time of its own belongs to it.
func ReadFile(path string, offset int64) ([]api.LogLine, int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, offset, fmt.Errorf("read PostgreSQL's log: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, offset, fmt.Errorf("read PostgreSQL's log: %w", err)
	}
	if st.Size() < offset {
		offset = 0
	}
	if st.Size() == offset {
		return nil, offset, nil
	}
	from := max(offset, st.Size()-most)
	text := make([]byte, st.Size()-from)
	n, err := f.ReadAt(text, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, offset, fmt.Errorf("read PostgreSQL's log: %w", err)
	}
	end := strings.LastIndexByte(string(text[:n]), '\n') + 1
	return parse(string(text[:end]), st.ModTime()), from + int64(end), nil
}

// parse takes the log apart. A line before the first with a time is the end of one that was cut off; where none has a time, because
// the site has a log_line_prefix of its own, all get that of the file.
func parse(text string, changed time.Time) []api.LogLine {
	var out []api.LogLine
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if at, rest, ok := stamp(line); ok {
			out = append(out, api.LogLine{At: at, Source: api.LogPostgres, Level: level(rest), Text: cut(rest)})
		} else if n := len(out); n > 0 {
			out[n-1].Text = cut(out[n-1].Text + "\n" + line)
		}
	}
	if out != nil {
		return out
	}
	for line := range strings.Lines(text) {
		out = append(out, api.LogLine{At: changed, Source: api.LogPostgres, Level: level(line), Text: cut(strings.TrimRight(line, "\r\n"))})
	}
	return out
}

func cut(line string) string {
	if len(line) > longest {
		return strings.ToValidUTF8(line[:longest], "") + "…"
	}
	return line
}

// stamp splits off the time that Standfast's log_line_prefix begins with (%m).
func stamp(line string) (time.Time, string, bool) {
	f := strings.SplitN(line, " ", 4)
	if len(f) < 4 {
		return time.Time{}, "", false
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05.999 MST", strings.Join(f[:3], " "), time.Local)
	return t, f[3], err == nil
}

// severities are PostgreSQL's ("Message Severity Levels"), as its English messages have them.
var severities = regexp.MustCompile(`\b(WARNING|ERROR|FATAL|PANIC):  `)

func level(line string) string {
	switch m := severities.FindStringSubmatch(line); {
	case m == nil:
		return "info"
	case m[1] == "WARNING":
		return "warn"
	}
	return "error"
}
