package postgres

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"standfast/pgconf"
)

// binDirs are where distributions and PostgreSQL's own packages put the server's programs.
var binDirs = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/lib64/pgsql/bin", "/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"}

// ErrNoServer says that no usable PostgreSQL server is installed; its message says what to install.
var ErrNoServer = errors.New("no PostgreSQL server is installed; install one with \"apt install postgresql\" (Debian, Ubuntu) or \"dnf install postgresql-server\" (Red Hat), version 14 to 18")

// FindBinDir finds the programs of a PostgreSQL server and its major version. want is a directory, a major version, or
// "" for the newest that is installed.
func FindBinDir(want string) (dir string, version int, err error) {
	if strings.HasPrefix(want, "/") {
		v, err := serverVersion(want)
		if err != nil {
			return "", 0, fmt.Errorf("look for PostgreSQL in %s: %w", want, err)
		}
		return want, v.Major, known14to18(want, v)
	}
	if n, err := strconv.Atoi(want); want != "" && (err != nil || n < pgconf.Oldest || n > pgconf.Newest) {
		return "", 0, fmt.Errorf("look for PostgreSQL %q: want a directory, or a version from %d to %d", want, pgconf.Oldest, pgconf.Newest)
	}
	var refused error
	for _, d := range candidates() {
		v, err := serverVersion(d)
		if err != nil || want != "" && strconv.Itoa(v.Major) != want {
			continue
		}
		if err := known14to18(d, v); err != nil {
			refused = err
		} else if v.Major > version {
			dir, version = d, v.Major
		}
	}
	switch {
	case dir != "":
		return dir, version, nil
	case refused != nil:
		return "", 0, refused
	case want != "":
		return "", 0, fmt.Errorf("PostgreSQL %s is not installed; install the package postgresql-%s, or write another version", want, want)
	}
	return "", 0, ErrNoServer
}

func known14to18(dir string, v pgconf.Version) error {
	if v.Major < pgconf.Oldest || v.Major > pgconf.Newest {
		return fmt.Errorf("PostgreSQL %s in %s is not supported: install a version from %d to %d", v, dir, pgconf.Oldest, pgconf.Newest)
	}
	return nil
}

func candidates() []string {
	var dirs []string
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, g := range binDirs {
		found, _ := filepath.Glob(g) // the patterns are constant, and well-formed
		dirs = append(dirs, found...)
	}
	return dirs
}

func serverVersion(dir string) (pgconf.Version, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return pgconf.Version{}, err
	}
	return pgconf.ParseVersion(string(out))
}
