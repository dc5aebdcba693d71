package netlab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Image is a Debian release with PostgreSQL's server, and whatever more is wanted of it.
type Image struct {
	Suite    string   // "": $STANDFAST_NETLAB_SUITE, or trixie
	Packages []string // beside base's and PostgreSQL's server
	Bare     bool     // nothing beside base is installed, and all of it is at hand for apt, which reaches no mirror from a host
}

// servers is the version of PostgreSQL in each Debian release.
var servers = map[string]string{"bookworm": "15", "trixie": "17"}

// base is a small server as an administrator would set it up: systemd with its bus, and the tools of networking.
var base = []string{"systemd-sysv", "dbus", "iproute2", "iputils-ping", "procps", "nftables", "ca-certificates", "openssh-server", "sudo"}

// System is the release as "standfast bundle" names it.
func (i Image) System() string {
	return map[string]string{"bookworm": "debian-12", "trixie": "debian-13"}[i.suite()]
}

// Postgres is the major version of PostgreSQL's server in the image.
func (i Image) Postgres() string { return servers[i.suite()] }

func (i Image) suite() string {
	for _, s := range []string{i.Suite, os.Getenv("STANDFAST_NETLAB_SUITE")} {
		if s != "" {
			return s
		}
	}
	return "trixie"
}

// CacheDir is where images are kept: about 500 MB each.
func CacheDir() string {
	if d := os.Getenv("STANDFAST_NETLAB_CACHE"); d != "" {
		return d
	}
	return "/var/cache/standfast/netlab"
}

// make returns the image's directory, and makes it first if the cache has none of these packages.
func (i Image) make(ctx context.Context, logf func(string, ...any)) (string, error) {
	version := i.Postgres()
	if version == "" {
		return "", fmt.Errorf("no Debian release %q is known here: choose bookworm or trixie", i.suite())
	}
	packages := append([]string{"postgresql-" + version, "polkitd"}, i.Packages...)
	sum := sha256.Sum256([]byte(strings.Join(append(packages, base...), " ")))
	dir := filepath.Join(CacheDir(), fmt.Sprintf("%s-%x", i.suite(), sum[:4]))
	if i.Bare {
		dir += "-bare"
	}
	if err := os.MkdirAll(CacheDir(), 0o755); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // complete, for it gets its name at the end; so it need not wait while another is made
	}
	lock, err := waitLock(filepath.Join(CacheDir(), "lock")) // two runs must not make it at the same time
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	mirror, err := Mirror(ctx)
	if err != nil {
		return "", err
	}
	logf("making an image of Debian %s with PostgreSQL %s from %s, once, for %s", i.suite(), version, mirror, dir)
	building := dir + ".building"
	if err := os.RemoveAll(building); err != nil {
		return "", err
	}
	if err := i.build(ctx, building, mirror, packages); err != nil {
		return "", errors.Join(err, os.RemoveAll(building))
	}
	return dir, os.Rename(building, dir)
}

func waitLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// build makes the image in two steps: PostgreSQL's packages must find in place what keeps them from making a cluster.
func (i Image) build(ctx context.Context, dir, mirror string, packages []string) error {
	err := within(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(base, ","), i.suite(), dir, mirror)
	if err != nil {
		return err
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	policy := filepath.Join(dir, "usr/sbin/policy-rc.d") // no service is started in a directory that is no machine
	files := map[string]string{
		policy:                                "#!/bin/sh\nexit 101\n",
		filepath.Join(dir, "etc/resolv.conf"): string(resolv),
	}
	if !i.Bare {
		files[filepath.Join(dir, "etc/postgresql-common/createcluster.conf")] = "create_main_cluster = false\n"
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			return err
		}
	}
	option := ""
	if i.Bare {
		option = "--download-only "
	}
	install := "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install -y --no-install-recommends " + option + strings.Join(packages, " ")
	// A mount and process namespace of its own: maintainer scripts want /proc, and nothing of it is to stay.
	err = within(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc="+filepath.Join(dir, "proc"), "chroot", dir, "sh", "-c", install)
	if !i.Bare {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, "var/cache/apt/archives")))
	}
	return errors.Join(err, os.Remove(policy), os.Truncate(filepath.Join(dir, "etc/machine-id"), 0))
}

// Mirror is where this machine itself gets Debian from.
func Mirror(ctx context.Context) (string, error) {
	if m := os.Getenv("STANDFAST_NETLAB_MIRROR"); m != "" {
		return m, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian").Output()
	if first, _, _ := strings.Cut(string(out), "\n"); err == nil && first != "" {
		return first, nil
	}
	return "", errors.New("this machine's own apt names no Debian mirror: set STANDFAST_NETLAB_MIRROR to one")
}
