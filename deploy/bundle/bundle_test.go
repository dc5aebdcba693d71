package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"standfast/deploy/distro"
)

// deb makes a package of nothing.
func deb(t *testing.T, dir, name, version, depends string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Join(root, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody\nDescription: nothing\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	if err := os.WriteFile(filepath.Join(root, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", root, filepath.Join(dir, name+"_"+strings.ReplaceAll(version, ":", "%3a")+"_all.deb")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// made is a bundle of two packages, one of which needs the other.
func made(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("bundles are made on Debian and Ubuntu: %v", err)
		}
	}
	dir := t.TempDir()
	deb(t, dir, "one", "1:2.0", "two (>= 1)")
	deb(t, dir, "two", "1.5", "")
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("the program"), 0o755); err != nil {
		t.Fatal(err)
	}
	system, _ := distro.Named("debian-13")
	w := Want{
		Manifest: Manifest{Arch: runtime.GOARCH, Postgres: "17", Packages: []string{"one"}, Version: "1.0", Made: time.Unix(1700000000, 0)},
		System:   system, Program: program,
	}
	file := filepath.Join(dir, "bundle.tar")
	if err := w.write(t.Context(), dir, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBundleIsReadBack(t *testing.T) {
	b, err := Open(made(t))
	if err != nil {
		t.Fatal(err)
	}
	if b.Manifest.System != "debian-13" || b.Version != "1.0" || len(b.Sum) != 64 {
		t.Errorf("%+v", b)
	}
	for want, err := range map[string]error{
		"":                          b.Fits("debian-13", runtime.GOARCH, "17", []string{"one"}),
		"not for debian-12":         b.Fits("debian-12", runtime.GOARCH, "17", nil),
		"not 15":                    b.Fits("debian-13", runtime.GOARCH, "15", nil),
		"without two, three":        b.Fits("debian-13", runtime.GOARCH, "17", []string{"two", "one", "three"}),
		"not for debian-13 on mips": b.Fits("debian-13", "mips", "17", nil),
	} {
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestUnpackedWithOrdinaryTools: whoever has no Standfast yet takes it out of the bundle, and checks it.
func TestUnpackedWithOrdinaryTools(t *testing.T) {
	file, dir := made(t), t.TempDir()
	out, err := exec.Command("sh", "-ec", `cd "$1"; tar -xf "$2"; sha256sum -c SHA256SUMS; cd packages; sha256sum --strict -c SHA256SUMS; test -x ../standfast`, "sh", dir, file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "one_1-3a2.0_all.deb: OK") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestAptTakesItForARepository: apt finds the packages and what they need in the unpacked directory alone.
func TestAptTakesItForARepository(t *testing.T) {
	file, dir := made(t), t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xf", file, Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a := apt{filepath.Join(dir, "apt"), Want{Manifest: Manifest{Arch: "amd64"}}}
	a.want.System, _ = distro.Named("debian-13")
	_, keyring, _ := a.want.System.Archive("")
	if _, err := os.Stat(keyring); err != nil {
		t.Skipf("Debian's key is not here: %v", err)
	}
	if err := a.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := "deb [trusted=yes] file:" + filepath.Join(dir, Dir) + " ./\n"
	if err := errors.Join(os.Remove(filepath.Join(a.dir, "etc/sources.list.d/archive.sources")), os.WriteFile(filepath.Join(a.dir, "etc/sources.list.d/bundle.list"), []byte(list), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := a.run(t.Context(), "apt-get", "-q", "update", "--error-on=any"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("apt-get", "-qq", "--print-uris", "install", "one")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"))
	out, err := cmd.Output()
	for _, want := range []string{"one_1-3a2.0_all.deb", "two_1.5_all.deb"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("apt does not find %s: %v\n%s", want, err, out)
		}
	}
}

// TestDamageIsFound changes, leaves out and adds each file in turn.
func TestDamageIsFound(t *testing.T) {
	type entry struct {
		header *tar.Header
		text   []byte
	}
	f, err := os.Open(made(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []entry
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		text, rerr := io.ReadAll(r)
		if err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		all = append(all, entry{h, text})
	}
	write := func(list []entry) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range list {
			h := *e.header
			h.Size = int64(len(e.text))
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(e.text); err != nil {
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
		return path
	}
	if _, err := Open(write(all)); err != nil {
		t.Fatalf("what is whole is refused: %v", err)
	}
	for i, e := range all {
		changed := append([]entry{}, all...)
		changed[i].text = append([]byte("x"), e.text...)
		if _, err := Open(write(changed)); err == nil {
			t.Errorf("%s was changed, and nobody sees it", e.header.Name)
		}
		if _, err := Open(write(append(append([]entry{}, all[:i]...), all[i+1:]...))); err == nil {
			t.Errorf("%s was left out, and nobody sees it", e.header.Name)
		}
		more := *e.header
		more.Name += "x"
		if _, err := Open(write(append(append([]entry{}, all...), entry{&more, e.text}))); err == nil {
			t.Errorf("%s was added, and nobody sees it", more.Name)
		}
	}
	whole, err := os.ReadFile(write(all))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.tar")
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cut); err == nil {
		t.Error("half of it is taken for whole")
	}
}

func TestNoBundleForRedHat(t *testing.T) {
	system, _ := distro.Named("rocky-9")
	if err := Make(context.Background(), Want{System: system}, filepath.Join(t.TempDir(), "b.tar")); err == nil || !strings.Contains(err.Error(), "repository.uri") {
		t.Errorf("%v", err)
	}
}
