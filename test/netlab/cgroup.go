package netlab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// unifiedHierarchy is where control groups of version 2 are mounted, be they alone or beside version 1.
func unifiedHierarchy() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("control groups of version 2 are not mounted")
}

// tell writes to a file of a control group ("Control Group v2", core interface files).
func tell(group, file, value string) error {
	return os.WriteFile(filepath.Join(group, file), []byte(value), 0)
}

// freeze stops or continues every process of the group and returns when it is done.
func freeze(group string, stop bool) error {
	value := "0"
	if stop {
		value = "1"
	}
	if err := tell(group, "cgroup.freeze", value); err != nil {
		return err
	}
	return awaitEvent(group, "frozen "+value)
}

// kill ends every process of the group, frozen ones too, and returns when none is left. It tells which are if that takes long:
// they wait for a disk.
func kill(group string) error {
	if err := tell(group, "cgroup.kill", "1"); err != nil {
		return err
	}
	return awaitEvent(group, "populated 0")
}

// awaitEvent waits for a line of cgroup.events.
func awaitEvent(group, line string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(group, "cgroup.events"))
		if err != nil {
			return err
		}
		if strings.Contains(string(b), line+"\n") {
			return nil
		}
		if time.Now().After(deadline) {
			pids, err := members(group)
			return errors.Join(fmt.Errorf("control group %s does not become %q: processes %v", group, line, pids), err)
		}
	}
}

// members lists the processes of a group and of the groups below it.
func members(group string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone meanwhile
		}
		if err != nil || !d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for field := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && len(b) > 0 {
			return err
		}
		return nil
	})
	return pids, err
}

// removeGroups removes a group and those below it, the lowest first. None may have a process.
func removeGroups(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what is gone need not be removed
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		if rerr := os.Remove(dirs[i]); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
