// Package vm boots one machine with a kernel of its own, for what whole machines that share a kernel can't be given: a watchdog
// device, and a clock that may be set. It is QEMU with Debian's cloud kernel and a file system in memory that holds one
// program, which is the first process and the only one (test/netlab/vm/inside).
package vm

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Machine is one that can be booted again and again. Each boot begins anew.
type Machine struct {
	kernel string
	initrd string
}

const qemu = "qemu-system-x86_64"

// Missing says why no machine can be booted here; nil: one can.
func Missing() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("machines of this architecture (%s) are not known here", runtime.GOARCH)
	}
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("only root may keep a kernel in the cache"))
	}
	for program, of := range map[string]string{qemu: "qemu-system-x86", "apt-get": "apt", "dpkg-deb": "dpkg"} {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("%s is missing (package %s)", program, of))
		}
	}
	return errors.Join(errs...)
}

// ErrNoKernel is New's when there is no kernel in the cache and none can be had.
var ErrNoKernel = errors.New("get Debian's cloud kernel")

// New makes a machine in a directory. Its first process is the given program, which must need no library. The kernel comes from
// the distribution's mirror once, and is kept in the cache directory.
func New(ctx context.Context, dir, program, cache string) (*Machine, error) {
	root, err := fetchKernel(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoKernel, err)
	}
	one := func(pattern string) string {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are sound
		if len(found) != 1 {
			err = errors.Join(err, fmt.Errorf("%s in %s: found %q", pattern, root, found))
			return ""
		}
		return found[0]
	}
	m := &Machine{kernel: one("boot/vmlinuz-*"), initrd: filepath.Join(dir, "initrd.gz")}
	files := map[string]string{"init": program}
	for _, module := range []string{"watchdog", "softdog"} {
		files[module+".ko"] = one("lib/modules/*/kernel/drivers/watchdog/" + module + ".ko")
	}
	if err != nil {
		return nil, err
	}
	return m, pack(m.initrd, files)
}

// fetchKernel unpacks Debian's cloud kernel in the cache, and returns where.
func fetchKernel(ctx context.Context, cache string) (string, error) {
	const latest = "linux-image-cloud-amd64"
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", "--important", latest).Output()
	if err != nil {
		return "", err
	}
	_, name, found := strings.Cut(string(out), "Depends: ")
	if name, _, _ = strings.Cut(name, "\n"); !found {
		return "", fmt.Errorf("apt knows no package that %s depends on: run apt-get update", latest)
	}
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	building, err := os.MkdirTemp(cache, "kernel-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(building)
	fetch := exec.CommandContext(ctx, "sh", "-c", `apt-get -qq download "$0" && dpkg-deb -x ./*.deb . && rm ./*.deb`, name)
	fetch.Dir = building
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("download %s: %w: %s", name, err, out)
	}
	if err := os.Rename(building, dir); err != nil && !errors.Is(err, os.ErrExist) { // another run was faster
		return "", err
	}
	return dir, nil
}

// pack writes an initial file system ("Initramfs buffer format" in the kernel's documentation).
func pack(path string, files map[string]string) error {
	var archive bytes.Buffer
	add := func(name string, mode int, content []byte) {
		fmt.Fprintf(&archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		pad := func() { archive.Write(make([]byte, -archive.Len()&3)) }
		pad()
		archive.Write(content)
		pad()
	}
	for _, dir := range []string{"proc", "sys", "dev", "tmp"} {
		add(dir, 0o040755, nil)
	}
	for name, from := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		add(name, 0o100755, content)
	}
	add("TRAILER!!!", 0, nil)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(archive.Bytes()); err != nil {
		return err
	}
	return errors.Join(z.Close(), os.WriteFile(path, packed.Bytes(), 0o600))
}

// Boot runs the machine with a word for its program, until it powers off or resets, and returns what came to its console. The
// processor is emulated: not every host has a real one to give, nor one that can be given.
func (m *Machine) Boot(ctx context.Context, word string) (console string, took time.Duration, err error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, qemu, "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "256",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", m.kernel, "-initrd", m.initrd,
		"-append", "console=ttyS0 quiet panic=-1 word="+word)
	out, err := cmd.CombinedOutput()
	return string(out), time.Since(began), err
}
