package probe

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"standfast/config"
	"standfast/ops/preflight"
	"standfast/packaging"
	"standfast/render"
	"standfast/vip"

	"golang.org/x/sys/unix"
)

// look finds everything out at once; what takes time is done at the same time.
func look(ctx context.Context, l Look) Facts {
	f := Facts{
		OS: System("/etc/os-release"), CPUs: runtime.NumCPU(), Memory: memory(), Free: map[string]int64{},
		Servers: servers(ctx), Found: found(ctx), Packages: packages(ctx, l.Packages), Arch: runtime.GOARCH, Systemd: isDir("/run/systemd/system"),
	}
	for _, dir := range []string{config.DefaultNode().StateDir, "/usr"} {
		f.Free[dir] = free(dir)
	}
	var wait sync.WaitGroup
	wait.Go(func() { f.Names = resolve(ctx, l.Names) })
	wait.Go(func() { f.VIPs = addresses(ctx, l.Addresses) })
	wait.Wait()
	f.Ports = ports(l.Ports)
	f.Time = time.Now() // last, and so nearest to the answer
	return f
}

// System reads os-release(5); what it does not say is empty.
func System(path string) OS {
	text, err := os.ReadFile(path)
	if err != nil {
		return OS{}
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[k] = strings.Trim(v, `"'`)
	}
	return OS{ID: values["ID"], Version: values["VERSION_ID"], Name: values["PRETTY_NAME"]}
}

func memory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// free looks at the nearest directory that exists.
func free(dir string) int64 {
	for !isDir(dir) && dir != "/" {
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0
	}
	return int64(fs.Bavail) * fs.Bsize
}

func resolve(ctx context.Context, names []string) map[string][]string {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	out := map[string][]string{}
	for _, n := range names {
		found, err := net.DefaultResolver.LookupHost(ctx, n)
		if err != nil {
			found = []string{}
		}
		out[n] = found
	}
	return out
}

func addresses(ctx context.Context, all []string) map[string]VIP {
	out := map[string]VIP{}
	for _, text := range all {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			out[text] = VIP{Error: err.Error()}
			continue
		}
		out[text] = address(ctx, vip.Address{IP: ip})
	}
	return out
}

func address(ctx context.Context, a vip.Address) VIP {
	place, err := a.Find()
	if err != nil {
		return VIP{Error: err.Error()}
	}
	v := VIP{Interface: place.Interface}
	var taken *vip.TakenError
	if err := vip.Check(ctx, a); errors.As(err, &taken) {
		v.Taken = taken.MAC.String()
	} else if err != nil {
		v.Error = err.Error()
	}
	return v
}

// ports lists what is in the way. What runs in Standfast's own services is not.
func ports(all []Endpoint) map[string]string {
	out := map[string]string{}
	data := ""
	if n, err := config.LoadNode(config.DefaultPath, nil, nil); err == nil {
		data = n.Postgres.DataDir
	}
	for _, e := range all {
		err := preflight.Port(e.Network, e.Address)
		var taken *preflight.Taken
		if err == nil || errors.As(err, &taken) && own(taken.By, data) {
			continue
		}
		out[e.String()] = err.Error()
	}
	return out
}

var pid = regexp.MustCompile(`\(pid ([0-9]+)\)$`)

// own reports whether a process, "name (pid 4711)", belongs to one of our services. Its name does not tell: etcd's is the file that the
// agent has started it from. A server that was taken over as it ran is the member's by its working directory, the data's.
func own(process, data string) bool {
	m := pid.FindStringSubmatch(process)
	if m == nil {
		return false
	}
	if at, err := os.Readlink("/proc/" + m[1] + "/cwd"); err == nil && data != "" && at == data {
		return true
	}
	group, err := os.ReadFile("/proc/" + m[1] + "/cgroup")
	return err == nil && (strings.Contains(string(group), "/"+packaging.Unit) || strings.Contains(string(group), "/"+packaging.ServerUnit) ||
		strings.Contains(string(group), "/haproxy.service") && ours("/etc/haproxy/haproxy.cfg"))
}

// ours reports whether a file was written by a deployment.
func ours(path string) bool {
	text, err := os.ReadFile(path)
	first, _, _ := strings.Cut(string(text), "\n")
	return err == nil && strings.Contains(first, render.Mark)
}

