package router

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxAsides = 1024             // connections served beside the loops; more are closed unanswered
	asideFor  = 10 * time.Second // for a handshake and an error, or a CancelRequest
)

// serveAside lets f serve the connection in a goroutine of its own, within asideFor and until the router stops. The
// connection reads first what was read of it before. It counts as open until f has returned.
//
// False: there were too many, or no file for it, or the router stops, and f does not run.
func (r *Router) serveAside(fd int32, first []byte, f func(duplex)) bool {
	over := func() { r.asides.Add(-1); r.open.Add(-1) }
	if r.asides.Add(1) > maxAsides {
		unix.Close(int(fd))
		over()
		return false
	}
	conn, err := connOf(fd)
	if err != nil {
		r.cfg.Log.Error("router: take over a connection", "err", err)
		over()
		return false
	}
	if !r.beside(func() {
		defer over()
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(asideFor)) // fails only on a closed one
		defer context.AfterFunc(r.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
		f(&reread{conn, io.MultiReader(bytes.NewReader(first), conn)})
	}) {
		conn.Close()
		over()
		return false
	}
	return true
}

// connOf makes the socket a net.Conn; the socket itself is closed in any case.
func connOf(fd int32) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil // it came from a TCP listener
}

// duplex is a connection of which one direction can be closed: TCP's, or TLS's.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// reread is a connection some of which was read before.
type reread struct {
	duplex
	from io.Reader
}

func (c *reread) Read(p []byte) (int, error) { return c.from.Read(p) }
