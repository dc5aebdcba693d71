package rig

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// said is how many of a member's lines an explanation shows: enough for a fault and what came of it.
const said = 40

// LogMark is where each member's log ends now, for LogSince.
func (r *Rig) LogMark() map[string]int64 {
	mark := map[string]int64{}
	for _, n := range r.Nodes {
		if st, err := os.Stat(n.LogFile()); err == nil {
			mark[n.Name] = st.Size()
		}
	}
	return mark
}

// LogSince is what each member has said since, without what is only for debugging: its last lines, equal ones once. All of it
// is in the logs that Stop keeps.
func (r *Rig) LogSince(mark map[string]int64) string {
	var out strings.Builder
	for _, n := range r.Nodes {
		b, err := os.ReadFile(n.LogFile())
		if err != nil {
			fmt.Fprintf(&out, "%s: %v\n", n.Name, err)
			continue
		}
		lines := brief(b[min(mark[n.Name], int64(len(b))):])
		fmt.Fprintf(&out, "%s:\n", n.Name)
		for _, line := range lines[max(0, len(lines)-said):] {
			fmt.Fprintf(&out, "  %s\n", line)
		}
	}
	return out.String()
}

// brief drops debugging and repetitions that differ in their time only, and cuts long lines.
func brief(log []byte) []string {
	var out []string
	last := ""
	for line := range bytes.Lines(log) {
		text := strings.TrimSpace(string(line))
		_, what, _ := strings.Cut(text, " ") // the time comes first
		if strings.Contains(text, "level=DEBUG") || what == last {
			continue
		}
		last = what
		out = append(out, text[:min(len(text), 300)])
	}
	return out
}
