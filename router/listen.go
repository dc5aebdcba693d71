package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Side is one of the two kinds of listener.
type Side uint8

// The sides.
const (
	WriteSide Side = iota // sessions go to the primary
	ReadSide              // sessions go to the standbys, to the primary when there is none
	sides
)

// String gives "write" or "read".
func (s Side) String() string {
	if s == ReadSide {
		return "read"
	}
	return "write"
}

// listener is a listening socket that all loops share.
type listener struct {
	fd   int32
	side Side
	addr net.Addr
}

// deferAccept is how long the kernel keeps a connection to itself until the client has sent its first message: every
// client of PostgreSQL speaks first. One that says nothing is accepted after that all the same.
const deferAccept = 2 * time.Second

// listen binds one address. A floating address need not be on this host yet.
func listen(addr string, side Side) (*listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = listenerOptions(int(fd)) }); e != nil {
			return e
		}
		return err
	}}
	lc.SetMultipathTCP(false) // its sockets don't inherit the listener's options
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, listenError(addr, side, err)
	}
	defer ln.Close() // the duplicate below stays; the runtime's poller must not watch it too
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, listenError(addr, side, err)
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(p uintptr) { fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, listenError(addr, side, err)
	}
	if dupErr != nil {
		return nil, listenError(addr, side, dupErr)
	}
	return &listener{fd: int32(fd), side: side, addr: ln.Addr()}, nil
}

func listenerOptions(fd int) error {
	if err := keepAlive(fd); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(deferAccept.Seconds()))
}

func listenError(addr string, side Side, err error) error {
	err = fmt.Errorf("router: listen for the %s side: %w", side, err)
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	return fmt.Errorf("%w: port %s is taken; `ss -ltnp 'sport = :%s'` shows by which program: stop it, or choose another port for the %s side", err, port, port, side)
}

// here reports whether this host holds the address: one that it does not may be a floating one, or a slip of the pen.
func here(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp.IP.IsUnspecified() || tcp.IP.IsLoopback() {
		return true
	}
	have, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(have, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(tcp.IP)
	})
}
