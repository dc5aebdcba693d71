package netlab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Delay holds back every frame from and to a host for a time that lies between delay-jitter and delay+jitter, each frame by
// itself: with jitter, frames overtake each other. 0 and 0 end it. The cable stays; between it and the switch comes a pair of
// TAP devices whose frames this process carries, since not every kernel has netem.
func (l *Lab) Delay(h *Host, delay, jitter time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx := context.Background()
	if s := l.delays[h]; s != nil {
		delete(l.delays, h)
		if err := errors.Join(s.close(), l.sw.ip(ctx, "link set "+port(h.Name)+" master "+bridge), l.sw.ip(ctx, "link del b-"+h.Name)); err != nil {
			return fmt.Errorf("end the delay of %s: %w", h.Name, err)
		}
	}
	if delay == 0 && jitter == 0 {
		return nil
	}
	s, err := l.shape(ctx, h, delay, jitter)
	if err != nil {
		return fmt.Errorf("delay %s: %w", h.Name, err)
	}
	l.delays[h] = s
	return nil
}

// shaper carries frames between two TAP devices.
type shaper struct {
	taps  [2]*os.File
	carry sync.WaitGroup
}

// shape puts the host's end of the switch into a small bridge of its own with one TAP device, and the other into the switch.
// The bridge has the kernel cut large segments and fill in checksums, which a frame on a veth pair need not have.
func (l *Lab) shape(ctx context.Context, h *Host, delay, jitter time.Duration) (*shaper, error) {
	own := "b-" + h.Name
	s := &shaper{}
	names := [2]string{"e-" + h.Name, "d-" + h.Name}
	for i, name := range names {
		err := l.sw.do(func() (err error) {
			s.taps[i], err = openTap(name)
			return err
		})
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	for _, command := range []string{
		"link add " + own + " type bridge forward_delay 0 mcast_snooping 0", "link set " + own + " up",
		"link set " + names[0] + " master " + own + " up", "link set " + names[1] + " master " + bridge + " up",
		"link set " + port(h.Name) + " master " + own,
	} {
		if err := l.sw.ip(ctx, command); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	hold := func() time.Duration { return max(0, delay-jitter+time.Duration(rand.Int64N(int64(2*jitter)+1))) }
	s.carry.Go(func() { s.copy(s.taps[0], s.taps[1], hold) })
	s.carry.Go(func() { s.copy(s.taps[1], s.taps[0], hold) })
	return s, nil
}

// openTap makes a TAP device (Documentation/networking/tuntap.rst), which ends with its descriptor.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make the TAP device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// copy carries frames one way until the device is closed. The end of a frame on its way is waited for too.
func (s *shaper) copy(from, to *os.File, hold func() time.Duration) {
	var late sync.WaitGroup
	defer late.Wait()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		frame := append([]byte(nil), buf[:n]...)
		late.Add(1)
		time.AfterFunc(hold(), func() {
			defer late.Done()
			_, _ = to.Write(frame) // a device that is closed or full drops it, as a line does
		})
	}
}

func (s *shaper) close() error {
	var err error
	for _, tap := range s.taps {
		if tap != nil {
			err = errors.Join(err, tap.Close())
		}
	}
	s.carry.Wait()
	return err
}
