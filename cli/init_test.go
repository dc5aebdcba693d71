package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInitOnAFullDisk: what could not be written whole is taken away, so that the next try finds nothing in its way.
func TestInitOnAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12k"); err != nil {
		t.Skipf("can't mount a small file system here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	out := filepath.Join(dir, "out")
	a := &app{stdout: &strings.Builder{}}
	c := &initCmd{Cluster: "main", Members: []string{"pg1=10.0.0.11", "pg2=10.0.0.12"}, Out: out}
	err := c.Run(a)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "--out") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("a full disk: %v", err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("something was left behind: %v", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(a); err != nil {
		t.Errorf("with room: %v", err)
	}
}
