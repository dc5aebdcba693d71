package playground

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// floating is the address that follows the primary. Connections that come while nobody holds it wait, as packets to an
// address that nobody has are sent again until somebody does.
type floating struct {
	listeners []net.Listener
	ports     []int
	log       *slog.Logger

	mu      sync.Mutex
	holder  string        // address of the member that holds it; "": nobody
	changed chan struct{} // closed at the next change of holder
	pairs   map[*pair]bool
	closed  bool
	wait    sync.WaitGroup
}

// pair is one client's connection and its other half.
type pair struct {
	client, server *net.TCPConn
	holder         string
}

// patience is how long a connection waits for somebody to hold the address: as long as a router lets one wait for a primary.
const patience = 10 * time.Second

func newFloating(address string, ports []int, log *slog.Logger) (*floating, error) {
	f := &floating{ports: ports, log: log, changed: make(chan struct{}), pairs: map[*pair]bool{}}
	for _, p := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(p)))
		if err != nil {
			f.close()
			return nil, fmt.Errorf("open the floating address: %w", err)
		}
		f.listeners = append(f.listeners, l)
	}
	for i, l := range f.listeners {
		f.wait.Go(func() { f.accept(l, ports[i]) })
	}
	return f, nil
}

// move gives the address to another holder ("" to nobody) and resets every connection that led to one before.
func (f *floating) move(holder string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if holder == f.holder {
		return
	}
	f.holder = holder
	close(f.changed)
	f.changed = make(chan struct{})
	for p := range f.pairs {
		if holder != "" && p.holder != holder {
			p.reset()
		}
	}
}

// held waits until somebody holds the address.
func (f *floating) held(ctx context.Context) (string, error) {
	for {
		f.mu.Lock()
		holder, changed, closed := f.holder, f.changed, f.closed
		f.mu.Unlock()
		switch {
		case closed:
			return "", net.ErrClosed
		case holder != "":
			return holder, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-changed:
		}
	}
}

func (f *floating) accept(l net.Listener, port int) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, most likely: the next one may be luckier
			f.log.Warn("accept at the floating address", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		f.wait.Go(func() { f.carry(c.(*net.TCPConn), port) })
	}
}

// carry connects the client with the holder and copies both ways until either side ends or the address moves.
func (f *floating) carry(client *net.TCPConn, port int) {
	p := &pair{client: client}
	if !f.connect(p, port) {
		p.reset()
		return
	}
	defer p.close()
	defer f.forget(p)
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{p.client, p.server}, {p.server, p.client}} {
		both.Go(func() {
			if _, err := io.Copy(way[1], way[0]); err != nil {
				p.reset() // one side was reset: so must be the other
				return
			}
			_ = way[1].CloseWrite() // an end is passed on as an end
		})
	}
	both.Wait()
}

// connect dials the holder, and again if the address moves meanwhile: a frozen holder accepts nothing.
func (f *floating) connect(p *pair, port int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		holder, err := f.held(ctx)
		if err != nil {
			return false
		}
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(holder, strconv.Itoa(port)))
		if err == nil {
			p.server, p.holder = c.(*net.TCPConn), holder
			if f.remember(p) {
				return true
			}
			_ = c.Close() // it moved while we dialled
			continue
		}
		if !f.movesFrom(ctx, holder) {
			return false
		}
	}
	return false
}

// redial is how often a holder that refuses connections is tried again: its router comes back with its agent.
const redial = 20 * time.Millisecond

// movesFrom waits a moment for the address to leave a holder that refuses connections, or for that one to be tried again.
func (f *floating) movesFrom(ctx context.Context, holder string) bool {
	f.mu.Lock()
	now, changed := f.holder, f.changed
	f.mu.Unlock()
	if now != holder {
		return true
	}
	select {
	case <-changed:
		return true
	case <-time.After(redial):
		return true
	case <-ctx.Done():
		return false
	}
}

// remember registers a pair for being reset, if the address has not moved since it was dialled.
func (f *floating) remember(p *pair) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.holder != "" && f.holder != p.holder {
		return false
	}
	f.pairs[p] = true
	return true
}

func (f *floating) forget(p *pair) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pairs, p)
}

// reset ends both halves with RST.
func (p *pair) reset() {
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if c != nil {
			_ = c.SetLinger(0) // closed already is as good
			_ = c.Close()
		}
	}
}

// close ends both halves without losing what is still on its way.
func (p *pair) close() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// close stops listening, resets everything and waits.
func (f *floating) close() {
	f.mu.Lock()
	f.closed = true
	close(f.changed)
	f.changed = make(chan struct{})
	for p := range f.pairs {
		p.reset()
	}
	f.mu.Unlock()
	for _, l := range f.listeners {
		_ = l.Close()
	}
	f.wait.Wait()
}
