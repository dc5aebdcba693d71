// Package become turns a program that root has started into one that an ordinary user runs, since PostgreSQL refuses to
// run as root.
package become

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// User replaces this process by the same program with the same arguments run by u, with all of u's groups. It returns only
// when that does not work.
//
// The program is executed through /proc/self/exe, which works though u may not be able to read the directory that it lies
// in. The working directory becomes /, for the same reason.
func User(u *user.User) error {
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	ids, err3 := u.GroupIds()
	groups := []int{gid}
	for _, s := range ids {
		if g, err := strconv.Atoi(s); err == nil && g != gid {
			groups = append(groups, g)
		}
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("become %s: %w", u.Username, err)
	}
	// The user id goes last: with it goes the right to change the others.
	for _, step := range []func() error{
		func() error { return os.Chdir("/") }, func() error { return syscall.Setgroups(groups) },
		func() error { return syscall.Setgid(gid) }, func() error { return syscall.Setuid(uid) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("become %s: %w", u.Username, err)
		}
	}
	env := append(os.Environ(), "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username)
	return fmt.Errorf("become %s: %w", u.Username, syscall.Exec("/proc/self/exe", os.Args, env))
}

// Named is User for a user's name.
func Named(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("become %s: %w; make the user, or name another", name, err)
	}
	return User(u)
}

// Restore gives a process that User has started its name back: executed through /proc/self/exe, it would show as "exe".
func Restore(name string) {
	if b, err := os.ReadFile("/proc/self/comm"); err == nil && string(b) == "exe\n" {
		_ = os.WriteFile("/proc/self/comm", []byte(name), 0) // it only serves those who look at ps
	}
}
