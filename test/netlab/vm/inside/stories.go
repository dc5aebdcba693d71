package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"standfast/guard"
)

var stories = map[string]func() error{"fed": fed, "hung": hung, "killed": killed, "clock": clock}

// device is what softdog answers at.
const device = "/dev/watchdog"

// timeout is the watchdog's.
const timeout = 4 * time.Second

// arm starts a guard, with the device if it is to have one, that ends the victim after so long.
func arm(device string, lease time.Duration) (*guard.Guard, *victim, error) {
	v, err := newVictim()
	if err != nil {
		return nil, nil, err
	}
	g, err := guard.Start(context.Background(), guard.Config{Name: v.group, Watchdog: device, WatchdogTimeout: timeout})
	if err != nil {
		return nil, nil, err
	}
	return g, v, g.Feed(lease, guard.Target{Data: "/tmp", Cgroup: v.group}) // nobody works in /tmp
}

// fed: a watchdog that is fed lets the machine live, and one that was put away too.
func fed() error {
	g, v, err := arm(device, time.Hour)
	if err != nil {
		return err
	}
	time.Sleep(3 * timeout)
	if v.ended(0) {
		return errors.New("the guard has fired")
	}
	if err := g.Disarm(); err != nil {
		return err
	}
	time.Sleep(2 * timeout)
	return nil
}

// hung: a guard that hangs while it is armed takes the whole machine down.
func hung() error { return struckGuard(unix.SIGSTOP) }

// killed: so does one that is killed.
func killed() error { return struckGuard(unix.SIGKILL) }

func struckGuard(signal unix.Signal) error {
	g, _, err := arm(device, time.Hour)
	if err != nil {
		return err
	}
	time.Sleep(timeout / 4) // the device is opened after the feed is confirmed
	fmt.Println("STRIKE")
	if err := unix.Kill(g.Status().PID, signal); err != nil {
		return err
	}
	time.Sleep(10 * timeout)
	return errors.New("the machine lives")
}

// clock: a lease is as long as it is, whatever becomes of the time of day.
func clock() error {
	const lease = 2 * time.Second
	for _, step := range []time.Duration{24 * time.Hour, -48 * time.Hour} {
		begun := time.Now() // monotonic
		_, v, err := arm("", lease)
		if err != nil {
			return err
		}
		tv := unix.NsecToTimeval(time.Now().Add(step).UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
		if v.ended(lease / 2) {
			return fmt.Errorf("with the clock set by %v the guard has fired after %v already", step, time.Since(begun))
		}
		if !v.ended(5 * lease) {
			return fmt.Errorf("with the clock set by %v the guard has not fired after %v", step, time.Since(begun))
		}
		fmt.Printf("the clock was set by %v, the lease of %v ended after %v\n", step, lease, time.Since(begun))
	}
	return nil
}

// victim is a process in a control group of its own, as PostgreSQL's are.
type victim struct {
	group string
	done  chan struct{}
}

var victims int

func newVictim() (*victim, error) {
	victims++
	v := &victim{group: fmt.Sprintf("/sys/fs/cgroup/victim%d", victims), done: make(chan struct{})}
	if err := os.Mkdir(v.group, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command("/init", "victim")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait(); close(v.done) }() // it is killed
	return v, os.WriteFile(filepath.Join(v.group, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0)
}

// ended waits for its end for so long.
func (v *victim) ended(within time.Duration) bool {
	select {
	case <-v.done:
		return true
	case <-time.After(within):
		return false
	}
}
