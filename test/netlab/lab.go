package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what to boot.
type Config struct {
	Image Image
	Hosts int // 0: 3
	// DiskSize is the size of each host's disk for StateDir in bytes; 0: 1 GiB. It takes what is written, no more.
	DiskSize int64
	// Prepare, if there is one, changes a host's root directory before its first boot.
	Prepare func(h *Host, root string) error
	// Logf is told what takes long; nil: nobody is.
	Logf func(format string, args ...any)
}

// Lab is a running set of hosts.
type Lab struct {
	Hosts []*Host // pg1, pg2, …

	cfg    Config
	name   string // part of every namespace's and control group's name
	dir    string
	lock   *os.File // held while this process lives
	cgroup string
	image  string
	sw     netns
	client netns
	wait   sync.WaitGroup // hosts' supervisors
	mu     sync.Mutex
	delays map[*Host]*shaper
}

// StateDir is where each host's own disk is mounted.
const StateDir = "/var/lib/standfast"

// The lab's network: host i has .10+i and the same in IPv6, the client .100. Nothing else is on it, so a test may use any
// other address.
var (
	Net4 = netip.MustParsePrefix("10.99.0.0/24")
	Net6 = netip.MustParsePrefix("fd99::/64")
)

// Interface is the name of every host's network card: not eth0, so that nothing can take that for granted.
const Interface = "enp0s2"

// root holds one directory for each running lab. It can't lie on an overlay (as /tmp of a container may), for the hosts'
// roots are overlays.
const root = "/var/tmp/standfast-netlab"

// Missing says why no lab can be started here and how to change that; nil: it can.
func Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("whole machines need root")
	}
	var lacking []string
	for _, tool := range []string{"systemd-nspawn", "debootstrap", "nft", "ip", "nsenter", "mkfs.ext4", "fsfreeze"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacking = append(lacking, tool)
		}
	}
	if lacking != nil {
		return fmt.Errorf("not installed: %s (scripts/install-deps.sh lab)", strings.Join(lacking, ", "))
	}
	_, err := unifiedHierarchy()
	return err
}

// Start removes what earlier runs left, makes the image if the cache has none, and boots the hosts. When it fails, nothing is
// left of it.
func Start(ctx context.Context, cfg Config) (*Lab, error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	if cfg.Hosts == 0 {
		cfg.Hosts = 3
	}
	if cfg.DiskSize == 0 {
		cfg.DiskSize = 1 << 30
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	if err := Clean(); err != nil {
		return nil, fmt.Errorf("clean up after an earlier lab: %w", err)
	}
	image, err := cfg.Image.make(ctx, cfg.Logf)
	if err != nil {
		return nil, fmt.Errorf("make the hosts' image: %w", err)
	}
	l := &Lab{cfg: cfg, image: image, delays: map[*Host]*shaper{}}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	if err := l.claim(); err != nil {
		return err
	}
	hierarchy, err := unifiedHierarchy()
	if err != nil {
		return err
	}
	l.cgroup = filepath.Join(hierarchy, l.name)
	if err := os.Mkdir(l.cgroup, 0o755); err != nil {
		return fmt.Errorf("make the lab's control group: %w", err)
	}
	if err := l.layCables(ctx); err != nil {
		return err
	}
	for i := range l.cfg.Hosts {
		l.Hosts = append(l.Hosts, newHost(l, i+1))
	}
	return l.each(func(h *Host) error {
		if err := h.assemble(ctx); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		return h.Boot(ctx)
	})
}

// claim takes the first free name and holds its lock, by which Clean tells a lab that runs from one that was killed.
func (l *Lab) claim() error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for i := 1; i < 100; i++ {
		name := fmt.Sprintf("%s%d", prefix, i)
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		lock, err := lockFile(filepath.Join(dir, "lock"))
		if err != nil {
			return err
		}
		l.name, l.dir, l.lock = name, dir, lock
		return nil
	}
	return fmt.Errorf("a hundred labs in %s", root)
}

// lockFile takes a lock that ends with this process. The error is errLocked if another process has it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

var errLocked = errors.New("another process has it")

// each does something to all hosts at the same time.
func (l *Lab) each(do func(h *Host) error) error {
	errs := make([]error, len(l.Hosts))
	var wait sync.WaitGroup
	for i, h := range l.Hosts {
		wait.Go(func() { errs[i] = do(h) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Host finds one by its name, nil if there is none.
func (l *Lab) Host(name string) *Host {
	for _, h := range l.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Dial connects from the client. It is meant for DialContext and DialFunc fields; the address must be a number, for there
// are no names on this network.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return nil, fmt.Errorf("dial from the lab's client: %w", err)
	}
	var conn net.Conn
	err = l.client.do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Command prepares a program of this machine to be run in the client's network.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", string(l.client), name}, args...)...)
}

// Close takes power off all hosts and removes everything that was made.
func (l *Lab) Close() error {
	if l.lock == nil {
		return nil
	}
	var errs []error
	for h := range l.delays {
		errs = append(errs, l.Delay(h, 0, 0))
	}
	errs = append(errs, l.each((*Host).PowerOff))
	l.wait.Wait()
	errs = append(errs, remove(l.name))
	l.lock.Close()
	l.lock = nil
	return errors.Join(errs...)
}

// within runs a tool to its end. The error has the end of what it said.
func within(ctx context.Context, name string, args ...string) error {
	return feed(ctx, "", name, args...)
}

func feed(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		said := strings.TrimSpace(string(out))
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said[max(0, len(said)-1000):])
	}
	return nil
}
