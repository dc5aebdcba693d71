package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Add boots one more host, of the next number. It is not to be called at the same time as anything else of the lab's own.
func (l *Lab) Add(ctx context.Context) (*Host, error) {
	h := newHost(l, len(l.Hosts)+1)
	if err := h.assemble(ctx); err != nil {
		return nil, fmt.Errorf("add %s: %w", h.Name, err)
	}
	l.Hosts = append(l.Hosts, h)
	return h, h.Boot(ctx)
}

// Renew takes a host's power, throws its disks away, and boots a new machine of the same name and address in its place.
func (h *Host) Renew(ctx context.Context) error {
	if err := h.PowerOff(); err != nil {
		return err
	}
	mounts, err := mountsBelow(h.dir)
	errs := []error{err}
	for _, m := range slices.Backward(mounts) {
		errs = append(errs, unix.Unmount(m, unix.MNT_DETACH))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("renew %s: %w", h.Name, err)
	}
	for _, d := range []string{"up", "work", "disk.img"} {
		if err := os.RemoveAll(filepath.Join(h.dir, d)); err != nil {
			return fmt.Errorf("renew %s: %w", h.Name, err)
		}
	}
	if err := h.assemble(ctx); err != nil {
		return fmt.Errorf("renew %s: %w", h.Name, err)
	}
	return h.Boot(ctx)
}
