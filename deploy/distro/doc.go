// Package distro knows the distributions that hosts may run: which PostgreSQL each brings, what its packages are called and where their
// programs lie, and how PostgreSQL's own repository (PGDG) is described to its package manager. It is text only; nothing is
// done here.
package distro

import (
	"slices"
	"strings"
)

// Family is what distributions with the same package manager share.
type Family string

// The families.
const (
	Debian Family = "debian" // apt
	RedHat Family = "redhat" // dnf
)

// System is one release of a distribution.
type System struct {
	ID       string // as in os-release(5)
	Version  string // as in os-release(5); of Red Hat's family the major version, for it releases minor ones
	Codename string // Debian's family
	Postgres string // major version that it brings; "": none that is supported, it takes PGDG's
	Family   Family
	Tested   bool
}

// Systems are those that hosts may run.
var Systems = []System{
	{"debian", "12", "bookworm", "15", Debian, true},
	{"debian", "13", "trixie", "17", Debian, true},
	{"ubuntu", "22.04", "jammy", "14", Debian, false},
	{"ubuntu", "24.04", "noble", "16", Debian, false},
	{"rhel", "9", "", "", RedHat, false},
	{"rhel", "10", "", "", RedHat, false},
	{"rocky", "9", "", "", RedHat, false},
	{"rocky", "10", "", "", RedHat, false},
	{"almalinux", "9", "", "", RedHat, false},
	{"almalinux", "10", "", "", RedHat, false},
}

// Find looks a system up by what os-release(5) says of it.
func Find(id, version string) (System, bool) {
	for _, s := range Systems {
		major, _, _ := strings.Cut(version, ".")
		if s.ID == id && (s.Version == version || s.Family == RedHat && s.Version == major) {
			return s, true
		}
	}
	return System{}, false
}

// Named looks a system up by a name such as debian-13.
func Named(name string) (System, bool) {
	i := slices.IndexFunc(Systems, func(s System) bool { return s.Name() == name })
	if i < 0 {
		return System{}, false
	}
	return Systems[i], true
}

// Name is how a system is named on a command line: debian-13.
func (s System) Name() string { return s.ID + "-" + s.Version }

// Names lists all systems.
func Names() string {
	var out []string
	for _, s := range Systems {
		out = append(out, s.Name())
	}
	return strings.Join(out, ", ")
}

// Server names the packages that a member with PostgreSQL needs: its server of a major version, and polkit, by which the agent may start
// it as a service of its own.
func (s System) Server(version string) []string {
	if s.Family == RedHat {
		return []string{"postgresql" + version + "-server", "postgresql" + version + "-contrib", "polkit"}
	}
	return []string{"postgresql-" + version, "polkitd"}
}

// Programs is the directory of the server's programs.
func (s System) Programs(version string) string {
	if s.Family == RedHat {
		return "/usr/pgsql-" + version + "/bin"
	}
	return "/usr/lib/postgresql/" + version + "/bin"
}
