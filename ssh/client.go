package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// dialTime bounds connection and handshake; a host that is there answers within a second.
const dialTime = 15 * time.Second

// Target is a host and how to log in there.
type Target struct {
	User    string // "": who runs this program
	Address string // host:port
}

// Client is a connection to one host. It may be used by many goroutines.
type Client struct {
	conn   *ssh.Client
	target Target
	close  func() error
}

// Dial connects and logs in. The errors say what an administrator has to do.
func Dial(ctx context.Context, t Target, k Keys) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := dial(ctx, t, k)
	if err != nil {
		return nil, fmt.Errorf("ssh to %s@%s: %w", t.user(), t.Address, explain(t, err))
	}
	return c, nil
}

func dial(ctx context.Context, t Target, k Keys) (*Client, error) {
	known, err := k.hosts()
	if err != nil {
		return nil, err
	}
	methods, done, err := k.methods(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := dialer().DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return nil, errors.Join(err, done())
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // the handshake knows no context
	c, channels, requests, err := ssh.NewClientConn(conn, t.Address, &ssh.ClientConfig{
		User: t.user(), Auth: methods, HostKeyCallback: known.check, HostKeyAlgorithms: known.algorithms(t.Address),
	})
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, errors.Join(err, done())
	}
	return &Client{conn: ssh.NewClient(c, channels, requests), target: t, close: done}, nil
}

// lostTime is how long a host may be silent, whether we have sent it something or not. The kernel's own patience is two hours, or a
// quarter of one.
const lostTime = 20 * time.Second

// dialer makes connections that end when the host is silent for lostTime (tcp(7), TCP_USER_TIMEOUT, which rules over the keep-alives'
// count too).
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: lostTime / 4, Interval: lostTime / 4, Count: 4},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			cerr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(lostTime.Milliseconds()))
			})
			return errors.Join(cerr, err)
		},
	}
}

func explain(t Target, err error) error {
	host, _, splitErr := net.SplitHostPort(t.Address)
	if splitErr != nil {
		return err
	}
	switch {
	case strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("none of the keys that were tried may log in (%w); put one there: ssh-copy-id %s@%s", err, t.user(), host)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s; see whether the host is up and sshd can be reached", dialTime)
	}
	return err
}

// Close ends the connection and all that runs on it.
func (c *Client) Close() error {
	err := errors.Join(c.conn.Close(), c.close())
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ExitError is the end of a script that failed.
type ExitError struct {
	Status int    // what it exited with
	Stderr string // the end of what it said
}

// errLost is the end of a connection while a script runs. Whether that has ended there is not known.
var errLost = errors.New("the connection was lost; see whether the host is up and can be reached")

// Error is what the script said last, or its status where it said nothing.
func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Stderr
}

// Run carries out a script of /bin/sh as root and returns what it writes to standard output. With -e and -u a command that fails, or a
// variable that is not set, ends it. When ctx ends, the connection's channel is closed, and the script gets no more input.
func (c *Client) Run(ctx context.Context, script string, stdin io.Reader) ([]byte, error) {
	p, err := c.start(script)
	if err != nil {
		return nil, err
	}
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(p.stdin, stdin) // ends when the channel closes, or the input does
		copied <- errors.Join(err, p.stdin.Close())
	}()
	stop := context.AfterFunc(ctx, func() { p.session.Close() })
	err = p.wait()
	stop()
	p.session.Close()
	if sent := <-copied; err == nil && sent != nil && !errors.Is(sent, io.EOF) {
		err = sent
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return p.out.Bytes(), err
}

// process is a script that runs.
type process struct {
	session  *ssh.Session
	stdin    io.WriteCloser
	out, err bytes.Buffer
}

// session opens one. A host may refuse it (sshd_config(5), MaxSessions); everything else is the end of the connection.
func (c *Client) session() (*ssh.Session, error) {
	s, err := c.conn.NewSession()
	var refused *ssh.OpenChannelError
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, &refused):
		return nil, fmt.Errorf("open a session: %w", err)
	}
	return nil, fmt.Errorf("open a session: %w (%w)", errLost, err)
}

func (c *Client) start(script string) (*process, error) {
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	p := &process{session: s}
	s.Stdout, s.Stderr = &p.out, &p.err
	if p.stdin, err = s.StdinPipe(); err == nil {
		err = s.Start(c.asRoot(script))
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return p, nil
}

func (p *process) wait() error {
	err := p.session.Wait()
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		said := strings.TrimSpace(p.err.String())
		return &ExitError{exit.ExitStatus(), said[max(0, len(said)-1000):]}
	}
	var missing *ssh.ExitMissingError
	if errors.As(err, &missing) {
		return errLost
	}
	return err
}

// asRoot is the command line that a script is handed over in. sudo -n never asks for a password.
func (c *Client) asRoot(script string) string {
	command := "/bin/sh -euc " + quote("export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"+script)
	if c.target.user() == "root" {
		return command
	}
	return "sudo -n -- " + command
}

// quote makes one word of the shell's (POSIX 2.2.2).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
