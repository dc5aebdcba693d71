//go:build e2e

package deployed_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"standfast/test/netlab"
	"standfast/test/netlab/deployed"
)

var (
	admin *deployed.Admin
	all   context.Context // ends when the tests are interrupted
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := netlab.Missing(); err != nil {
		fmt.Println("SKIP: no whole machines can be booted here:", err)
		return 0
	}
	var stop context.CancelFunc
	all, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "standfast-deployed-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	lab, err := start(dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	code := m.Run()
	if err := lab.Close(); err != nil {
		fmt.Println(err)
		code = 1
	}
	return code
}

// start builds the program and boots bare hosts, which all tests use.
func start(dir string) (*netlab.Lab, error) {
	binary := filepath.Join(dir, "standfast")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, "standfast/cmd/standfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the hosts may have another C library
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build standfast: %w\n%s", err, out)
	}
	var err error
	if admin, err = deployed.New(dir, binary); err != nil {
		return nil, err
	}
	logf := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	lab, err := netlab.Start(all, netlab.Config{Image: netlab.Image{Bare: true, Packages: []string{"haproxy", "keepalived"}}, Prepare: admin.Prepare, Logf: logf})
	if err != nil {
		return nil, err
	}
	return lab, admin.Use(lab)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
