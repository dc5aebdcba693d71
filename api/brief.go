package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// deferAccept is how long the kernel keeps a connection to itself until the client has sent something: every client
	// speaks first. One that says nothing is accepted after that all the same.
	deferAccept = time.Second

	// briefRequest is how long a check's request may be, bytes; a longer one is not refused, only served in the other way.
	briefRequest = 4 << 10

	// briefAnswer is how long its answer may be: no more than what any new socket takes at once (tcp(7), tcp_wmem).
	briefAnswer = 4 << 10
)

// brief is a listener that itself serves the connections that balancers make for each check: those whose first bytes are
// one whole request for a check after which the client wants the connection closed. Its answer is in memory, so that there
// is nothing to wait for: four system calls, no goroutine, no timer. Every other connection is handed to the HTTP server
// with what was read of it.
//
// Accept is meant for one goroutine, as http.Server calls it.
type brief struct {
	file   *os.File // the listening socket
	addr   net.Addr
	raw    syscall.RawConn
	health *health

	in    [briefRequest]byte
	bytes bytes.Reader
	text  *bufio.Reader
	reply briefReply
}

// newBrief takes a listener over, whose accepted sockets then wait in the kernel for their first bytes.
func newBrief(l net.Listener, h *health) (*brief, error) {
	defer l.Close() // the duplicate below stays
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("serve on %s: not a listener of TCP", l.Addr())
	}
	f, err := tcp.File() // the runtime's poller waits for a file as well, and lets the caller accept
	if err != nil {
		return nil, fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(deferAccept.Seconds())) // it only saves time
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve on %s: %w", l.Addr(), err), f.Close())
	}
	return &brief{file: f, addr: l.Addr(), raw: raw, health: h, text: bufio.NewReader(nil), reply: briefReply{header: http.Header{}}}, nil
}

// Addr implements net.Listener.
func (b *brief) Addr() net.Addr { return b.addr }

// Close implements net.Listener.
func (b *brief) Close() error { return b.file.Close() }

// Accept returns the next connection that it can't serve itself.
func (b *brief) Accept() (net.Conn, error) {
	for {
		fd, err := b.accept()
		if err != nil {
			return nil, err
		}
		n, err := unix.Read(fd, b.in[:])
		switch {
		case err == unix.EAGAIN: // nothing came in time
			n = 0
		case err != nil || n == 0: // it is gone
			_ = unix.Close(fd)
			continue
		case b.serve(b.in[:n]):
			_, _ = unix.Write(fd, b.reply.text) // a client that went away: nobody is left to tell
			_ = unix.Close(fd)
			continue
		}
		if c, err := handOver(fd, b.in[:n]); err == nil {
			return c, nil
		}
	}
}

// accept waits for the next connection. Errors are such as http.Server knows from net.
func (b *brief) accept() (fd int, err error) {
	for {
		var errno error
		err := b.raw.Read(func(l uintptr) bool {
			fd, _, errno = unix.Accept4(int(l), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			return errno != unix.EAGAIN
		})
		switch {
		case err != nil:
			return -1, err
		case errno == nil:
			return fd, nil
		case errno != unix.ECONNABORTED && errno != unix.EINTR:
			return -1, &net.OpError{Op: "accept", Net: "tcp", Addr: b.addr, Err: os.NewSyscallError("accept4", errno)}
		}
	}
}

// serve makes the answer, if the bytes are one whole check and nothing else. What is unusual in any way is left to net/http,
// which knows what the standard wants then: a request with a body, with anything after it, without one Host, or with bytes
// that are not plain text.
func (b *brief) serve(p []byte) bool {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 || end+4 != len(p) || !plainText(p) {
		return false
	}
	b.bytes.Reset(p)
	b.text.Reset(&b.bytes)
	r, err := http.ReadRequest(b.text)
	if err != nil || !r.Close || r.ProtoMajor != 1 || !isReading(r.Method) || r.RequestURI[0] != '/' {
		return false
	}
	if _, ok := healthPaths[r.URL.Path]; !ok || r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return false
	}
	if r.Header["Expect"] != nil || r.Header["Upgrade"] != nil || r.ProtoMinor == 1 && !oneHost(p, r.Host) {
		return false
	}
	b.reply.begin()
	b.health.ServeHTTP(&b.reply, r)
	b.reply.end(r)
	return len(b.reply.text) <= briefAnswer
}

// plainText: printable ASCII, in lines that end with CR and LF.
func plainText(p []byte) bool {
	for i, c := range p {
		switch {
		case c == '\n' && i > 0 && p[i-1] == '\r':
		case c == '\r' && i+1 < len(p) && p[i+1] == '\n':
		case c < ' ' || c > '~':
			return false
		}
	}
	return true
}

// oneHost reports whether there is exactly one field named Host (RFC 9112, section 3.2), and nothing odd in it.
func oneHost(p []byte, host string) bool {
	return bytes.Count(bytes.ToLower(p), []byte("\nhost:")) == 1 && !strings.ContainsFunc(host, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune(".:-_[]", c)
	})
}

// briefReply is an http.ResponseWriter for one answer after which the connection is closed.
type briefReply struct {
	header http.Header
	code   int
	body   []byte
	text   []byte // the whole of it, after end
}

func (w *briefReply) begin() {
	clear(w.header)
	w.code, w.body = http.StatusOK, w.body[:0]
}

// Header implements http.ResponseWriter.
func (w *briefReply) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *briefReply) WriteHeader(code int) { w.code = code }

// Write implements http.ResponseWriter.
func (w *briefReply) Write(p []byte) (int, error) {
	w.body = append(w.body, p...)
	return len(p), nil
}

// end puts the answer together as net/http does.
func (w *briefReply) end(r *http.Request) {
	t := append(w.text[:0], "HTTP/1."...)
	t = append(t, byte('0'+r.ProtoMinor), ' ')
	t = strconv.AppendInt(t, int64(w.code), 10)
	t = append(append(append(t, ' '), http.StatusText(w.code)...), "\r\n"...)
	for name, values := range w.header {
		t = append(append(append(append(t, name...), ": "...), values[0]...), "\r\n"...)
	}
	t = time.Now().UTC().AppendFormat(append(t, "Date: "...), http.TimeFormat)
	if r.ProtoMinor == 1 { // in HTTP/1.0 that is what happens if nothing is said
		t = append(t, "\r\nConnection: close"...)
	}
	t = append(t, "\r\n\r\n"...)
	w.text = append(t, w.body...)
}

// handOver makes an ordinary connection of the socket, which begins with what was read from it.
func handOver(fd int, read []byte) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	c, err := net.FileConn(f) // of a duplicate
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return &begun{Conn: c, read: bytes.Clone(read)}, nil
}

// begun is a connection from which something has been read already.
type begun struct {
	net.Conn
	read []byte
}

// Read implements net.Conn.
func (c *begun) Read(p []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.read)
	c.read = c.read[n:]
	return n, nil
}
