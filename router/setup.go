package router

import (
	"time"

	"golang.org/x/sys/unix"
)

// dialFor bounds one attempt to connect to a server; a client that still has time then tries the next. The kernel would
// send a lost SYN again after a second too.
const dialFor = time.Second

// maxPause bounds the pause before a client whose server did not answer it is sent there again.
const maxPause = 250 * time.Millisecond

// maxFirst is how much of what a client sends before its server's first byte is kept for another server.
const maxFirst = 2 * maxStartup

// readFirst reads the client's first message and, once it is there, looks for what it asks for.
func (l *loop) readFirst(s *session) {
	n, errno := read(s.client.fd, l.buf)
	switch {
	case errno == unix.EAGAIN:
		return
	case errno != 0 || n == 0:
		l.drop(s)
		return
	}
	s.first = append(s.first, l.buf[:n]...)
	s.client.readable = n == len(l.buf)
	s.opening = classify(s.first)
	switch {
	case s.opening == openPartial && !s.client.hup:
	case s.opening == openCancel:
		l.cancel(s, s.first)
	case s.opening == openHandedOver:
		l.takeCancel(s)
	case s.opening == openPartial || s.opening == openJunk:
		l.r.junk.Add(1)
		l.drop(s)
	case l.r.open.Load() > int64(l.r.cfg.MaxSessions):
		l.deny(s, l.r.full())
	default:
		s.opened()
		l.ask(s, time.Now())
	}
}

// ask looks for a server: the session is dialing, waiting or refused after it.
func (l *loop) ask(s *session, now time.Time) {
	if s.phase != phaseWait && s.phase != phaseDial {
		s.deadline = now.Add(s.patience)
	}
	s.phase = phaseWait
	l.setPending(s, true)
	switch c := l.r.table.ask(s, now); c.verdict {
	case proceed:
		l.connect(s, now)
	case deny:
		l.deny(s, c.why)
	}
}

// verdict takes the table's answer to a session that waited.
func (l *loop) verdict(s *session, c choice) {
	if s.phase != phaseWait {
		return // it has gone meanwhile and gave its seat back
	}
	now := time.Now()
	switch {
	case c.verdict == deny:
		l.deny(s, c.why)
	case s.seat.srv == nil: // a seat it has given back since
	case !l.r.table.view.Load().keeps(&s.seat, now, 0):
		l.r.table.release(s, now)
		l.ask(s, now)
	default:
		l.connect(s, now)
	}
}

func (l *loop) connect(s *session, now time.Time) {
	fd, err := dial(s.seat.at)
	if err != nil {
		l.dialFailed(s, err)
		return
	}
	if !l.watch(&s.server, fd) {
		l.drop(s)
		return
	}
	s.phase, s.attempt = phaseDial, now.Add(dialFor)
	l.sendFirst(s) // on the same host the connection is there already
}

// finishDial takes the outcome of the dial.
func (l *loop) finishDial(s *session) {
	if err := socketError(s.server.fd); err != nil {
		l.dialFailed(s, err)
		return
	}
	l.sendFirst(s)
}

// sendFirst passes on what the client has sent so far, if the connection is made.
func (l *loop) sendFirst(s *session) {
	n, errno := write(s.server.fd, s.first)
	switch {
	case errno == unix.EAGAIN || errno == unix.ENOTCONN || errno == unix.EINTR:
		return
	case errno != 0:
		l.dialFailed(s, errno)
		return
	}
	now := time.Now()
	s.phase = phaseSent
	s.stays(now)
	s.patience = s.deadline.Sub(now)
	l.setPending(s, false)
	s.flow(l.id).toServer[s.side].Add(uint64(n))
	if s.seat.probe {
		l.r.table.connected(s, now)
	}
	if n < len(s.first) {
		s.server.out = append(l.buffer(), s.first[n:]...)
	}
	if s.client.readable {
		l.pump(&s.client)
	}
}

