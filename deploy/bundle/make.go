package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/deploy/distro"

	"github.com/google/renameio/v2"
)

// Want is what a bundle is made of.
type Want struct {
	Manifest     // all but System
	System       distro.System
	Repositories []distro.File // beside the distribution's archive: PGDG's
	Mirror       string        // of the distribution's archive; "": its own
	Program      string        // the program's file
	Tell         func(step string)
}

// Make downloads with this machine's apt, which need not run the hosts' release and is not changed: apt works in a directory of its own,
// for a machine on which nothing is installed, so that all that the packages need comes along, whatever a host may have.
func Make(ctx context.Context, w Want, file string) (err error) {
	if w.System.Family != distro.Debian {
		return fmt.Errorf("bundles for %s can't be made yet: set up a mirror there, as repository.uri", w.System.Name())
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("make the bundle on a machine with Debian or Ubuntu: there is no apt-get here")
	}
	dir, err := os.MkdirTemp("", "standfast-bundle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a := apt{dir, w}
	if err := a.prepare(ctx); err != nil {
		return err
	}
	w.Tell("reading the package lists of " + w.System.Name())
	if err := a.run(ctx, "apt-get", "-q", "update", "--error-on=any"); err != nil {
		return err
	}
	w.Tell("downloading " + strings.Join(w.Packages, ", ") + " and what they need")
	if err := a.run(ctx, "apt-get", append([]string{"-q", "-y", "--download-only", "install"}, append(slices.Clone(w.Packages), base...)...)...); err != nil {
		return err
	}
	w.Tell("writing " + file)
	return w.write(ctx, filepath.Join(dir, "cache/archives"), file)
}

// base is what a host has. It is in the bundle as well: where a package needs a newer library, what is bound to the older one has to
// follow it.
var base = []string{"systemd-sysv", "libpam-systemd", "dbus"}

// apt is this machine's, told to work for another.
type apt struct {
	dir  string
	want Want
}

// prepare writes a configuration (apt.conf(5)) that takes nothing from this machine but how the network is reached.
func (a apt) prepare(ctx context.Context) error {
	for _, d := range []string{"etc/sources.list.d", "etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o700); err != nil {
			return err
		}
	}
	archive, keyring, ok := a.want.System.Archive(a.want.Mirror)
	if !ok {
		return fmt.Errorf("where the packages of %s come from is not known", a.want.System.Name())
	}
	if _, err := os.Stat(keyring); err != nil {
		return fmt.Errorf("the key of %s's archive is not here (%w): apt-get install %s", a.want.System.Name(), err, filepath.Base(strings.TrimSuffix(keyring, ".gpg")))
	}
	network, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output()
	if err != nil {
		return fmt.Errorf("ask apt how it reaches the network: %w", err)
	}
	files := map[string][]byte{
		"status": nil,
		"apt.conf": fmt.Appendf(network, `Dir "%s/"; Dir::State "state"; Dir::State::status "%[1]s/status"; Dir::Cache "cache"; Dir::Etc "etc";
Dir::Etc::netrc "/etc/apt/auth.conf"; Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
APT::Architecture "%[2]s"; APT::Architectures { "%[2]s"; };
APT::Install-Recommends "false"; APT::Sandbox::User "root"; Acquire::Languages "none"; Debug::NoLocking "true";
`, a.dir, a.want.Arch),
		"etc/sources.list.d/archive.sources": archive,
	}
	for _, f := range a.want.Repositories {
		// The key's file lies elsewhere here.
		at := filepath.Join("etc", filepath.Base(f.Path))
		if strings.HasSuffix(f.Path, ".sources") {
			at = filepath.Join("etc/sources.list.d", filepath.Base(f.Path))
		}
		files[at] = bytes.ReplaceAll(f.Text, []byte("Signed-By: /usr/share/keyrings/"), []byte("Signed-By: "+a.dir+"/etc/"))
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(a.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (a apt) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLines(out, 5))
	}
	return nil
}

func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// write makes the file. It gets its name when it is complete.
func (w Want) write(ctx context.Context, archives, file string) error {
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("apt has downloaded nothing to %s", archives)
	}
	out, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	defer out.Cleanup()
	t := &writer{tar: tar.NewWriter(out), made: w.Made, sums: map[string]*bytes.Buffer{"": {}, Dir: {}}}
	if err := w.fill(ctx, t, debs); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := t.tar.Close(); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return out.CloseAtomicallyReplace()
}

func (w Want) fill(ctx context.Context, t *writer, debs []string) error {
	m := w.Manifest
	m.System = w.System.Name()
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := t.text("", manifestName, append(manifest, '\n')); err != nil {
		return err
	}
	if _, err := t.file("", programName, w.Program, 0o755); err != nil {
		return err
	}
	var index bytes.Buffer
	for _, deb := range debs {
		// apt writes an epoch's colon as %3a, and takes that in an address for the colon.
		name := strings.ReplaceAll(filepath.Base(deb), "%", "-")
		sum, err := t.file(Dir, name, deb, 0o644)
		if err != nil {
			return err
		}
		control, err := exec.CommandContext(ctx, "dpkg-deb", "--field", deb).Output()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		info, err := os.Stat(deb)
		if err != nil {
			return err
		}
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n", bytes.TrimRight(control, "\n"), name, info.Size(), sum)
	}
	if err := t.text(Dir, indexName, index.Bytes()); err != nil {
		return err
	}
	packages := t.sums[Dir].Bytes()
	sum := sha256.Sum256(packages)
	fmt.Fprintf(t.sums[""], "%s  %s/%s\n", hex.EncodeToString(sum[:]), Dir, sumsName)
	if err := t.put(Dir, sumsName, packages); err != nil {
		return err
	}
	return t.put("", sumsName, t.sums[""].Bytes())
}

// writer writes files and keeps their checksums, as sha256sum(1) lists them, by directory.
type writer struct {
	tar  *tar.Writer
	made time.Time
	sums map[string]*bytes.Buffer
}

func (t *writer) header(dir, name string, size, mode int64) error {
	return t.tar.WriteHeader(&tar.Header{Name: filepath.Join(dir, name), Size: size, Mode: mode, ModTime: t.made.Truncate(time.Second), Format: tar.FormatPAX})
}

// put writes a text without a checksum.
func (t *writer) put(dir, name string, text []byte) error {
	if err := t.header(dir, name, int64(len(text)), 0o644); err != nil {
		return err
	}
	_, err := t.tar.Write(text)
	return err
}

func (t *writer) text(dir, name string, text []byte) error {
	sum := sha256.Sum256(text)
	fmt.Fprintf(t.sums[dir], "%s  %s\n", hex.EncodeToString(sum[:]), name)
	return t.put(dir, name, text)
}

func (t *writer) file(dir, name, from string, mode int64) (sum string, err error) {
	f, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := t.header(dir, name, info.Size(), mode); err != nil {
		return "", err
	}
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(t.tar, hash), f); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(hash.Sum(nil))
	fmt.Fprintf(t.sums[dir], "%s  %s\n", sum, name)
	return sum, nil
}
