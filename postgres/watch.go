package postgres

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// watch waits for the end of one process by a pidfd, which stays with the process where a number would pass on to
// another one. It costs no thread: the descriptor sits in the runtime's poller.
type watch struct {
	pid    int
	fd     *os.File
	exited chan struct{} // closed when the process has ended
	ended  chan struct{} // closed when nobody waits any more
	group  string        // directory of its own control group, "": none; under Server.mu
}

// watchProcess begins to watch. child is the process's command if it is this process's child and has to be reaped.
func watchProcess(pid int, child *exec.Cmd) (*watch, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	w := &watch{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd"), exited: make(chan struct{}), ended: make(chan struct{})}
	conn, err := w.fd.SyscallConn()
	if err != nil {
		w.fd.Close()
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	go func() {
		defer close(w.ended)
		if conn.Read(hasEnded) != nil {
			return // stopped
		}
		if child != nil {
			_ = child.Wait() // how it ended is in its log
		}
		w.fd.Close()
		close(w.exited)
	}()
	return w, nil
}

// hasEnded asks a pidfd, which becomes readable when its process ends.
func hasEnded(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

// stop gives up watching a process that lives on.
func (w *watch) stop() {
	w.fd.Close()
	<-w.ended
}

func (w *watch) alive() bool {
	select {
	case <-w.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal to the very process that is watched.
func (w *watch) signal(sig unix.Signal) error {
	conn, err := w.fd.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := conn.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		if !w.alive() {
			return unix.ESRCH
		}
		return err
	}
	return serr
}

// Exited is closed when the postmaster that was started or adopted last has ended. The next start or adoption makes a
// new one; before the first there is none to end.
func (s *Server) Exited() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch == nil {
		return s.never
	}
	return s.watch.exited
}

// postmaster gives the watch of a postmaster that lives, nil if none is known.
func (s *Server) postmaster() *watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch == nil || !s.watch.alive() {
		return nil
	}
	return s.watch
}

func (s *Server) setWatch(w *watch) {
	s.mu.Lock()
	old := s.watch
	s.watch = w
	s.mu.Unlock()
	if old != nil {
		old.stop()
	}
}

// Running reports whether the postmaster or any process of it lives. While the postmaster is known to live this costs
// nothing.
func (s *Server) Running() (bool, error) {
	if s.postmaster() != nil {
		return true, nil
	}
	pids, err := s.Processes()
	return len(pids) > 0, err
}
