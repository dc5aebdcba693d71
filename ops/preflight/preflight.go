// Package preflight looks at a host before anything is started or changed on it: are the ports free, is there room, who
// is in the way. Each error is a sentence that names the thing and the remedy.
package preflight

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Taken says that somebody else has a port open.
type Taken struct {
	Network string // "tcp" or "udp"
	Address string // host:port
	By      string // the process, "nginx (pid 4711)", as far as this user may know; "" if not
}

// Error names the address, the process that has it and what to do.
func (t *Taken) Error() string {
	if t.By == "" {
		_, port, _ := net.SplitHostPort(t.Address) // it was listened on, so it has one
		return fmt.Sprintf("%s port %s is taken by a process of another user; find it with: sudo ss -lnp 'sport = :%s'", t.Network, t.Address, port)
	}
	return fmt.Sprintf("%s port %s is taken by %s; stop it, or choose other ports", t.Network, t.Address, t.By)
}

// Port finds out whether the port could be opened, by opening it for a moment.
func Port(network, address string) error {
	var err error
	if network == "udp" {
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", address); err == nil {
			return c.Close()
		}
	} else {
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return l.Close()
		}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &Taken{network, address, owner(network, address)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		host, _, _ := net.SplitHostPort(address) // it got as far as being bound
		return fmt.Errorf("%s is not an address of this host; see: ip -br address", host)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s port %s may be opened by root only; choose one above 1023", network, address)
	}
	return fmt.Errorf("try %s port %s: %w", network, address, err)
}

// owner names the process that holds the address, or any address on that port.
func owner(network, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	inodes := sockets(network, net.ParseIP(host), port)
	if len(inodes) == 0 {
		return ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is sound; what may not be read is left out
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue // it has just ended
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return ""
}

// sockets returns the "socket:[inode]" of what is bound to the address or to all addresses (proc(5), /proc/net/tcp).
func sockets(network string, ip net.IP, port string) map[string]bool {
	found := map[string]bool{}
	for _, table := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 10 || network == "tcp" && f[3] != "0A" { // 0A: LISTEN
				continue
			}
			addr, hexPort, _ := strings.Cut(f[1], ":")
			if fmt.Sprintf("%d", unhex(hexPort)) == port && covers(addr, ip) {
				found["socket:["+f[9]+"]"] = true
			}
		}
	}
	return found
}

func unhex(s string) (n int) {
	_, _ = fmt.Sscanf(s, "%X", &n) // the kernel wrote it
	return n
}

// covers reports whether an address of /proc/net (hexadecimal, in host order by words) is ip or the wildcard.
func covers(addr string, ip net.IP) bool {
	if strings.Trim(addr, "0") == "" {
		return true
	}
	v4 := ip.To4()
	return v4 != nil && strings.HasSuffix(addr, fmt.Sprintf("%02X%02X%02X%02X", v4[3], v4[2], v4[1], v4[0]))
}

// Space checks that the file system of dir (or of the nearest parent that exists) has at least need bytes left.
func Space(dir string, need int64) error {
	at := dir
	for {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(at, &fs); err != nil {
		return fmt.Errorf("look at the free space of %s: %w", at, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < need {
		return fmt.Errorf("%s has %d MB left and %d MB are needed; free some space or choose another directory", at, free>>20, need>>20)
	}
	return nil
}

// Endpoint is an address to be opened.
type Endpoint struct {
	Network string // "tcp" or "udp"
	Address string // host:port
}

// Ports checks several at once, with one line for each process that is in the way, and one for all that this user may
// not know.
func Ports(endpoints ...Endpoint) error {
	var errs []error
	taken := map[string][]*Taken{}
	var order []string
	for _, e := range endpoints {
		var t *Taken
		err := Port(e.Network, e.Address)
		if !errors.As(err, &t) {
			errs = append(errs, err)
			continue
		}
		if taken[t.By] == nil {
			order = append(order, t.By)
		}
		taken[t.By] = append(taken[t.By], t)
	}
	for _, by := range order {
		errs = append(errs, several(taken[by]))
	}
	return errors.Join(errs...)
}

// several says in one line what one process has, or processes of other users.
func several(list []*Taken) error {
	t := list[0]
	switch {
	case len(list) == 1:
		return t
	case t.By == "":
		return fmt.Errorf("%s port %s and %d more are taken by processes of another user; find them with: sudo ss -lntup", t.Network, t.Address, len(list)-1)
	}
	return fmt.Errorf("%s port %s and %d more are taken by %s; stop it, or choose other ports", t.Network, t.Address, len(list)-1, t.By)
}
