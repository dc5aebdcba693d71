package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/deploy"
)

// here carries scripts out on this machine.
type here struct {
	stdin func(io.Reader) io.Reader // what comes in instead
}

func (h here) Run(ctx context.Context, script string, stdin io.Reader) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-euc", script)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &said
	if h.stdin != nil {
		cmd.Stdin = h.stdin(stdin)
	}
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, &said)
	}
	return out, err
}

func (here) Hold(context.Context, string, string) ([]byte, func() error, error) { panic("unused") }
func (here) Close() error                                                       { return nil }

// atEnd does something when all has been read, before the reader learns of it.
type atEnd struct {
	io.Reader
	do func()
}

func (r atEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.do()
	}
	return n, err
}

// TestWriteFollowsNoLink: whoever owns the directory that root writes a file to can't have another file written, given away or
// made readable.
func TestWriteFollowsNoLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const owner = "daemon" // user and group, on every Debian
	dir := t.TempDir()
	victim, elsewhere := filepath.Join(dir, "victim"), filepath.Join(dir, "elsewhere")
	link := func(to, at string) {
		t.Helper()
		if err := os.RemoveAll(at); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		before, meanwhile func(p string)
		lands             bool
	}{
		"nothing in the way":         {func(string) {}, func(string) {}, true},
		"a link for the new file":    {func(p string) { link(victim, p+".standfast-new") }, func(string) {}, true},
		"a link to a directory":      {func(p string) { link(elsewhere, p) }, func(string) {}, true},
		"a link while it is written": {func(string) {}, func(p string) { link(victim, p+".standfast-new") }, false},
	} {
		p := filepath.Join(dir, "etc", what, "file")
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(elsewhere, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(victim, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.before(p)
		m := &Machine{shell: here{func(r io.Reader) io.Reader { return atEnd{r, func() { c.meanwhile(p) }} }}}
		if err := m.Write(t.Context(), deploy.File{Path: p, Text: []byte("new"), Mode: 0o644, Owner: owner}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if text, mode, uid := state(t, victim); text != "secret" || mode != 0o600 || uid != 0 {
			t.Errorf("%s: another file is %q, %o, of user %d now", what, text, mode, uid)
		}
		if there, err := os.ReadDir(elsewhere); err != nil || len(there) > 0 {
			t.Errorf("%s: written into another directory: %v, %v", what, there, err)
		}
		if !c.lands {
			continue
		}
		if text, mode, uid := state(t, p); text != "new" || mode != 0o644 || uid == 0 {
			t.Errorf("%s: the file is %q, %o, of user %d", what, text, mode, uid)
		}
	}
}

func state(t *testing.T, path string) (text string, mode fs.FileMode, uid uint32) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return string(b), fs.FileMode(st.Mode & 0o7777), st.Uid
}

// programs puts scripts before those of the system.
func programs(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestUnit reads what systemctl of systemd 249 (Ubuntu 22.04) knows to write too.
func TestUnit(t *testing.T) {
	programs(t, map[string]string{"systemctl": `[ "$TZ" = UTC ] || exit 1
case "$*" in *--timestamp*) echo "unrecognized option" >&2; exit 1;; esac
case "$*" in *new*) printf 'ActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\nExecMainStartTimestamp=\n'; exit;; esac
printf 'ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=yes\nExecMainStartTimestamp=Tue 2026-11-24 05:16:31 UTC\n'`})
	m := &Machine{shell: here{}}
	u, err := m.Unit(t.Context(), "a.service")
	if want := time.Date(2026, 11, 24, 5, 16, 31, 0, time.UTC); err != nil || !u.Active || !u.Enabled || !u.Stale || !u.Since.Equal(want) {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err = m.Unit(t.Context(), "new.service"); err != nil || u != (deploy.Unit{}) {
		t.Errorf("one that has never run: %+v, %v", u, err)
	}
}

// TestStart ends, whatever the unit or the clock does, and says what the unit has said.
func TestStart(t *testing.T) {
	defer func(c, s time.Duration) { clockTime, startTime = c, s }(clockTime, startTime)
	clockTime, startTime = time.Second, time.Second
	said := "#!/bin/sh\necho 'standfast: port 5000 is taken by nginx'"
	for what, c := range map[string]struct {
		systemctl string
		after     time.Time
		want      []string
	}{
		"it starts":           {"exit 0", time.Now().Add(-time.Hour), nil},
		"it fails":            {"[ $1 != restart ]", time.Now().Add(-time.Hour), []string{"journalctl -u a.service", "port 5000 is taken by nginx"}},
		"it hangs":            {"[ $1 != restart ] || sleep 60", time.Now().Add(-time.Hour), []string{"not ready after 1 s", "port 5000 is taken by nginx"}},
		"files of the future": {"exit 0", time.Now().Add(time.Hour), []string{"were changed later", "set the clock"}},
	} {
		t.Run(what, func(t *testing.T) {
			programs(t, map[string]string{"systemctl": c.systemctl, "journalctl": said})
			err := (&Machine{shell: here{}}).Start(t.Context(), "a.service", c.after)
			if (err == nil) != (c.want == nil) {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it does not say %q: %v", want, err)
				}
			}
		})
	}
}

// TestLog shows what went wrong, where the service says so, in either form of its log.
func TestLog(t *testing.T) {
	for said, want := range map[string]string{
		`level=ERROR msg="no room"\nlevel=INFO msg=a\nlevel=INFO msg=b`:   `level=ERROR msg="no room"`,
		`{"level":"WARN","msg":"no room"}\n{"level":"INFO","msg":"a"}`:    `{"level":"WARN","msg":"no room"}`,
		`standfast: read /etc/standfast/standfast.yml: permission denied`: `standfast: read /etc/standfast/standfast.yml: permission denied`,
	} {
		programs(t, map[string]string{"journalctl": "printf '%b\\n' '" + said + "'"})
		if got, err := (&Machine{shell: here{}}).Log(t.Context(), "a.service"); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}
