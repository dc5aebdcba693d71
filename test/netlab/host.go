package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Host is one machine. Its methods may be called at the same time, but for those that take or give it power.
type Host struct {
	Name   string
	Addr   netip.Addr // IPv4
	Addr6  netip.Addr
	Number int // from 1

	lab   *Lab
	dir   string
	group string // control group of everything that runs on it

	mu     sync.Mutex
	leader int           // its first process, seen from outside; 0: it is off
	off    chan struct{} // closed when the container that was booted last has ended
	stay   bool          // it is not to come up again by itself
}

func newHost(l *Lab, number int) *Host {
	name := fmt.Sprintf("pg%d", number)
	return &Host{
		Name: name, Number: number, Addr: addr4(10 + number), Addr6: addr6(10 + number),
		lab: l, dir: filepath.Join(l.dir, name), group: filepath.Join(l.cgroup, name),
	}
}

// Root is the host's root directory, seen from outside. What is mounted inside, /run and StateDir among others, is not in it.
func (h *Host) Root() string { return filepath.Join(h.dir, "root") }

// assemble makes the host's disks.
func (h *Host) assemble(ctx context.Context) error {
	for _, d := range []string{"up", "work", "root", "disk"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", h.lab.image, filepath.Join(h.dir, "up"), filepath.Join(h.dir, "work"))
	if err := syscall.Mount("overlay", h.Root(), "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount the root (is %s itself an overlay?): %w", root, err)
	}
	if err := h.makeDisk(ctx); err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost\n"
	for i := 1; i <= h.lab.cfg.Hosts; i++ {
		hosts += fmt.Sprintf("%s pg%d\n%s pg%d\n", addr4(10+i), i, addr6(10+i), i)
	}
	for path, text := range map[string]string{"etc/hostname": h.Name + "\n", "etc/hosts": hosts} {
		if err := os.WriteFile(filepath.Join(h.Root(), path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if h.lab.cfg.Prepare != nil {
		return h.lab.cfg.Prepare(h, h.Root())
	}
	return nil
}

// bootTime is how long a host may take to boot. On an idle machine it is one second.
const bootTime = 60 * time.Second

// Boot gives the host power and waits until it has started everything that starts at boot. Its disks are as they were. One that
// is up already is left as it is.
func (h *Host) Boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	if err := h.boot(ctx); err != nil {
		return fmt.Errorf("boot %s: %w", h.Name, err)
	}
	return nil
}

func (h *Host) boot(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leader != 0 {
		return nil
	}
	h.stay = false
	if err := h.lab.plug(ctx, h); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(h.group, "exec"), 0o755); err != nil {
		return err
	}
	cmd, err := h.launch()
	if err != nil {
		return err
	}
	h.off = make(chan struct{})
	h.lab.wait.Go(func() { h.supervise(cmd, h.off) })
	if h.leader, err = firstProcess(ctx, cmd.Process.Pid, h.off); err != nil {
		return fmt.Errorf("%w; its console is %s", err, h.console())
	}
	return h.awaitBooted(ctx)
}

func (h *Host) console() string { return filepath.Join(h.dir, "console") }

// launch starts the container. It has one capability more than systemd-nspawn gives by itself, as a machine with a network of
// its own, and /proc/sys/net to write to. It can't set the clock, which is this machine's.
func (h *Host) launch() (*exec.Cmd, error) {
	console, err := os.OpenFile(h.console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	group, err := os.Open(h.group)
	if err != nil {
		return nil, err
	}
	defer group.Close()
	cmd := exec.Command("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--machine="+h.Name,
		"--directory="+h.Root(), "--bind="+filepath.Join(h.dir, "disk")+":"+StateDir,
		"--network-namespace-path="+h.netns().path(), "--capability=CAP_NET_ADMIN", "--resolv-conf=off", "--timezone=off", "--link-journal=no")
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	return cmd, cmd.Start()
}

// rebooted is what systemd-nspawn exits with when the host has asked for a reboot (systemd-nspawn(1), --keep-unit).
const rebooted = 133

// supervise waits for the container's end and, after a reboot, does what a machine's firmware does.
func (h *Host) supervise(cmd *exec.Cmd, off chan struct{}) {
	_ = cmd.Wait() // how it ended is looked at below
	close(off)
	if cmd.ProcessState.ExitCode() != rebooted {
		return
	}
	h.mu.Lock()
	stay := h.stay
	h.mu.Unlock()
	if stay || h.down() != nil {
		return
	}
	if err := h.Boot(context.Background()); err != nil {
		h.lab.cfg.Logf("%s does not come up again: %v", h.Name, err)
	}
}

// firstProcess finds the container's process number 1.
func firstProcess(ctx context.Context, nspawn int, off <-chan struct{}) (int, error) {
	for ; ; time.Sleep(10 * time.Millisecond) {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn)) // it may have ended: off tells
		for field := range strings.FieldsSeq(string(children)) {
			status, err := os.ReadFile("/proc/" + field + "/status")
			if err == nil && lastNSpid(status) == "1" {
				return strconv.Atoi(field)
			}
		}
		select {
		case <-off:
			return 0, errors.New("the container ended at once")
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		default:
		}
	}
}