// active asks systemd about a unit.
func active(unit string) bool {
	return exec.Command("systemctl", "is-active", "--quiet", unit).Run() == nil
}

func found(ctx context.Context) Standfast {
	n := config.DefaultNode()
	s := Standfast{Running: active(packaging.Unit)}
	if node, err := config.LoadNode(config.DefaultPath, nil, nil); err == nil {
		n, s.Cluster, s.Name = node, node.Cluster, node.Name
		self := n.Self()
		s.Address, s.Ports = self.Address, self.Ports
	} else if !errors.Is(err, os.ErrNotExist) {
		s.Cluster = "unreadable"
	}
	if ca, err := os.ReadFile(filepath.Join(n.TLSDir, "ca.crt")); err == nil {
		sum := sha256.Sum256(ca)
		s.CA = hex.EncodeToString(sum[:])
	}
	dir := n.Postgres.DataDir
	if dir == "" {
		dir = filepath.Join(n.StateDir, "data")
	}
	_, err := os.Stat(filepath.Join(dir, "PG_VERSION"))
	s.Data = err == nil
	s.System = systemOf(dir)
	return s
}

// systemOf says which database cluster a data directory is of, as pg_controldata would: the identifier that initdb has drawn is the first
// thing in pg_control (src/include/catalog/pg_control.h), in the byte order of the host.
func systemOf(dir string) string {
	version, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return ""
	}
	control, err := os.ReadFile(filepath.Join(dir, "global", "pg_control"))
	if err != nil || len(control) < 8 {
		return ""
	}
	return fmt.Sprintf("PostgreSQL %s, system identifier %d", strings.TrimSpace(string(version)), binary.NativeEndian.Uint64(control))
}

// packages asks dpkg, or rpm where there is no dpkg, about the named packages and PostgreSQL's servers. Both exit with an error when one of
// them is not installed, and tell of the others all the same.
func packages(ctx context.Context, names []string) map[string]string {
	out := map[string]string{}
	asked := append([]string{"postgresql-[0-9]*", packaging.Package}, names...)
	text, err := exec.CommandContext(ctx, "dpkg-query", append([]string{"-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n"}, asked...)...).Output()
	if errors.Is(err, exec.ErrNotFound) {
		text, _ = exec.CommandContext(ctx, "rpm", append([]string{"-q", "--qf", "ii %{NAME} %{VERSION}-%{RELEASE}\n"}, asked[1:]...)...).Output() // a host without either has none
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && (f[0] == "ii" || f[0] == "hi") { // held ones are installed too
			out[f[1]] = f[2]
		}
	}
	return out
}

// servers asks pg_lsclusters (postgresql-common).
func servers(ctx context.Context) []Server {
	text, err := exec.CommandContext(ctx, "pg_lsclusters", "--no-header").Output()
	if err != nil {
		return nil // not installed
	}
	var out []Server
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		port, _ := strconv.Atoi(f[2]) // it writes a number
		s := Server{Version: f[0], Name: f[1], Port: port, Online: strings.HasPrefix(f[3], "online"), Dir: f[5], Empty: empty(f[5])}
		s.Start = startMode(fmt.Sprintf("/etc/postgresql/%s/%s/start.conf", f[0], f[1]))
		out = append(out, s)
	}
	return out
}

func startMode(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "auto" // postgresql-common's default
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return "auto"
}

var relation = regexp.MustCompile(`^([0-9]+)(\.[0-9]+)?$`)

// firstNormal is FirstNormalObjectId of PostgreSQL: what initdb makes has smaller numbers, whatever is made later has not.
const firstNormal = 16384

// empty reports that nobody has made a database or a table. Tables that were rewritten have new numbers too: then it is not said to be
// empty, which is the safe side.
func empty(dir string) bool {
	databases, err := os.ReadDir(filepath.Join(dir, "base"))
	if err != nil {
		return false
	}
	for _, db := range databases {
		if n, err := strconv.Atoi(db.Name()); err == nil && n >= firstNormal {
			return false
		}
		files, err := os.ReadDir(filepath.Join(dir, "base", db.Name()))
		if err != nil {
			return false
		}
		for _, f := range files {
			if m := relation.FindStringSubmatch(f.Name()); m != nil {
				if n, err := strconv.Atoi(m[1]); err == nil && n >= firstNormal {
					return false
				}
			}
		}
	}
	spaces, err := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
	return err == nil && len(spaces) == 0
}
