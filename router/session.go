package router

import (
	"container/list"
	"time"
)

// phase is how far a session has come.
type phase uint8

const (
	phaseFirst phase = iota // the client's first message is awaited
	phaseWait               // a server is awaited
	phaseDial               // the connection to its server is being made
	phaseSent               // the first message is with the server, which has not answered: another may still get it
	phaseRelay              // bytes pass both ways
	phaseGone
)

// talk is what the router understands of the bytes that pass.
type talk uint8

const (
	talkOpaque talk = iota // nothing: TLS, GSSAPI, or not followed any more
	talkAnswer             // the server's one-byte answer to SSLRequest or GSSENCRequest comes next
	talkNext               // the answer was no; the client's next opening message comes
	talkPlain              // messages
	talkTLS                // TLS's handshake, and the first that is said inside
)

// session is one client's connection with all that belongs to it. It is its loop's alone, but for place and seat, which
// the table changes too, only while the session waits.
type session struct {
	loop   *loop
	side   Side
	phase  phase
	talk   talk
	client end
	server end

	first   []byte // what the client sent before its server's first byte; nil after it
	opening opening
	frames  frames
	tls     tlsOpening
	key     cancelKey // under which its CancelRequests are known; "": none

	place *list.Element // among the waiting
	seat  seat          // at a server

	deadline  time.Time     // phaseFirst: for the first message; phaseWait, phaseDial: for a server
	attempt   time.Time     // phaseDial: for this one dial
	patience  time.Duration // what is left of HoldFor, counted in phaseWait and phaseDial only
	notBefore time.Time     // when it may ask again after a server closed it unanswered
	pause     time.Duration
	why       string // the server did not answer
	stay      *stay  // nil: nobody is to be told of it

	index   int // in loop.sessions
	pending int // in loop.pending; -1: not there
}

// end is one of a session's two sockets.
type end struct {
	fd       int32 // -1: none
	gen      int32 // tells it from an earlier socket of the same number in a batch of events; never 0
	s        *session
	peer     *end
	out      []byte // what the socket could not take yet; while there is any, nothing is read from the peer
	readable bool   // there may be something to read
	hup      bool   // the other side has closed: read on until that is seen
	again    bool   // in loop.again
}

// opened sets what is understood of the session after its first message, at first and whenever another server gets it.
func (s *session) opened() {
	s.frames, s.tls = frames{}, tlsOpening{}
	switch s.opening {
	case openTLS:
		s.talk = talkTLS
	case openStartup:
		s.talk = talkPlain
	case openSecure:
		s.talk = talkAnswer
	default:
		s.talk = talkOpaque
	}
}

// fromServer follows what the server says. It returns the key when that has just become known.
func (s *session) fromServer(p []byte) cancelKey {
	switch s.talk {
	case talkPlain:
		key := s.frames.feed(p)
		if s.frames.broken {
			s.talk = talkOpaque
		}
		return key
	case talkAnswer:
		if len(p) == 1 && p[0] == 'N' {
			s.talk = talkNext
			break
		}
		s.talk = talkOpaque
		if len(p) == 1 && p[0] == 'S' {
			s.talk = talkTLS
		}
	case talkNext:
		s.talk = talkOpaque
	}
	return ""
}

// fromClient follows what the client says; true: it is a CancelRequest, sent after its wish for TLS was turned down.
func (s *session) fromClient(p []byte) (cancel bool) {
	switch s.talk {
	case talkPlain:
		s.frames.ready = false
	case talkAnswer:
		s.talk = talkOpaque
	case talkNext:
		switch classify(p) {
		case openCancel:
			return true
		case openSecure:
			s.talk = talkAnswer
		case openStartup:
			s.talk = talkPlain
		default:
			s.talk = talkOpaque
		}
	}
	return false
}
