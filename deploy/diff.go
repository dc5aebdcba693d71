package deploy

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// Diff is what a step changes in one file.
type Diff struct {
	Path string `json:"path"`
	Text string `json:"text"` // unified, without its header; of a secret or a program only that it changes
}

// secretMode: who else may read a file may see it in a diff.
const secretMode = 0o044

// differences tells of files that are not as they are to be.
func differences(ctx context.Context, m Machine, there map[string]FileState, wanted []File) ([]Diff, error) {
	var out []Diff
	for _, f := range wanted {
		is, exists := there[f.Path]
		var lines []string
		if text := owned(is, exists, f); text != "" {
			lines = append(lines, text)
		}
		if !exists || is.Sum != sum(f.Text) {
			text, err := content(ctx, m, f, exists)
			if err != nil {
				return nil, err
			}
			lines = append(lines, text)
		}
		out = append(out, Diff{f.Path, strings.Join(lines, "\n")})
	}
	return out, nil
}

// owned tells of a change of owner and mode.
func owned(is FileState, exists bool, f File) string {
	if !exists || is.Owner == f.Owner && is.Mode == f.Mode {
		return ""
	}
	return fmt.Sprintf("owner and mode: %s %o, then %s %o", is.Owner, is.Mode, f.Owner, f.Mode)
}

func content(ctx context.Context, m Machine, f File, exists bool) (string, error) {
	state := map[bool]string{true: "changes", false: "is new"}[exists]
	switch {
	case f.Mode&secretMode == 0:
		return "a secret, which " + state, nil
	case f.Mode&0o111 != 0 || bytes.IndexByte(f.Text, 0) >= 0:
		return fmt.Sprintf("a program, which %s: SHA-256 %.12s", state, sum(f.Text)), nil
	}
	var old []byte
	if exists {
		var err error
		if old, err = m.Read(ctx, f.Path); err != nil {
			return "", fmt.Errorf("read %s: %w", f.Path, err)
		}
	}
	return unified(old, f.Text), nil
}

// unified compares texts, with words redacted that somebody may have put into one though they belong into a file of their own.
func unified(old, text []byte) string {
	all := string(diff.Diff("is", old, "will be", text))
	if i := strings.Index(all, "\n@@"); i >= 0 {
		all = all[i+1:] // the header's names are no files
	}
	lines := strings.Split(strings.TrimSuffix(all, "\n"), "\n")
	for i, l := range lines {
		lines[i] = confided.ReplaceAllString(l, "$1(redacted)")
	}
	return strings.Join(lines, "\n")
}

// confided finds what comes after a word such as password, in YAML, in a command or in a connection string.
var confided = regexp.MustCompile(`(?i)\b((?:password|passwd|pgpassword|secret|token|bearer|authorization)\b["']?\s*[:=\s]\s*)\S.*$`)
