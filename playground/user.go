package playground

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"standfast/ops/become"
)

// Become has the user postgres, or nobody where there is no postgres, run the same program with the same arguments if root
// runs it. It returns only if nothing had to be done or it did not work.
func Become() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := serviceUser()
	if err != nil {
		return err
	}
	return become.User(u)
}

func serviceUser() (*user.User, error) {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return u, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody; run this as an ordinary user")
}

// DefaultDir is where a playground keeps its state when it is not told: below the system's directory for temporary files,
// named after the user that it runs as.
func DefaultDir() string {
	name := strconv.Itoa(os.Geteuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if os.Geteuid() == 0 {
		if u, err := serviceUser(); err == nil {
			name = u.Username
		}
	}
	return filepath.Join(os.TempDir(), "standfast-playground-"+name)
}

// Running lists the directories of playgrounds that run now in the usual place, one's own first.
func Running() []string {
	var out []string
	all, _ := filepath.Glob(filepath.Join(os.TempDir(), "standfast-playground-*")) // the pattern is sound
	for _, dir := range append([]string{DefaultDir()}, all...) {
		if (len(out) == 0 || dir != out[0]) && locked(dir) {
			out = append(out, dir)
		}
	}
	return out
}
