package netlab

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// prefix begins the name of everything that is made: directories, namespaces, control groups.
const prefix = "netlab"

// Clean removes what labs have left whose process has ended: their hosts' processes, namespaces, mounts, disks. Labs that run
// are left alone.
func Clean() error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		lock, lerr := lockFile(filepath.Join(root, e.Name(), "lock"))
		if errors.Is(lerr, errLocked) {
			continue
		}
		if lerr != nil {
			err = errors.Join(err, lerr)
			continue
		}
		err = errors.Join(err, remove(e.Name()))
		lock.Close()
	}
	return err
}

// remove takes a lab apart by what can be seen of it, for the process that knew more may be dead.
func remove(name string) error {
	ctx := context.Background()
	dir := filepath.Join(root, name)
	var errs []error
	hierarchy, err := unifiedHierarchy()
	if err != nil {
		return err
	}
	names, err := namespaces(ctx, name)
	errs = append(errs, err)
	for _, ns := range names { // cables first: nobody is to be told of the end
		if strings.HasSuffix(ns, "-sw") {
			errs = append(errs, within(ctx, "ip", "netns", "del", ns))
		}
	}
	group := filepath.Join(hierarchy, name)
	if _, err := os.Stat(group); err == nil {
		thawDisks(ctx, dir)
		errs = append(errs, kill(group), removeGroups(group))
	}
	for _, ns := range names {
		if !strings.HasSuffix(ns, "-sw") {
			errs = append(errs, within(ctx, "ip", "netns", "del", ns))
		}
	}
	mounts, err := mountsBelow(dir)
	errs = append(errs, err)
	for _, m := range slices.Backward(mounts) {
		errs = append(errs, unix.Unmount(m, unix.MNT_DETACH))
	}
	if err := errors.Join(errs...); err != nil {
		return err // and leave the directory: removing it could follow a mount
	}
	return os.RemoveAll(dir)
}

// namespaces lists those of a lab.
func namespaces(ctx context.Context, lab string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	var names []string
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, lab+"-") {
			names = append(names, name)
		}
	}
	return names, err
}

// mountsBelow lists mount points in the order in which they were made.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			out = append(out, fields[1])
		}
	}
	return out, nil
}

// thawDisks continues file systems that a killed test has left frozen: what waits for them can't be killed.
func thawDisks(ctx context.Context, dir string) {
	disks, _ := filepath.Glob(filepath.Join(dir, "*", "disk")) // the pattern is sound
	for _, d := range disks {
		_ = within(ctx, "fsfreeze", "--unfreeze", d) // an error says that it was not frozen
	}
}
