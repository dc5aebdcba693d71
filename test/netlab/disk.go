package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func (h *Host) disk() string { return filepath.Join(h.dir, "disk") }

// makeDisk puts a file system of its own where the host keeps its state. The mount holds the loop device, and lets go of it.
func (h *Host) makeDisk(ctx context.Context) error {
	image := filepath.Join(h.dir, "disk.img")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, h.lab.cfg.DiskSize)); err != nil {
		return err
	}
	if err := within(ctx, "mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", image); err != nil {
		return err
	}
	return within(ctx, "mount", "-o", "loop", image, h.disk())
}

// StallDisk makes the disk hang: what writes to StateDir waits, fsync included, as with a dead path to a storage array.
func (h *Host) StallDisk(ctx context.Context) error {
	return within(ctx, "fsfreeze", "--freeze", h.disk())
}

// ContinueDisk ends StallDisk.
func (h *Host) ContinueDisk(ctx context.Context) error {
	return within(ctx, "fsfreeze", "--unfreeze", h.disk())
}

func (h *Host) ballast() string { return filepath.Join(h.disk(), "ballast") }

// FillDisk leaves that many bytes free on the disk of StateDir.
func (h *Host) FillDisk(left int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(h.disk(), &st); err != nil {
		return fmt.Errorf("fill the disk of %s: %w", h.Name, err)
	}
	size := int64(st.Bavail)*st.Bsize - left
	if size <= 0 {
		return fmt.Errorf("fill the disk of %s: only %d bytes are free already", h.Name, size+left)
	}
	f, err := os.OpenFile(h.ballast(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
	}
	if err != nil {
		return fmt.Errorf("fill the disk of %s: %w", h.Name, err)
	}
	return nil
}

// FreeDisk ends FillDisk.
func (h *Host) FreeDisk() error { return os.Remove(h.ballast()) }
