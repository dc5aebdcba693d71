package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// probeSize is what a probe writes: one page of WAL.
const probeSize = 8 << 10

// probe is the one write that may be outstanding. A write that hangs in the kernel can't be called back, and a second
// one would hang as well.
type probe struct {
	mu    sync.Mutex
	done  chan struct{} // closed when the outstanding write has ended; nil: none
	err   error
	since time.Time
}

// WriteProbe writes and syncs a few bytes of our own where PostgreSQL's WAL lies: a disk that is full, broken or stuck
// stops commits although every process is well. The file is made anew each time and removed again, for one that stayed
// would hide a full disk with the space that it holds.
//
// It never blocks past ctx: the write has a goroutine of its own, which ends when the kernel lets it. While one hangs,
// the next probes wait for the same.
func (s *Server) WriteProbe(ctx context.Context) error {
	p := &s.probe
	p.mu.Lock()
	if p.done == nil {
		p.done, p.since = make(chan struct{}), time.Now()
		go p.write(s.config(), p.done)
	}
	done, since := p.done, p.since
	p.mu.Unlock()
	select {
	case <-done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("write beside the WAL: no answer from the disk for %s: %w", time.Since(since).Round(time.Millisecond), context.Cause(ctx))
	}
}

func (p *probe) write(c Config, done chan struct{}) {
	err := c.writeProbe()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.done = err, nil
	close(done)
}

func (c Config) writeProbe() error {
	path := filepath.Join(c.walDir(), "standfast.probe")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write beside the WAL: %w", err)
	}
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = datasync(f)
	}
	if err = errors.Join(err, f.Close(), os.Remove(path)); err != nil {
		return fmt.Errorf("write beside the WAL: %w", err)
	}
	return nil
}
