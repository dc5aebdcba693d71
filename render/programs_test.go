package render_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// program finds one of the distribution's, which lie where not every PATH looks.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("%s is not installed (scripts/install-deps.sh test)", name)
	return ""
}

// each writes the texts that are for a program into files.
func each(t *testing.T, program string, do func(t *testing.T, path string)) {
	t.Helper()
	for name, text := range all(t) {
		if !strings.HasPrefix(name, program) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "conf")
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			do(t, path)
		})
	}
}

// edit changes what a test can't have.
func edit(t *testing.T, path string, changes ...string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(changes); i += 2 {
		changed := regexp.MustCompile(changes[i]).ReplaceAll(text, []byte(changes[i+1]))
		if bytes.Equal(changed, text) {
			t.Fatalf("%s is not in %s", changes[i], text)
		}
		text = changed
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestHAProxyAccepts has the program check its own configuration, without a warning.
func TestHAProxyAccepts(t *testing.T) {
	haproxy := program(t, "haproxy")
	each(t, "haproxy", func(t *testing.T, path string) {
		state := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(state, []byte("1\n"), 0o644); err != nil { // the version of its format
			t.Fatal(err)
		}
		edit(t, path, "server-state-file .*", "server-state-file "+state)
		out, err := exec.Command(haproxy, "-c", "-f", path).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("WARNING")) {
			t.Errorf("%v:\n%s", err, out)
		}
		edit(t, path, "option redispatch", "option redispath")
		if err := exec.Command(haproxy, "-c", "-f", path).Run(); err == nil {
			t.Error("a misspelt option is accepted")
		}
	})
}

// keepalivedTest runs Keepalived's own check where the interfaces of the texts are.
const keepalivedTest = `ip link set lo up
ip link add d0 type veth peer name p0 && ip link add b0 type veth peer name p1
ip addr add 10.0.0.11/24 dev d0
for i in d0 p0 b0 p1; do ip link set $i up; done
exec "$0" -t -f "$1"`

func TestKeepalivedAccepts(t *testing.T) {
	keepalived := program(t, "keepalived")
	if out, err := exec.Command("unshare", "-rn", "ip", "link", "add", "d0", "type", "veth", "peer", "name", "p0").CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made here: %v: %s", err, out)
	}
	check := func(path string) ([]byte, error) {
		return exec.Command("unshare", "-rn", "sh", "-ec", keepalivedTest, keepalived, path).CombinedOutput()
	}
	each(t, "keepalived", func(t *testing.T, path string) {
		edit(t, path, "script_user .*", "script_user root") // with another, Keepalived 2.2's check ends itself when it comes back from that user
		if out, err := check(path); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%v:\n%s", err, out)
		}
		edit(t, path, "nopreempt", "nopreemt")
		if _, err := check(path); err == nil {
			t.Error("a misspelt keyword is accepted")
		}
	})
}

// TestPgBouncerAccepts starts it, for it has no check of its own: it comes up without a complaint.
func TestPgBouncerAccepts(t *testing.T) {
	pgbouncer := program(t, "pgbouncer")
	each(t, "pgbouncer", func(t *testing.T, path string) {
		dir, err := os.MkdirTemp("", "pgbouncer-") // as short as a socket's path wants it
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		users := filepath.Join(dir, "users")
		if err := os.WriteFile(users, []byte(`"pgbouncer" "secret"`), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{dir, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} { // it does not run as root, and then is another user
			if err := os.Chmod(p, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		edit(t, path, "listen_addr = .*", "listen_addr =", "unix_socket_dir = .*", "unix_socket_dir = "+dir, "logfile = .*\n", "", "pidfile = .*\n", "", "auth_file = .*", "auth_file = "+users)
		args := []string{path}
		if os.Geteuid() == 0 {
			args = []string{"-u", "nobody", path}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, pgbouncer, args...)
		said := &watched{until: "process up", then: func() { _ = cmd.Process.Kill() }}
		cmd.Stderr = said
		_ = cmd.Run() // it is killed
		if text := said.text.String(); !strings.Contains(text, said.until) || regexp.MustCompile(`WARNING|ERROR|FATAL`).MatchString(text) {
			t.Errorf("it does not come up:\n%s", text)
		}
	})
}

// watched acts when a word comes along.
type watched struct {
	text  bytes.Buffer
	until string
	then  func()
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if w.then != nil && strings.Contains(w.text.String(), w.until) {
		w.then()
		w.then = nil
	}
	return n, err
}
