// Package slack lets a program that mostly waits wake up less often.
//
// The kernel may wake a thread later than it asked to be, by the thread's timer slack (prctl(2), PR_SET_TIMERSLACK; 50 µs
// unless set), to do it together with something else. Two habits of Go's runtime make a larger one worth having. It waits
// for timers with a whole number of milliseconds, rounded down, and for what is left of the last one again: a wait that
// ends up to a millisecond late is over the first time. And its monitor, which runs whenever anything else does, looks every
// 20 µs whether it may sleep again: between a fifth and a third of the processor time of an idle daemon.
package slack

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Default is the slack that Linux gives a process.
const Default = 50 * time.Microsecond

// Set gives every thread of this process the slack d, and so all that come after, and what this process starts. A program
// linked with C can't (ENOTSUP); it only wakes up more often.
func Set(d time.Duration) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(d.Nanoseconds()), 0); errno != 0 {
		return fmt.Errorf("set the timer slack to %s: %w", d, errno)
	}
	return nil
}

// SetThread gives it to the calling thread alone, and to what is started from it. The caller has locked the thread.
func SetThread(d time.Duration) error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(d.Nanoseconds()), 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack to %s: %w", d, err)
	}
	return nil
}
