package distro

import (
	_ "embed"
	"fmt"
	"strings"
)

// pgdgKey signs PGDG's repository for Debian and Ubuntu: "PostgreSQL Debian Repository", B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8, as
// postgresql-common ships it.
//
//go:embed pgdg.asc
var pgdgKey []byte

// Where PGDG's repositories are.
const (
	pgdgApt = "https://apt.postgresql.org/pub/repos/apt"
	pgdgDnf = "https://download.postgresql.org/pub/repos/yum"
)

// File is one that describes a repository, owned by root, with mode 0644.
type File struct {
	Path string
	Text []byte
}

// Where a host keeps the description of PGDG's repository and its key.
const (
	aptSources = "/etc/apt/sources.list.d/standfast-pgdg.sources"
	aptKey     = "/usr/share/keyrings/standfast-pgdg.asc"
	dnfRepo    = "/etc/yum.repos.d/standfast-pgdg.repo"
	dnfKey     = "/etc/pki/rpm-gpg/standfast-pgdg.asc"
)

// PGDG describes PostgreSQL's own repository, or a site's mirror of it at uri, to the system's package manager. key is the file that
// signs it, armored; nil: PGDG's own. The key is trusted for this repository alone. version is PostgreSQL's major version.
func (s System) PGDG(version, uri string, key []byte) []File {
	if s.Family == RedHat {
		return s.pgdgDnf(version, uri, key)
	}
	if key == nil {
		key = pgdgKey
	}
	return []File{{aptKey, key}, {aptSources, s.Sources(orText(uri, pgdgApt), s.Codename+"-pgdg", "main", aptKey)}}
}

// Sources is a repository in apt's language (sources.list(5), deb822), trusted by the key in a file.
func (s System) Sources(uri, suites, components, keyFile string) []byte {
	return fmt.Appendf(nil, "# Written by Standfast.\nTypes: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: %s\n", uri, suites, components, keyFile)
}

// pgdgDnf is in the language of dnf.conf(5). Without module_hotfixes the distribution's module would hide these packages.
func (s System) pgdgDnf(version, uri string, key []byte) []File {
	var files []File
	keyURI := pgdgDnf + "/keys/PGDG-RPM-GPG-KEY-RHEL"
	if key != nil {
		files, keyURI = append(files, File{dnfKey, key}), "file://"+dnfKey
	}
	var b strings.Builder
	fmt.Fprint(&b, "# Written by Standfast.\n")
	base := orText(uri, pgdgDnf)
	for _, part := range []string{"common", version} {
		fmt.Fprintf(&b, "[standfast-pgdg-%s]\nname=PostgreSQL (%s)\nbaseurl=%s/%s/redhat/rhel-%s-$basearch\nenabled=1\ngpgcheck=1\ngpgkey=%s\nmodule_hotfixes=1\n", part, part, base, part, s.Version, keyURI)
	}
	return append(files, File{dnfRepo, []byte(b.String())})
}

func orText(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// Archive is where a distribution's own packages come from by default, and the keyring that signs them: what apt is told on a machine
// that runs another release. mirror, if given, takes the place of the main archive.
func (s System) Archive(mirror string) (sources []byte, keyring string, ok bool) {
	switch s.ID {
	case "debian":
		keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
		sources = s.Sources(orText(mirror, "http://deb.debian.org/debian"), s.Codename+" "+s.Codename+"-updates", "main", keyring)
		if mirror == "" {
			sources = append(append(sources, '\n'), s.Sources("http://deb.debian.org/debian-security", s.Codename+"-security", "main", keyring)...)
		}
		return sources, keyring, true
	case "ubuntu":
		keyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
		suites := s.Codename + " " + s.Codename + "-updates " + s.Codename + "-security"
		return s.Sources(orText(mirror, "http://archive.ubuntu.com/ubuntu"), suites, "main universe", keyring), keyring, true
	}
	return nil, "", false
}
