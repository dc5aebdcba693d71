package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"standfast/api"
	"standfast/cluster"
)

// column is one column of a table. When the terminal is narrow those with the highest drop go first; 0 always stays.
type column struct {
	head  string
	right bool
	drop  int
	cells []string
	paint func(row int, text string) string
}

func (c column) width() int {
	n := utf8.RuneCountInString(c.head)
	for _, t := range c.cells {
		n = max(n, utf8.RuneCountInString(t))
	}
	return n
}

// fit drops columns until the rest has room.
func fit(columns []column, width int) []column {
	for {
		worst := -1
		for i, c := range columns {
			if c.drop > 0 && (worst < 0 || c.drop > columns[worst].drop) {
				worst = i
			}
		}
		if widthOf(columns) <= width || worst < 0 {
			return columns
		}
		columns = append(columns[:worst:worst], columns[worst+1:]...)
	}
}

// widthOf is what columns need side by side.
func widthOf(columns []column) int {
	n := -2
	for _, c := range columns {
		n += c.width() + 2
	}
	return n
}

func writeTable(w io.Writer, s style, columns []column, rows int) {
	columns = fit(columns, s.width)
	line := func(row int) {
		var b strings.Builder
		for i, c := range columns {
			text := c.head
			if row >= 0 {
				text = c.cells[row]
			}
			pad := strings.Repeat(" ", c.width()-utf8.RuneCountInString(text))
			if row >= 0 && c.paint != nil {
				text = c.paint(row, text)
			} else if row < 0 {
				text = s.dim(text)
			}
			switch {
			case c.right:
				text = pad + text
			case i < len(columns)-1:
				text += pad
			}
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(text)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	for row := -1; row < rows; row++ {
		line(row)
	}
}

// writeMembers shows one line for each member, and below it what each is busy with.
func writeMembers(w io.Writer, s style, st *api.Status) {
	get := func(f func(m *api.Member) string) []string {
		out := make([]string, len(st.Members))
		for i := range st.Members {
			out[i] = f(&st.Members[i])
		}
		return out
	}
	columns := []column{
		{head: "", cells: get(func(m *api.Member) string { return mark(m.Name == st.Primary) })},
		{head: "MEMBER", cells: get(func(m *api.Member) string { return m.Name })},
		{head: "ROLE", cells: get(func(m *api.Member) string { return string(m.Role) })},
		{head: "STATE", cells: get(stateText), paint: func(i int, t string) string { return paintState(s, &st.Members[i], t) }},
		{head: "TL", right: true, drop: 2, cells: get(func(m *api.Member) string { return orDash(m.Timeline != 0, fmt.Sprint(m.Timeline)) })},
		{head: "LSN", right: true, drop: 3, cells: get(func(m *api.Member) string { return orDash(m.LSN != 0, m.LSN.String()) })},
		{head: "LAG", right: true, cells: get(lagText)},
		{head: "COMMIT", drop: 1, cells: get(commitText)},
		{head: "SESSIONS", right: true, drop: 1, cells: get(func(m *api.Member) string { return orDash(m.State != api.Unreachable, fmt.Sprint(m.Sessions)) })},
		{head: "ADDRESS", drop: 5, cells: get(func(m *api.Member) string { return m.Postgres })},
		{head: "LOCATION", drop: 6, cells: get(func(m *api.Member) string { return m.Location })},
	}
	if !anyText(columns[len(columns)-1].cells) {
		columns = columns[:len(columns)-1]
	}
	writeTable(w, s, columns, len(st.Members))
	for _, m := range st.Members {
		if m.Note != "" {
			fmt.Fprintln(w, s.dim(wrap(fmt.Sprintf("  %s: %s", m.Name, m.Note), s.width-1, "    ")))
		}
	}
}

func mark(primary bool) string {
	if primary {
		return "*"
	}
	return ""
}

func stateText(m *api.Member) string {
	text := string(m.State)
	switch {
	case m.State == api.Unreachable: // what it was last is of no use now
	case m.Draining:
		text += ", drained"
	case m.PendingRestart:
		text += ", restart due"
	case m.Role == api.Standby && m.State == api.Running && !m.Attached:
		text += ", detached"
	case m.Role == api.Primary && m.State == api.Running && !m.Writable:
		text += ", closed"
	}
	return text
}

func paintState(s style, m *api.Member, text string) string {
	switch {
	case m.State == api.Unreachable, m.State == api.Failed, m.State == api.Stalled:
		return s.bad(text)
	case m.State == api.Running && text == string(api.Running), m.State == api.Watching:
		return s.good(text)
	}
	return s.warn(text)
}

func lagText(m *api.Member) string {
	switch {
	case m.Role != api.Standby:
		return "-"
	case m.Lag == nil:
		return "?"
	case m.LagSeconds != nil && *m.LagSeconds >= 1:
		return fmt.Sprintf("%s, %.0f s", human(*m.Lag), *m.LagSeconds)
	}
	return human(*m.Lag)
}

func commitText(m *api.Member) string {
	switch {
	case m.Kind == cluster.Witness:
		return "-"
	case m.Role == api.Primary:
		return "takes"
	case m.InRule:
		return "counts"
	}
	return "no"
}

func orDash(ok bool, text string) string {
	if ok {
		return text
	}
	return "-"
}

func anyText(cells []string) bool {
	for _, c := range cells {
		if c != "" {
			return true
		}
	}
	return false
}
