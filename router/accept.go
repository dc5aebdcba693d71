package router

import (
	"cmp"
	"time"

	"golang.org/x/sys/unix"
)

// firstMessage is how long a client may take for its first message: PostgreSQL's own authentication_timeout.
const firstMessage = time.Minute

// overflow is how many connections above MaxSessions are heard before they are refused: a CancelRequest must get through
// just then.
const overflow = 64

// accept takes new connections and spreads them over the loops.
func (l *loop) accept(fd int32) {
	ln := l.r.listenerOf(fd)
	if ln == nil {
		return
	}
	for range acceptBatch {
		conn, errno := accept(fd)
		switch errno {
		case 0:
			l.r.accepted[ln.side].Add(1)
			l.place(conn, ln.side)
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.hear(false)
			l.deafTill = time.Now().Add(acceptPause)
			l.r.cfg.Log.Error("router: accept: no resources for more connections, pausing; raise the limit of open files (LimitNOFILE)", "err", errno)
			return
		case unix.ECONNABORTED, unix.EINTR:
		default: // EAGAIN: no more of them
			return
		}
	}
}

// place gives the connection to the loop with the fewest sessions. A difference of one is not worth waking another.
func (l *loop) place(fd int32, side Side) {
	if l.r.open.Add(1) > int64(l.r.cfg.MaxSessions+overflow) {
		l.r.refuse(side, fd, nil, l.r.full())
		return
	}
	best := l
	for _, other := range l.r.loops {
		if other.load.Load()+1 < best.load.Load() {
			best = other
		}
	}
	if best == l {
		l.adopt(fd, side)
	} else if !best.post(letter{kind: letterAdopt, fd: fd, side: side}) {
		unix.Close(int(fd))
		l.r.open.Add(-1)
	}
}

// adopt begins a session with a new connection.
func (l *loop) adopt(fd int32, side Side) {
	s := &session{loop: l, side: side, index: len(l.sessions), pending: -1, patience: cmp.Or(l.r.table.limits.Load().HoldFor, dialFor), pause: minBackoff}
	s.client = end{fd: -1, s: s, peer: &s.server}
	s.server = end{fd: -1, s: s, peer: &s.client}
	l.sessions = append(l.sessions, s)
	l.load.Add(1)
	if !l.watch(&s.client, fd) {
		l.drop(s)
		return
	}
	s.deadline = time.Now().Add(firstMessage)
	l.setPending(s, true)
	l.readFirst(s) // the kernel held the connection back until there was something to read
}

// watch makes the socket the end's and has it watched. False: it could not be, and is closed.
func (l *loop) watch(e *end, fd int32) bool {
	if l.gen++; l.gen <= 0 {
		l.gen = 1
	}
	ev := unix.EpollEvent{Events: watched, Fd: fd, Pad: l.gen}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, int(fd), &ev); err != nil {
		unix.Close(int(fd))
		l.r.cfg.Log.Error("router: watch socket", "err", err)
		return false
	}
	for int(fd) >= len(l.ends) {
		l.ends = append(l.ends, make([]*end, len(l.ends)+64)...)
	}
	e.fd, e.gen = fd, l.gen
	l.ends[fd] = e
	return true
}

// forget takes the socket from the end without closing it.
func (l *loop) forget(e *end) int32 {
	fd := e.fd
	if fd >= 0 {
		l.ends[fd] = nil
	}
	if e.out != nil {
		l.recycle(e.out)
	}
	e.fd, e.out, e.readable, e.hup = -1, nil, false, false
	return fd
}

func (l *loop) closeEnd(e *end) {
	if fd := l.forget(e); fd >= 0 {
		unix.Close(int(fd))
	}
}

func (l *loop) resetEnd(e *end) {
	if fd := l.forget(e); fd >= 0 {
		reset(fd)
	}
}

// setPending enters the session among those with a deadline, or removes it.
func (l *loop) setPending(s *session, on bool) {
	switch {
	case on && s.pending < 0:
		s.pending = len(l.pending)
		l.pending = append(l.pending, s)
	case !on && s.pending >= 0:
		last := l.pending[len(l.pending)-1]
		l.pending[s.pending], last.pending = last, s.pending
		l.pending = l.pending[:len(l.pending)-1]
		s.pending = -1
	}
}
