//go:build e2e

package site_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

var (
	cluster *site.Site
	all     context.Context // ends when the tests are interrupted
)

// healTime is how long a cluster may take to be whole again after any fault. On an idle machine it is a few seconds.
const healTime = 2 * time.Minute

// settings of the members. Time alone must not keep a primary that lives in place, or the scenarios would wait for each other.
// The lease is twice the default, so that a member is not cut off because two processors are busy with three machines.
var settings = []string{
	"bootstrap.anti_flap=1s", "bootstrap.lease=6s", "bootstrap.postgresql.parameters.max_wal_size=256MB", // of a disk of 1 GiB
	"vip=[{address: " + site.Floating.String() + "}]",
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := netlab.Missing(); err != nil {
		fmt.Println("SKIP: no whole machines can be booted here:", err)
		return 0
	}
	var stop context.CancelFunc
	all, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "standfast-site-bin-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := start(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	code := m.Run()
	if err := cluster.Close(); err != nil {
		fmt.Println(err)
		code = 1
	}
	return code
}

// start boots the cluster that all tests use.
func start(dir string) error {
	binary := filepath.Join(dir, "standfast")
	build := exec.Command("go", "build", "-o", binary, "standfast/cmd/standfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the hosts may have another C library
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build standfast: %w\n%s", err, out)
	}
	logf := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	began := time.Now()
	var err error
	if cluster, err = site.Start(all, binary, netlab.Config{Logf: logf}, settings...); err != nil {
		return err
	}
	logf("%d hosts booted and founded a cluster in %.1f s", len(cluster.Lab.Hosts), time.Since(began).Seconds())
	ground, err := cluster.Lab.Hosts[0].Shell(all, `. /etc/os-release; echo "$(/usr/lib/postgresql/*/bin/postgres --version), $PRETTY_NAME"`)
	logf("test/netlab/site runs on %s, load %s", strings.TrimSpace(ground), loadAverage())
	return err
}

func outside(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	ok(t, err)
	return string(b)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
