package router

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// fakeServer speaks as much of the protocol as a router can notice.
type fakeServer struct {
	name   string
	t      *testing.T
	ln     net.Listener
	cert   *tls.Certificate
	secret uint32

	mu      sync.Mutex
	conns   map[net.Conn]bool
	cancels []uint32 // secrets of the CancelRequests that came
	mute    bool     // take connections and say nothing
	rude    int      // close this many connections unanswered
	busy    int      // tell this many sessions that it is starting up
	wg      sync.WaitGroup
}

func newFake(t *testing.T, name string) *fakeServer {
	t.Helper()
	s := &fakeServer{name: name, t: t, conns: map[net.Conn]bool{}, secret: uint32(len(name))<<8 + uint32(name[len(name)-1])}
	s.listen("127.0.0.1:0")
	t.Cleanup(s.die)
	return s
}

func (s *fakeServer) addr() string { return s.ln.Addr().String() }

func (s *fakeServer) listen(addr string) {
	s.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ln = ln
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.wg.Go(func() {
				s.serve(c)
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			})
		}
	})
}

// die refuses connections from now on and resets those there are.
func (s *fakeServer) die() {
	s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *fakeServer) revive() { s.listen(s.addr()) }

func (s *fakeServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *fakeServer) sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *fakeServer) serve(c net.Conn) {
	s.mu.Lock()
	mute, rude, cert := s.mute, s.rude > 0, s.cert
	if rude {
		s.rude--
	}
	s.mu.Unlock()
	if mute {
		io.Copy(io.Discard, c)
		return
	}
	for {
		kind, p, err := readOpening(c)
		if err != nil || rude {
			return
		}
		switch {
		case kind == openCancel:
			s.set(func() { s.cancels = append(s.cancels, binary.BigEndian.Uint32(p[12:])) })
			return
		case kind == openSecure && cert != nil && binary.BigEndian.Uint32(p[4:]) == codeSSL:
			c.Write([]byte{'S'})
			t := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
			if t.Handshake() != nil {
				return
			}
			c = t
		case kind == openSecure:
			c.Write([]byte{'N'})
		case kind == openStartup:
			s.session(c)
			return
		default:
			return
		}
	}
}

// session answers each query: "big N" with N megabytes, "hang" not at all, anything else with its own text.
func (s *fakeServer) session(c net.Conn) {
	be := pgproto3.NewBackend(c, c)
	s.mu.Lock()
	busy := s.busy > 0
	s.busy--
	s.mu.Unlock()
	if busy {
		c.Write(refusal{cannotConnectNow, "the database system is starting up"}.encode())
		return
	}
	be.Send(&pgproto3.AuthenticationOk{})
	be.Send(&pgproto3.ParameterStatus{Name: "server", Value: s.name})
	be.Send(&pgproto3.BackendKeyData{ProcessID: 42, SecretKey: binary.BigEndian.AppendUint32(nil, s.secret)})
	be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if be.Flush() != nil {
		return
	}
	for {
		m, err := be.Receive()
		if err != nil {
			return
		}
		q, ok := m.(*pgproto3.Query)
		if !ok {
			return // Terminate
		}
		switch q.String {
		case "hang":
			continue
		case "big":
			row := bytes.Repeat([]byte("x"), 1<<20)
			for range bigRows {
				be.Send(&pgproto3.DataRow{Values: [][]byte{row}})
				if be.Flush() != nil {
					return
				}
			}
		default:
			be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(q.String)}})
		}
		be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if be.Flush() != nil {
			return
		}
	}
}

const bigRows = 32
