package preflight

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// places are where distributions put PostgreSQL's programs: Debian and Ubuntu, PGDG's RPMs, Fedora and others.
var places = []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/usr/local/pgsql/bin/initdb", "/usr/bin/initdb"}

// Postgres checks that a PostgreSQL server is installed. Which version is good enough is for its user to say.
func Postgres() error {
	for _, pattern := range places {
		if found, _ := filepath.Glob(pattern); len(found) > 0 { // the patterns are sound
			return nil
		}
	}
	if _, err := exec.LookPath("initdb"); err == nil {
		return nil
	}
	return errors.New("no PostgreSQL server is installed; install it with: " + installCommand())
}

// installCommand is the distribution's own (os-release(5)).
func installCommand() string {
	b, _ := os.ReadFile("/etc/os-release") // without it the first guess below is as good as any
	for _, d := range []struct{ like, command string }{
		{"rhel", "sudo dnf install postgresql-server"}, {"fedora", "sudo dnf install postgresql-server"},
		{"suse", "sudo zypper install postgresql-server"}, {"arch", "sudo pacman -S postgresql"},
	} {
		if strings.Contains(string(b), d.like) {
			return d.command
		}
	}
	return "sudo apt-get install postgresql"
}
