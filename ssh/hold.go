package ssh

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"
)

// Beat is how often a script that is held gets an empty line, by which it knows that we are there: a host whose cable was pulled learns of it in
// no other way, as long as it has nothing to say.
const Beat = 3 * time.Second

// Hold starts a script as root that is to run on, gives it a first line and returns the first line that it answers. From then on it gets
// an empty line every Beat. release closes its standard input and waits for its end.
func (c *Client) Hold(ctx context.Context, script, line string) (answer []byte, release func() error, err error) {
	s, err := c.session()
	if err != nil {
		return nil, nil, err
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
	quiet := make(chan struct{})
	var beats sync.WaitGroup
	release = func() error {
		defer stop()
		defer s.Close()
		close(quiet)
		beats.Wait()
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
	beats.Go(func() { beat(p.stdin, quiet) })
	return answer, release, nil
}

// beat writes until it is told to stop, or nobody is there any more.
func beat(to io.Writer, quiet <-chan struct{}) {
	tick := time.NewTicker(Beat)
	defer tick.Stop()
	for {
		select {
		case <-quiet:
			return
		case <-tick.C:
			if _, err := io.WriteString(to, "\n"); err != nil {
				return
			}
		}
	}
}
