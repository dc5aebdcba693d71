package playground

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Become replaces this process, if root runs it, by the same program with the same arguments run by the user postgres, or
// nobody where there is no postgres. It returns only if nothing had to be done or it did not work.
//
// The program is executed through /proc/self/exe, which works though the other user may not be able to read the directory
// that it lies in.
func Become() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := serviceUser()
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("become %s: %w", u.Username, err)
	}
	if err := errors.Join(os.Chdir("/"), syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("become %s: %w", u.Username, err)
	}
	env := append(os.Environ(), "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username)
	return fmt.Errorf("become %s: %w", u.Username, syscall.Exec("/proc/self/exe", os.Args, env))
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
