package watch

import (
	"golang.org/x/sys/unix"

	"standfast/guard/feed"
)

// watchdog is the kernel's ("The Linux Watchdog driver API"): the host is reset when it is not written to in time. It is
// open while the guard is armed, and starved when the guard has fired until nothing of PostgreSQL is left.
type watchdog struct {
	path    string
	seconds int
	fd      int
	fed     int64 // feed.Now() when last written to
	failed  bool
}

// patience is how long the loop may wait, in milliseconds: a third of the timeout while it is open.
func (w *watchdog) patience() int {
	if w.fd < 0 {
		return -1
	}
	return max(w.seconds*1000/3, 100)
}

func (w *watchdog) tick(armed, firing bool) {
	switch {
	case w.path == "":
	case !armed:
		w.release()
	case w.fd < 0 && !firing:
		w.open()
	case w.fd >= 0 && !firing && feed.Now()-w.fed >= int64(w.patience())*900_000: // it may wake a little early
		w.write(0)
	}
}

func (w *watchdog) open() {
	fd, err := unix.Open(w.path, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		if !w.failed { // EBUSY while the guard before this one still has it
			w.failed = true
			say("watchdog " + w.path + ": " + err.Error())
		}
		return
	}
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, w.seconds); err != nil {
		say("watchdog " + w.path + " keeps its own timeout: " + err.Error())
	}
	w.fd, w.failed = fd, false
	w.write(0)
}

// release disarms it: "V" is the character that says the close is meant. A kernel built with NOWAYOUT resets all the
// same.
func (w *watchdog) release() {
	if w.fd < 0 {
		return
	}
	w.write('V')
	unix.Close(w.fd)
	w.fd = -1
}

func (w *watchdog) write(c byte) {
	unix.Write(w.fd, []byte{c})
	w.fed = feed.Now()
}
