package distro_test

import (
	"os/exec"
	"strings"
	"testing"

	"standfast/deploy/distro"
)

func TestFind(t *testing.T) {
	for text, want := range map[string]string{
		"debian 13": "debian-13", "ubuntu 24.04": "ubuntu-24.04", "rocky 9.6": "rocky-9", "rhel 10": "rhel-10",
		"debian 11": "", "debian 13.1": "", "rocky 8.10": "", "fedora 42": "", " ": "",
	} {
		id, version, _ := strings.Cut(text, " ")
		s, ok := distro.Find(id, version)
		if ok != (want != "") || ok && s.Name() != want {
			t.Errorf("%s is %+v (%t), want %q", text, s, ok, want)
		}
	}
	for _, s := range distro.Systems {
		if got, ok := distro.Named(s.Name()); !ok || got != s {
			t.Errorf("%s names %+v", s.Name(), got)
		}
	}
}

func TestPackagesAndPrograms(t *testing.T) {
	debian, _ := distro.Named("debian-13")
	rocky, _ := distro.Named("rocky-9")
	for got, want := range map[string]string{
		strings.Join(debian.Server("17"), " "): "postgresql-17 polkitd",
		debian.Programs("17"):                  "/usr/lib/postgresql/17/bin",
		strings.Join(rocky.Server("17"), " "):  "postgresql17-server postgresql17-contrib polkit",
		rocky.Programs("17"):                   "/usr/pgsql-17/bin",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// text is a described file.
func text(t *testing.T, files []distro.File, path string) string {
	t.Helper()
	for _, f := range files {
		if f.Path == path {
			return string(f.Text)
		}
	}
	t.Fatalf("no %s among %d files", path, len(files))
	return ""
}

func TestPGDG(t *testing.T) {
	noble, _ := distro.Named("ubuntu-24.04")
	files := noble.PGDG("18", "", nil)
	if got := text(t, files, "/usr/share/keyrings/standfast-pgdg.asc"); !strings.HasPrefix(got, "-----BEGIN PGP PUBLIC KEY BLOCK-----") {
		t.Errorf("the key is %q", got)
	}
	want := "Types: deb\nURIs: https://apt.postgresql.org/pub/repos/apt\nSuites: noble-pgdg\nComponents: main\nSigned-By: /usr/share/keyrings/standfast-pgdg.asc\n"
	if got := text(t, files, "/etc/apt/sources.list.d/standfast-pgdg.sources"); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	files = noble.PGDG("18", "http://mirror.site/pgdg", []byte("a key"))
	if text(t, files, "/usr/share/keyrings/standfast-pgdg.asc") != "a key" || !strings.Contains(text(t, files, "/etc/apt/sources.list.d/standfast-pgdg.sources"), "URIs: http://mirror.site/pgdg\n") {
		t.Errorf("a site's mirror is not used: %q", files)
	}
	rocky, _ := distro.Named("rocky-9")
	repo := text(t, rocky.PGDG("17", "", nil), "/etc/yum.repos.d/standfast-pgdg.repo")
	for _, want := range []string{"/yum/17/redhat/rhel-9-$basearch\n", "/yum/common/redhat/rhel-9-$basearch\n", "gpgcheck=1\n", "gpgkey=https://", "module_hotfixes=1\n"} {
		if !strings.Contains(repo, want) {
			t.Errorf("no %q in\n%s", want, repo)
		}
	}
	if files := rocky.PGDG("17", "", []byte("a key")); text(t, files, "/etc/pki/rpm-gpg/standfast-pgdg.asc") != "a key" {
		t.Errorf("a site's key is not used: %q", files)
	}
}

// TestKeyIsPGDGs asks GnuPG whose it is.
func TestKeyIsPGDGs(t *testing.T) {
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("the key is not looked at: there is no gpg here")
	}
	debian, _ := distro.Named("debian-13")
	cmd := exec.Command(gpg, "--homedir", t.TempDir(), "--show-keys", "--with-colons")
	cmd.Stdin = strings.NewReader(text(t, debian.PGDG("17", "", nil), "/usr/share/keyrings/standfast-pgdg.asc"))
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "fpr:::::::::B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8:") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestArchive(t *testing.T) {
	debian, _ := distro.Named("debian-13")
	sources, keyring, ok := debian.Archive("")
	if !ok || keyring == "" || !strings.Contains(string(sources), "Suites: trixie-security\n") || strings.Count(string(sources), "Signed-By: "+keyring) != 2 {
		t.Errorf("%t\n%s", ok, sources)
	}
	if sources, _, _ := debian.Archive("http://mirror.site/debian"); strings.Contains(string(sources), "deb.debian.org") {
		t.Errorf("beside the site's mirror another is asked:\n%s", sources)
	}
	rocky, _ := distro.Named("rocky-9")
	if _, _, ok := rocky.Archive(""); ok {
		t.Error("Red Hat's family has an archive of apt's")
	}
}

func TestRegister(t *testing.T) {
	debian, _ := distro.Named("debian-13")
	v := distro.Server{Version: "17", Port: 5433, Data: "/srv/it's data", Sockets: "/run/x", Logs: "/var/log/x"}
	files := debian.Register(v)
	conf := text(t, files, "/etc/postgresql/17/standfast/postgresql.conf")
	for _, want := range []string{"data_directory = '/srv/it''s data'\n", "port = 5433\n", "unix_socket_directories = '/run/x'\n", "external_pid_file = '/srv/it''s data/postmaster.pid'\n"} {
		if !strings.Contains(conf, want) {
			t.Errorf("no %q in\n%s", want, conf)
		}
	}
	if files[len(files)-1].Path != "/etc/postgresql/17/standfast/postgresql.conf" {
		t.Error("the cluster exists before it is disabled")
	}
	rocky, _ := distro.Named("rocky-9")
	if got := rocky.Register(v); got != nil {
		t.Errorf("Red Hat's family gets %v", got)
	}
}
