package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sslRequest asks a PostgreSQL port for TLS ("Message Formats", SSLRequest). Every server answers one byte, S or N,
// whatever its state, before it looks at anything else.
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// upstream is a connection to a primary: what is read and written, and the socket below it.
type upstream struct {
	net.Conn
	raw *net.TCPConn
}

// reset closes the socket so that the peer gets an RST and what was not yet sent is discarded. SO_LINGER does that on
// close(2), but only when no other descriptor refers to the socket, and one does for an instant in a child between fork
// and exec; connect(2) with AF_UNSPEC does it to the socket itself.
func (u *upstream) reset() {
	u.raw.SetLinger(0)
	if rc, err := u.raw.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) {
			none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
			unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
		})
	}
	u.raw.Close() // not u.Close: TLS would first send its farewell
}

// dial connects to t, up to the point where the StartupMessage is due. It gives up when ctx or the target ends.
func (r *Relay) dial(ctx context.Context, t *target) (*upstream, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	raw, err := dialTCP(ctx, t.addr)
	if err != nil {
		return nil, err
	}
	u := &upstream{raw, raw}
	if r.cfg.TLS != nil {
		u.Conn, err = secure(ctx, raw, t.addr, r.cfg.TLS())
	}
	if err != nil {
		u.reset()
		return nil, fmt.Errorf("connect to %s: %w", t.addr, err)
	}
	r.stamp(&r.heard)
	return u, nil
}

// dialTCP sets the kernel to give a dead peer up within seconds. That is housekeeping: what a failover waits for is
// silence as seen by the beats and HeardAt.
func dialTCP(ctx context.Context, addr string) (*net.TCPConn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 5}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tc := c.(*net.TCPConn)
	if rc, err := tc.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 6000)
		})
	}
	return tc, nil
}

// secure turns TLS on, and fails if the server has none.
func secure(ctx context.Context, raw *net.TCPConn, addr string, cfg *tls.Config) (net.Conn, error) {
	answer, err := requestTLS(ctx, raw)
	if err != nil {
		return nil, err
	}
	if answer != 'S' {
		return nil, errors.New("the server does not offer TLS: set ssl = on there")
	}
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	c := tls.Client(raw, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

// requestTLS sends an SSLRequest and returns the answer, S or N. It reads that one byte only: anything that came in the
// same packet is left for the TLS handshake to choke on, since nobody has authenticated it.
func requestTLS(ctx context.Context, raw *net.TCPConn) (byte, error) {
	var answer [1]byte
	err := interruptible(ctx, raw, func() error {
		if _, err := raw.Write(sslRequest); err != nil {
			return err
		}
		_, err := io.ReadFull(raw, answer[:])
		return err
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("SSLRequest: %w", err)
	case answer[0] != 'S' && answer[0] != 'N':
		return 0, fmt.Errorf("SSLRequest was answered %q: not a PostgreSQL that accepts connections", answer[0])
	}
	return answer[0], nil
}

// interruptible runs f, whose reads and writes on c fail once ctx ends.
func interruptible(ctx context.Context, c net.Conn, f func() error) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	err := f()
	if !stop() {
		<-done
		return context.Cause(ctx)
	}
	return err
}

// Probe asks the PostgreSQL at addr for an answer to an SSLRequest, no login, and returns nil if it came before ctx
// ended: the server lives, whatever its agent does. A server with TLS writes a line to its log for each, so it is for
// cases of doubt.
func Probe(ctx context.Context, addr string) error {
	raw, err := dialTCP(ctx, addr)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer raw.Close()
	if _, err := requestTLS(ctx, raw); err != nil {
		return fmt.Errorf("probe %s: %w", addr, err)
	}
	return nil
}
