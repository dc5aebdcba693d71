package probe

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// lockPath is locked while a deployment works on the host, wherever it was begun. It is gone after a boot.
const lockPath = "/run/standfast-deploy.lock"

// lock takes the host for who, or says who has it.
func (a *Answer) lock(who, path string) []io.Closer {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		a.Lock = err.Error()
		return nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		text, rerr := io.ReadAll(io.LimitReader(f, 200))
		f.Close()
		a.Lock = strings.TrimSpace(string(text))
		if rerr != nil || a.Lock == "" {
			a.Lock = "another deployment"
		}
		return nil
	}
	if err := errors.Join(f.Truncate(0), write(f, who)); err != nil {
		f.Close()
		a.Lock = err.Error()
		return nil
	}
	return []io.Closer{f}
}

func write(f *os.File, text string) error {
	_, err := f.WriteString(text + "\n")
	return err
}
