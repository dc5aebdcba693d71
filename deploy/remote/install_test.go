package remote

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/deploy"
	"standfast/deploy/bundle"
)

// elsewhere carries scripts out below a directory, where the package managers are the test's.
type elsewhere struct {
	dir  string
	sent *int // bundles
}

func (e elsewhere) Run(ctx context.Context, script string, stdin io.Reader) ([]byte, error) {
	if strings.Contains(script, "tar -x") {
		*e.sent++
	}
	script = strings.NewReplacer(unpacked, e.dir+"/bundle", installLog, e.dir+"/log").Replace(script)
	return here{}.Run(ctx, "PATH="+e.dir+"/bin:/usr/bin:/bin\n"+script, stdin)
}

func (elsewhere) Hold(context.Context, string, string) ([]byte, func() error, error) { panic("unused") }
func (elsewhere) Close() error                                                       { return nil }

// tools puts scripts where they are found before all others, or alone.
func (e elsewhere) tools(t *testing.T, all map[string]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(e.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(e.dir, "bin", name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func (e elsewhere) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestInstallTriesInOrder: what is at hand, what was left half installed, the mirrors.
func TestInstallTriesInOrder(t *testing.T) {
	for name, c := range map[string]struct {
		apt   string // what it does, after having said its command
		fresh bool
		want  []string
		err   string
	}{
		"at hand":       {"", false, []string{"install"}, ""},
		"half":          {`[ "$c" != install ] || [ -e configured ]`, false, []string{"install", "configure", "install"}, ""},
		"at the mirror": {`[ "$c" != install ] || [ -e updated ] || exit 100`, false, []string{"install", "configure", "install", "update", "install"}, ""},
		"new there":     {"", true, []string{"configure", "update", "install"}, ""},
		"nowhere":       {`[ "$c" != update ] || { echo "E: Failed to fetch http://x"; exit 100; }; [ "$c" != install ] || exit 100`, false, []string{"install", "configure", "install", "update"}, "a bundle: standfast bundle --help"},
	} {
		e := elsewhere{t.TempDir(), new(int)}
		e.tools(t, map[string]string{
			"apt-get": "cd " + e.dir + `; for c; do case $c in install|update) break ;; esac; done; echo "did $c $*"; [ "$c" != update ] || : >updated` + "\n" + c.apt,
			"dpkg":    "cd " + e.dir + "; echo did configure; : >configured",
		})
		err := (&Machine{shell: e}).Install(t.Context(), deploy.Packages{Names: []string{"postgresql-17", "polkitd"}, Fresh: c.fresh})
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
		var did []string
		for line := range strings.Lines(e.log(t)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "did" {
				did = append(did, f[1])
				if f[1] == "install" && !strings.HasSuffix(line, "--no-install-recommends install postgresql-17 polkitd\n") {
					t.Errorf("%s: %s", name, line)
				}
			}
		}
		if fmt.Sprint(did) != fmt.Sprint(c.want) {
			t.Errorf("%s: it did %v, want %v", name, did, c.want)
		}
	}
}

// small is a bundle of one file that is no package, as far as a host looks at it.
func small(t *testing.T) *bundle.Bundle {
	t.Helper()
	sum := func(text string) string { b := sha256.Sum256([]byte(text)); return hex.EncodeToString(b[:]) }
	sums := sum("a package") + "  a.deb\n"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"manifest.json", "{}"}, {"packages/a.deb", "a package"}, {"packages/SHA256SUMS", sums}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return &bundle.Bundle{Path: path, Sum: sum(sums)}
}

// TestInstallFromBundle: it is sent once, found whole, asked for alone, and goes when all is installed.
func TestInstallFromBundle(t *testing.T) {
	e := elsewhere{t.TempDir(), new(int)}
	e.tools(t, map[string]string{"apt-get": `echo "did $*"; cat ` + e.dir + "/bundle/bundle.list; [ ! -e " + e.dir + "/broken ]", "dpkg": "echo configured"})
	m, b := &Machine{shell: e}, small(t)
	p := deploy.Packages{Names: []string{"a"}, Bundle: b}
	broken := filepath.Join(e.dir, "broken")
	if err := os.WriteFile(broken, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Install(t.Context(), p); err == nil {
		t.Error("apt fails, and nobody hears of it")
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if err := m.Install(t.Context(), p); err != nil || *e.sent != 1 {
		t.Errorf("sent %d times, %v", *e.sent, err)
	}
	log := e.log(t)
	for _, want := range []string{"deb [trusted=yes] file:" + e.dir + "/bundle/packages ./", "Dir::Etc::SourceParts=/dev/null", "--no-remove --no-install-recommends install a"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if _, err := os.Stat(filepath.Join(e.dir, "bundle")); err == nil {
		t.Error("it stays on the host")
	}
	b.Sum = strings.Repeat("0", 64)
	if err := m.Install(t.Context(), p); err == nil || !strings.Contains(err.Error(), "did not arrive whole") {
		t.Errorf("another bundle's packages: %v", err)
	}
}

// TestInstallOnRedHat asks dnf where there is no apt.
func TestInstallOnRedHat(t *testing.T) {
	script := fmt.Sprintf(installScript, installLog, fromRepositories("'a'", true))
	e := elsewhere{t.TempDir(), new(int)}
	e.tools(t, map[string]string{"dnf": `echo "did $*"`, "tail": "/usr/bin/tail \"$@\""})
	script = strings.ReplaceAll(script, installLog, e.dir+"/log")
	if _, err := (here{}).Run(t.Context(), "PATH="+e.dir+"/bin\n"+script, nil); err != nil {
		t.Fatal(err)
	}
	if log := e.log(t); log != "did -q -y --setopt=install_weak_deps=False install a\n" {
		t.Errorf("it did %q", log)
	}
	if _, err := (here{}).Run(t.Context(), "PATH=/nowhere\n"+script, nil); err == nil || !strings.Contains(err.Error(), "neither apt-get nor dnf") {
		t.Errorf("with neither: %v", err)
	}
}

// TestAliasReplaces what is there, a file or a link.
func TestAliasReplaces(t *testing.T) {
	e := elsewhere{t.TempDir(), new(int)}
	e.tools(t, map[string]string{"systemctl": "echo $* >>" + e.dir + "/log"})
	path := filepath.Join(e.dir, "a.service")
	if err := os.WriteFile(path, []byte("its own"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/etc/b.service", "/etc/c.service"} {
		if err := (&Machine{shell: e}).Alias(t.Context(), path, target); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != target {
			t.Errorf("leads to %q, %v", got, err)
		}
	}
	if log := e.log(t); log != "daemon-reload\ndaemon-reload\n" {
		t.Errorf("it did %q", log)
	}
}