// lastNSpid is a process's number in its innermost process namespace (proc(5), NSpid).
func lastNSpid(status []byte) string {
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == "NSpid:" {
			return f[len(f)-1]
		}
	}
	return ""
}

// awaitBooted waits for systemd. What has failed to start is the test's business.
func (h *Host) awaitBooted(ctx context.Context) error {
	said := ""
	for ; ; time.Sleep(20 * time.Millisecond) {
		out, err := h.run(ctx, h.leader, "systemctl", "is-system-running", "--wait")
		switch said = strings.TrimSpace(out); said {
		case "running", "degraded":
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("systemd says %q (%v): %w; its console is %s", said, err, context.Cause(ctx), h.console())
		}
	}
}

// Up reports whether the host has power and runs.
func (h *Host) Up() bool { return h.first() != 0 }

func (h *Host) first() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leader == 0 {
		return 0
	}
	select {
	case <-h.off:
		return 0
	default:
		return h.leader
	}
}

// Run runs a program on the host as root and returns what it wrote to standard output. The error has what it wrote to standard
// error.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	leader := h.first()
	if leader == 0 {
		return "", fmt.Errorf("%s: %s: the host is off", h.Name, strings.Join(args, " "))
	}
	return h.run(ctx, leader, args...)
}

// Shell is Run of a script.
func (h *Host) Shell(ctx context.Context, script string) (string, error) {
	return h.Run(ctx, "/bin/sh", "-euc", script)
}

func (h *Host) run(ctx context.Context, leader int, args ...string) (string, error) {
	group, err := os.Open(filepath.Join(h.group, "exec")) // so that it dies and freezes with the host
	if err != nil {
		return "", err
	}
	defer group.Close()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(leader), "--all", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"}
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// PowerOff is a power loss: the cable goes first, then every process. One that is off already is left as it is.
func (h *Host) PowerOff() error {
	h.mu.Lock()
	h.stay = true
	h.mu.Unlock()
	return h.down()
}

// Shutdown is an orderly one, as an administrator's. It returns when the host is off.
func (h *Host) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.stay = true
	off := h.off
	h.mu.Unlock()
	if _, err := h.Run(ctx, "systemctl", "poweroff", "--no-block"); err != nil {
		return err
	}
	select {
	case <-off:
		return h.down()
	case <-ctx.Done():
		return fmt.Errorf("shut %s down: it still runs: %w", h.Name, context.Cause(ctx))
	}
}

// Reboot asks the host to reboot itself and returns when it is up again.
func (h *Host) Reboot(ctx context.Context) error {
	h.mu.Lock()
	off := h.off
	h.mu.Unlock()
	if _, err := h.Run(ctx, "systemctl", "reboot", "--no-block"); err != nil {
		return err
	}
	select {
	case <-off:
	case <-ctx.Done():
		return fmt.Errorf("reboot %s: it still runs: %w", h.Name, context.Cause(ctx))
	}
	for !h.Up() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("reboot %s: it does not come up: %w", h.Name, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// down takes away cable, processes and network namespace. A disk that hangs is continued when nothing can be heard any more,
// for what waits for it can't be killed.
func (h *Host) down() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off == nil {
		return nil
	}
	ctx := context.Background()
	err := h.lab.unplug(ctx, h)
	if kerr := tell(h.group, "cgroup.kill", "1"); kerr != nil {
		err = errors.Join(err, kerr)
	}
	_ = h.ContinueDisk(ctx) // an error says that it was not frozen
	err = errors.Join(err, kill(h.group))
	<-h.off
	err = errors.Join(err, removeGroups(h.group), h.netns().remove(ctx))
	h.leader, h.off = 0, nil
	if err != nil {
		return fmt.Errorf("take power off %s: %w", h.Name, err)
	}
	return nil
}

// Pause stops every process at one instant, as a hypervisor stops a virtual machine. The kernel would go on answering for its
// sockets, as no paused machine does, so the switch drops what comes and goes meanwhile; the cable stays plugged in.
func (h *Host) Pause(ctx context.Context) error {
	return errors.Join(h.lab.silence(ctx, h, true), freeze(h.group, true))
}

// Resume continues a paused host.
func (h *Host) Resume(ctx context.Context) error {
	return errors.Join(h.lab.silence(ctx, h, false), freeze(h.group, false))
}
