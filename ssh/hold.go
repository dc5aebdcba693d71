package ssh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Hold starts a script as root that is to run on, gives it a first line and returns the first line that it answers. release closes
// its standard input and waits for its end.
func (c *Client) Hold(ctx context.Context, script, line string) (answer []byte, release func() error, err error) {
	s, err := c.conn.NewSession()
	if err != nil {
		return nil, nil, fmt.Errorf("open a session: %w", err)
	}
	p := &process{session: s}
	s.Stderr = &p.err
	out, err := s.StdoutPipe()
	if err == nil {
		p.stdin, err = s.StdinPipe()
	}
	if err == nil {
		err = s.Start(c.asRoot(script))
	}
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	release = func() error {
		defer stop()
		defer s.Close()
		if err := p.stdin.Close(); err != nil && !errors.Is(err, io.EOF) { // EOF: it has ended already
			return err
		}
		return p.wait()
	}
	if _, err = io.WriteString(p.stdin, strings.TrimRight(line, "\n")+"\n"); err == nil {
		answer, err = bufio.NewReader(out).ReadBytes('\n')
	}
	if err != nil {
		if ended := release(); ended != nil {
			err = ended
		}
		return nil, nil, err
	}
	return answer, release, nil
}
