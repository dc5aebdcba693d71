package guard

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

//go:generate sh -c "CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/standfast-guard ./standfast-guard"

// bin holds the guard's own program if it was built before this one (go generate), else only a README. It is worth the
// trouble because of memory: locked, the small program takes 2 MB and all of standfast 22 MB.
//
//go:embed bin
var bin embed.FS

// embedded returns the small program, nil if this build has none.
func embedded() (fs.File, error) {
	f, err := bin.Open("bin/standfast-guard")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// inMemory copies a program into an anonymous file, to be executed through its descriptor. The guard's pages then never
// have to come from a disk, which may hang when it is needed, nor from a directory mounted noexec, as /run is.
func inMemory(program io.Reader) (*os.File, error) {
	const name = "standfast-guard"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 there was no MFD_EXEC, and no need for it
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, program); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
