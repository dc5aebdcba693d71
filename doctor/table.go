package doctor

import (
	"fmt"
	"strings"
)

// Table lists all checks in Markdown, as docs/DOCTOR.md has them.
func Table() string {
	var b strings.Builder
	for _, g := range Groups {
		fmt.Fprintf(&b, "### %s\n\n| check | finds |\n|---|---|\n", g)
		for _, k := range All {
			if k.Group == g {
				fmt.Fprintf(&b, "| `%s` | %s |\n", k.ID, k.Finds)
			}
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n")
}
