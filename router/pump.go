package router

import "golang.org/x/sys/unix"

// maxSpare is how many buffers for slow readers a loop keeps for the next.
const maxSpare = 32

// pump moves what there is to read at from to its peer, until there is no more, the peer can't take it, others should
// have their turn or the route changes.
func (l *loop) pump(from *end) {
	s, to := from.s, from.peer
	for range rounds {
		if !from.readable || len(to.out) > 0 {
			return
		}
		if l.r.table.epoch.Load() != l.seen {
			break // the session may be one to cut
		}
		n, errno := read(from.fd, l.buf)
		switch {
		case errno == unix.EAGAIN:
			from.readable = false
			return
		case errno == unix.EINTR:
			continue
		case errno != 0 || n == 0:
			l.over(from, errno)
			return
		}
		if n < len(l.buf) && !from.hup {
			from.readable = false // the next bytes are a new event
		}
		if !l.note(from, l.buf[:n]) || !l.send(to, l.buf[:n]) {
			return
		}
		if s.phase == phaseGone {
			return
		}
	}
	if !from.again {
		from.again = true
		l.again = append(l.again, from)
	}
}

// note counts and follows what is about to pass. False: it must not pass, the session has taken another turn.
func (l *loop) note(from *end, p []byte) bool {
	s := from.s
	if from == &s.server {
		if s.phase == phaseSent {
			if why, ok := notNow(p); ok && s.talk == talkPlain && s.first != nil {
				l.unanswered(s, why)
				return false
			}
			s.phase, s.first = phaseRelay, nil
		}
		s.flow(l.id).toClient[s.side].Add(uint64(len(p)))
		if s.talk != talkOpaque {
			if key := s.fromServer(p); key != "" {
				s.key = key
				l.r.keys.add(key, s.seat.home())
			}
		}
		return true
	}
	s.flow(l.id).toServer[s.side].Add(uint64(len(p)))
	if s.phase == phaseSent {
		s.keep(p)
	}
	switch {
	case s.talk == talkOpaque:
	case s.talk == talkTLS:
		cancel, over := s.tls.feed(p)
		if over {
			s.talk = talkOpaque
		}
		return !cancel || !l.sealed(s, p)
	case s.fromClient(p):
		l.cancel(s, p)
		return false
	}
	return true
}

// keep adds to what another server would have to be sent, as long as that is little.
func (s *session) keep(p []byte) {
	if s.first == nil || len(s.first)+len(p) > maxFirst {
		s.first = nil
		return
	}
	s.first = append(s.first, p...)
}

// flow is where the session's bytes are counted.
func (s *session) flow(loop int) *traffic { return &s.seat.srv.traffic[loop] }

// send writes to the end and keeps what it can't take now. False: the session is over.
func (l *loop) send(to *end, p []byte) bool {
	n, errno := write(to.fd, p)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		n = 0
	case errno != 0:
		l.over(to, errno)
		return false
	}
	if n < len(p) {
		to.out = append(l.buffer(), p[n:]...)
	}
	return true
}

// flush goes on with what the end could not take before, then with its peer.
func (l *loop) flush(e *end) {
	n, errno := write(e.fd, e.out)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0:
		l.over(e, errno)
		return
	}
	if n < len(e.out) {
		e.out = e.out[:copy(e.out, e.out[n:])]
		return
	}
	l.recycle(e.out)
	e.out = nil
	l.pump(e.peer)
}

// over takes the end of one direction: errno, or an orderly close if that is 0.
//
// A server that closes has nothing more to take either, so the session ends. A client may close only its half and still
// wait for answers.
func (l *loop) over(e *end, errno unix.Errno) {
	s := e.s
	switch {
	case e == &s.server && s.phase == phaseSent:
		l.unanswered(s, "it closes connections unanswered")
	case e == &s.server:
		s.ends(ended("the server", errno))
		if errno != 0 {
			l.lastWords(s)
		}
		l.drop(s)
	case errno == 0:
		s.ends(ended("the client", 0)) // and the server says no more than it is asked
		e.readable = false
		s.first = nil                                     // what it sent can't be sent again as it was
		_ = unix.Shutdown(int(s.server.fd), unix.SHUT_WR) // a server that is gone reports itself
	default:
		s.ends(ended("the client", errno))
		l.drop(s)
	}
}

// ended says who ended a session, and how.
func ended(who string, errno unix.Errno) string {
	if errno == 0 {
		return who
	}
	return who + ": " + errno.Error()
}

// lastWords passes on what a server said before it broke the connection, mostly why.
func (l *loop) lastWords(s *session) {
	for len(s.client.out) == 0 {
		n, errno := read(s.server.fd, l.buf)
		if errno != 0 || n == 0 {
			return
		}
		if m, _ := write(s.client.fd, l.buf[:n]); m < n {
			return
		}
	}
}

// buffer returns an empty buffer for what a slow reader can't take.
func (l *loop) buffer() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return make([]byte, 0, bufferSize)
}

func (l *loop) recycle(b []byte) {
	if cap(b) >= bufferSize && len(l.spare) < maxSpare {
		l.spare = append(l.spare, b[:0])
	}
}
