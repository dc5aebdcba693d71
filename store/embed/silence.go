package embed

import (
	"context"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// silence is how long a connection of the etcd process lasts whose other end's kernel says nothing.
//
// etcd means to read with a time-out of 5 s from the streams that bring Raft's messages. In version 3.7.3 it has none: NewTimeoutTransport of
// etcd's client/pkg/transport puts it into http.Transport's Dial, which net/http ignores because DialContext is set too. A cut cable then leaves
// the streams to TCP, which sends again after 0.2, 0.6, 1.4 s and so on: 25 s after a cut of 30 s has healed the member still hears
// nobody, and a cluster of three that loses another member in that time has no majority. The process has no other hold on its sockets than
// their numbers.
const silence = 3 * time.Second

// endSilent sees to it that every TCP connection of this process ends after silence, those made from now on as well, until ctx ends.
func endSilent(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		boundSilence()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// boundSilence sets the options of tcp(7) on all sockets that don't have them: TCP_USER_TIMEOUT ends a connection with unacknowledged data;
// probes make sure that one which only receives has some. A number that is closed and taken by another file meanwhile does no harm, for
// the kernel refuses the options for what is not TCP.
func boundSilence() {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without /proc nothing else of Standfast works either
	}
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			continue
		}
		if have, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || have != 0 {
			continue
		}
		for _, o := range [][2]int{
			{unix.TCP_KEEPIDLE, 1}, {unix.TCP_KEEPINTVL, 1}, {unix.TCP_USER_TIMEOUT, int(silence.Milliseconds())}, // the last tells that all are set
		} {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, o[0], o[1]) // the connection may have ended
		}
	}
}
