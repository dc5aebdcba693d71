package logs

import (
	"errors"
	"slices"

	"standfast/api"
	"standfast/internal/redact"
)

// Member is one member's logs. It implements api.Logs.
type Member struct {
	Name string
	Ring *Ring
	File string // PostgreSQL's; "": a witness
}

// Lines implements api.Logs.
func (m *Member) Lines(from api.LogMark) ([]api.LogLine, api.LogMark, error) {
	lines, newest := m.Ring.After(from.Own)
	to := api.LogMark{Own: newest, Postgres: from.Postgres}
	var err error
	if m.File != "" {
		var more []api.LogLine
		if from == (api.LogMark{}) { // the one before it too: the newest may just have been begun
			old, _, oldErr := ReadFile(m.File+".1", 0)
			more, err = old, oldErr
		}
		var now []api.LogLine
		var nowErr error
		now, to.Postgres, nowErr = ReadFile(m.File, from.Postgres)
		err = errors.Join(err, nowErr)
		lines = append(lines, append(more, now...)...)
	}
	for i := range lines {
		lines[i].Member = m.Name
		lines[i].Text = redact.Text(lines[i].Text)
	}
	slices.SortStableFunc(lines, func(a, b api.LogLine) int { return a.At.Compare(b.At) })
	return lines, to, err
}
