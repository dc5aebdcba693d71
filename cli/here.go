package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"standfast/config"
	"standfast/ops/founding"
	"standfast/packaging"

	"github.com/google/renameio/v2"
)

// hostCmd is what init --here and join have in common: they set up the host that they run on.
type hostCmd struct {
	Services bool `help:"Install the services for systemd too, where no package has."`
	NoStart  bool `help:"Do not start the service." name:"no-start"`
}

// home is where a member's files go: DefaultPath's directory, unless another was given.
func home(out string) string {
	if out != "" {
		return out
	}
	return filepath.Dir(config.DefaultPath)
}

// memberFiles are what founding writes.
var memberFiles = []string{founding.FileName, "tls", "secret", "token"}

// vacant refuses a directory that holds a member's file, and finds out whether files can be made there before anything is used up.
func vacant(dir string) error {
	for _, name := range memberFiles {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return usage("%s is there already: this host is a member of a cluster (see standfast status); if it is to be one of another, move %s away first", filepath.Join(dir, name), dir)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return usage("make %s: %w; %s", dir, err, runElse)
	}
	probe, err := os.CreateTemp(dir, ".standfast-")
	if err != nil {
		return usage("write to %s: %w; %s", dir, err, runElse)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// within are the settings by which a member finds its files in a directory that is not the usual one.
func within(dir string) []string {
	if dir == home("") {
		return nil
	}
	return []string{"tls_dir=" + filepath.Join(dir, "tls"), "secret_file=" + filepath.Join(dir, "secret"), "token_file=" + filepath.Join(dir, "token")}
}

// isHere reports whether an address, or one of those that a host name stands for, is this host's.
func isHere(address string) (bool, error) {
	wanted, err := net.LookupIP(address)
	if err != nil {
		return false, fmt.Errorf("find the address of %s: %w", address, err)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list this host's addresses: %w", err)
	}
	return slices.ContainsFunc(wanted, func(ip net.IP) bool {
		return ip.IsLoopback() || slices.ContainsFunc(own, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		})
	}), nil
}

// runAs checks that the user whom the member runs as is there, before anything is made for it.
func runAs(name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	if _, err := user.Lookup(name); err != nil {
		return usage("the user %s, whom standfast and PostgreSQL run as, is not there: install PostgreSQL first (or name another with --set postgres.run_as=NAME)", name)
	}
	return nil
}

// give hands what lies in directories over to the user that the member runs as. Only root has to, and can.
func give(name string, dirs ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("give files to %s: %w", name, err)
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, gid)
		})
		if err != nil {
			return fmt.Errorf("give files to %s: %w", name, err)
		}
	}
	return nil
}

// settle gives the member its files and its state directory, and starts it if it is to be a service. It reports whether it runs.
func (c *hostCmd) settle(a *app, dir string, n config.Node) (started bool, err error) {
	if err := os.MkdirAll(n.StateDir, 0o700); err != nil {
		return false, fmt.Errorf("make the state directory: %w", err)
	}
	if err := give(n.Postgres.RunAs, dir, n.StateDir); err != nil {
		return false, err
	}
	if c.Services {
		if err := installServices(a); err != nil {
			return false, err
		}
	}
	// The service reads the usual file.
	if c.NoStart || dir != home("") || os.Geteuid() != 0 || isService(a.ctx) != nil {
		return false, nil
	}
	out, err := exec.CommandContext(a.ctx, "systemctl", "enable", "--now", packaging.Unit).CombinedOutput()
	if err != nil {
		return false, fmt.Errorf("start %s: %w: %s", packaging.Unit, err, strings.TrimSpace(string(out)))
	}
	return true, nil
}

// installServices writes what a package would have installed beside the program.
func installServices(a *app) error {
	if _, err := os.Stat(packaging.Binary); err != nil {
		return usage("the services run %s, which is not there: install this program so: sudo install standfast %s", packaging.Binary, packaging.Binary)
	}
	for _, f := range packaging.Files() {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return fmt.Errorf("install the services: %w", err)
		}
		if err := renameio.WriteFile(f.Path, f.Text, 0o644, renameio.WithStaticPermissions(0o644)); err != nil {
			return fmt.Errorf("install the services: %w", err)
		}
	}
	if out, err := exec.CommandContext(a.ctx, "systemctl", "daemon-reload").CombinedOutput(); err != nil {
		return fmt.Errorf("install the services: systemctl daemon-reload: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// runNext says how a member that is no service is started.
func runNext(a *app, dir string, n config.Node) {
	with := ""
	if dir != home("") {
		with = " --config " + filepath.Join(dir, founding.FileName)
	}
	fmt.Fprintf(a.stdout, "start it here:\n  sudo -u %s standfast run%s\n", n.Postgres.RunAs, with)
}
