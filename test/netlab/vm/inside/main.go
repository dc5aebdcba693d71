// Inside is the first and only process of a machine of package vm. It carries out the story that the kernel's command line names,
// says how it went on the console, and powers off.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"standfast/guard"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		os.Exit(guard.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "victim" {
		unix.Pause()
	}
	word, err := boot()
	story := stories[word]
	switch {
	case err != nil:
	case story == nil:
		err = fmt.Errorf("no story is called %q", word)
	default:
		err = story()
	}
	fmt.Printf("END %s: %v\n", word, err)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// boot makes what the stories need, and returns the word of the command line.
func boot() (word string, err error) {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"cgroup2", "/sys/fs/cgroup"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != unix.EBUSY { // the kernel may have mounted /dev
			return "", fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	for _, module := range []string{"/watchdog.ko", "/softdog.ko"} {
		f, err := os.Open(module)
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
		}
		if err != nil && err != unix.EEXIST {
			return "", fmt.Errorf("load %s: %w", module, err)
		}
	}
	line, err := os.ReadFile("/proc/cmdline")
	for f := range strings.FieldsSeq(string(line)) {
		if value, ok := strings.CutPrefix(f, "word="); ok {
			word = value
		}
	}
	return word, err
}
