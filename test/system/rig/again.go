package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"standfast/playground"
)

const (
	childVar  = "STANDFAST_RIG_CHILD"  // set in the second self
	binaryVar = "STANDFAST_RIG_BINARY" // that the members run; set by the first self, or by whoever has one already
	scratch   = "STANDFAST_RIG_SCRATCH"
)

// Again makes a program run in two selves. The first, as whoever started it, builds the binary and prepares what needs
// root; it runs the second self and returns its exit code. The second, as a user that PostgreSQL can run as, finds that
// child is true and does the work. The first removes what it made when the second has ended, however that ended.
func Again(output io.Writer) (child bool, code int, err error) {
	if Second() {
		return true, 0, playground.Become()
	}
	dir, err := os.MkdirTemp("", "standfast-rig-bin-")
	if err != nil {
		return false, 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the second self is another user
		return false, 1, err
	}
	binary, err := build(dir)
	if err != nil {
		return false, 1, err
	}
	small, unmount := mountSmall(dir)
	defer unmount()
	code, err = runChild(output, binaryVar+"="+binary, scratch+"="+small)
	return false, code, err
}

// Second reports whether this is the second self.
func Second() bool { return os.Getenv(childVar) != "" }

// Binary is the program that the members run, in the second self.
func Binary() string { return os.Getenv(binaryVar) }

// OwnCopies is a program that runs Binary from a copy in the directory where it is started, which is each node's own. On
// hosts of their own, nodes share no memory; started from one file they would share the program's.
func OwnCopies(dir string) (string, error) {
	path := filepath.Join(dir, "standfast")
	script := fmt.Sprintf("#!/bin/sh\n[ -x ./standfast ] || cp %q ./standfast || exit\nexec ./standfast \"$@\"\n", Binary())
	return path, os.WriteFile(path, []byte(script), 0o755)
}

// SmallFileSystem is an empty file system of SmallSize bytes that may be filled up, or "" and the reason why there is none.
func SmallFileSystem() (dir, why string) {
	if at, ok := strings.CutPrefix(os.Getenv(scratch), "/"); ok {
		return "/" + at, ""
	}
	return "", os.Getenv(scratch)
}

// SmallSize holds a few segments of WAL.
const SmallSize = 192 << 20

func build(dir string) (string, error) {
	if b := os.Getenv(binaryVar); b != "" {
		return b, nil
	}
	out := filepath.Join(dir, "standfast")
	cmd := exec.Command("go", "build", "-o", out, "standfast/cmd/standfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build standfast: %w\n%s", err, text)
	}
	return out, os.Chmod(out, 0o755)
}

// mountSmall mounts a tmpfs for everybody; when it can't it returns the reason in the directory's place.
func mountSmall(dir string) (at string, unmount func()) {
	at = filepath.Join(dir, "small")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err.Error(), func() {}
	}
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d,mode=1777", SmallSize)); err != nil {
		return "mounting a small file system needs root: " + err.Error(), func() {}
	}
	return at, func() {
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
			fmt.Fprintf(os.Stderr, "unmount %s: %v\n", at, err)
		}
	}
}

// runChild runs this program again with the same arguments and passes on an interrupt, so that the second self can clean up.
func runChild(output io.Writer, env ...string) (int, error) {
	cmd := exec.Command("/proc/self/exe") // readable by the new user wherever it lies
	cmd.Args = append([]string{os.Args[0]}, arguments()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, output, os.Stderr
	cmd.Env = append(os.Environ(), append(env, childVar+"=1")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C comes to it once, from here
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("run the second self: %w", err)
	}
	forward := context.AfterFunc(ctx, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	})
	defer forward()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// arguments are this program's, without the one that names a file of the go command's, which another user can't write.
func arguments() []string {
	var out []string
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.testlogfile=") {
			out = append(out, a)
		}
	}
	return out
}
