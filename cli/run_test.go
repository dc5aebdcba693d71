package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestOwned: a refusal by the file system says who was refused and what to do, of that file alone.
func TestOwned(t *testing.T) {
	dir := t.TempDir()
	here := filepath.Join(dir, "secret")
	if err := os.WriteFile(here, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"chown [^ ]+ " + here + "$":                       &fs.PathError{Op: "open", Path: here, Err: fs.ErrPermission},
		"install -d -o [^ ]+ -m 700 " + dir + "/state$":   &fs.PathError{Op: "mkdir", Path: dir + "/state", Err: fs.ErrPermission},
		"; this runs as .* needs the right to use " + dir: &fs.PathError{Op: "open", Path: dir + "/.new", Err: fs.ErrPermission},
		"^open .*: file does not exist$":                  &fs.PathError{Op: "open", Path: here, Err: fs.ErrNotExist},
	} {
		if got := owned(err).Error(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%q does not match %q", got, want)
		}
	}
}