// dialFailed makes the session look again: for another standby at once, for the primary when it is back.
func (l *loop) dialFailed(s *session, err error) {
	l.r.dialErrors.Add(1)
	l.closeEnd(&s.server)
	now := time.Now()
	l.r.table.failed(s, err, now)
	s.phase = phaseWait
	l.ask(s, now)
}

// unanswered gives the session another server, or the same one again after a pause: this one closed without a word, as
// a dying one does, or said that it can't be connected to now.
func (l *loop) unanswered(s *session, why string) {
	if s.first == nil {
		l.drop(s)
		return
	}
	s.why = s.seat.srv.name + ": " + why
	s.notBefore = time.Now().Add(s.pause)
	s.pause = min(2*s.pause, maxPause)
	l.reassign(s)
}

// reassign takes the session from a server that has not answered it.
func (l *loop) reassign(s *session) {
	l.resetEnd(&s.server)
	now := time.Now()
	l.r.table.release(s, now)
	s.opened()
	l.ask(s, now)
}

// late ends what has taken too long.
func (l *loop) late(s *session, now time.Time) {
	switch s.phase {
	case phaseFirst:
		l.drop(s)
	case phaseDial:
		l.dialFailed(s, unix.ETIMEDOUT)
	case phaseWait:
		if why, ok := l.r.table.expire(s, now); ok {
			l.deny(s, why)
		}
	}
}

// deny hands the client over to be told why.
func (l *loop) deny(s *session, why refusal) {
	s.ends("the router: " + why.text)
	first, side := s.first, s.side
	if fd := l.surrender(s); fd >= 0 {
		l.r.refuse(side, fd, first, why)
	}
}

// cancel hands the client over with its CancelRequest.
func (l *loop) cancel(s *session, packet []byte) {
	packet = append([]byte(nil), packet...) // it may lie in the loop's buffer
	side := s.side
	if fd := l.surrender(s); fd >= 0 {
		l.r.carryCancel(fd, side, packet)
	}
}

// takeCancel hands a router's connection over with the request that it was sent.
func (l *loop) takeCancel(s *session) {
	packet := s.first
	if fd := l.surrender(s); fd >= 0 {
		l.r.takeCancel(fd, packet)
	}
}

// surrender ends the session but leaves the client's socket open, to whoever goes on with it.
func (l *loop) surrender(s *session) int32 {
	s.ends("a CancelRequest")
	fd := l.forget(&s.client)
	if fd >= 0 {
		_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, int(fd), nil) // it is there
		l.r.open.Add(1)                                           // drop takes it away, the connection stays
	}
	l.drop(s)
	return fd
}

// drop ends the session: what was sent is still delivered.
func (l *loop) drop(s *session) {
	if s.phase == phaseGone {
		return
	}
	s.phase = phaseGone
	l.closeEnd(&s.client)
	l.closeEnd(&s.server)
	l.setPending(s, false)
	last := l.sessions[len(l.sessions)-1]
	l.sessions[s.index], last.index = last, s.index
	l.sessions[len(l.sessions)-1] = nil
	l.sessions = l.sessions[:len(l.sessions)-1]
	if s.key != "" {
		l.r.keys.remove(s.key, s.seat.home())
	}
	now := time.Now()
	if s.stay != nil {
		l.r.tell(s.stay, now)
	}
	l.r.table.release(s, now)
	l.load.Add(-1)
	l.r.open.Add(-1)
}

// cutOff ends the session at once because it must not go on. A client that awaits no answer is told in PostgreSQL's own
// way; one in the midst of a transfer or of a statement gets a reset, for an error would read as the statement's: a
// COMMIT answered with an error counts as rolled back, and here nobody knows.
func (l *loop) cutOff(s *session, why string) {
	s.ends("the router: " + why)
	if s.talk == talkPlain && s.phase == phaseRelay && s.frames.unasked() && len(s.client.out) == 0 {
		write(s.client.fd, refusal{adminShutdown, "terminating connection: " + why}.encode())
	} else {
		l.resetEnd(&s.client)
	}
	l.resetEnd(&s.server)
	l.drop(s)
}
