package embed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"standfast/internal/slack"
)

// closeTimeout is how long etcd may take to stop in order. Its log is synced with every entry, so nothing is lost by leaving.
const closeTimeout = 2 * time.Second

// farewell is for telling clients that the connection ends, when all else is done.
const farewell = 100 * time.Millisecond

// timerSlack is how late etcd's timers may be. The shortest that counts is Tick.
const timerSlack = 2 * time.Millisecond

var errParentGone = errors.New("the process that started this one is gone")

// Main is the body of the etcd process: it runs the member that the file at path describes until ctx ends or, because the
// starter holds the other end of it, until in ends. A pipe rather than PR_SET_PDEATHSIG: that signal comes when the *thread*
// that started the process ends, which in a Go program may be any time.
func Main(ctx context.Context, path string, in io.Reader) error {
	c, err := Load(path)
	if err != nil {
		return err
	}
	_ = slack.Set(timerSlack) // without it only more processor time is used
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with the process: a read of a pipe can't be cancelled
		_, _ = io.Copy(io.Discard, in)
		cancel(errParentGone)
	}()
	return Run(ctx, c)
}

// Run runs the member until ctx ends (then nil) or it fails.
func Run(ctx context.Context, c Config) error {
	config, err := c.etcd()
	if err != nil {
		return err
	}
	for _, dir := range []string{c.DataDir, filepath.Dir(c.Log)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("run etcd: %w", err)
		}
	}
	bounding, stop := context.WithCancel(ctx)
	var bound sync.WaitGroup
	bound.Go(func() { endSilent(bounding) })
	defer bound.Wait()
	defer stop()
	e, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("run etcd in %s: %w", c.DataDir, err)
	}
	select {
	case <-ctx.Done():
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("it stopped by itself (removed from its cluster?)")
	}
	if cerr := closeWithin(e, closeTimeout); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("run etcd in %s: %w", c.DataDir, err)
	}
	return nil
}

// closeWithin hands etcd's leadership over, if it is held here, and stops in order. etcd's own Close does it the other way
// round: first it waits for clients to end their requests, for a second where one watches and 7.5 s at most, and the cluster
// has a leader that is going. Once the server has stopped there is nothing to wait for, and what is left open goes with the
// process.
func closeWithin(e *embed.Etcd, d time.Duration) error {
	stopped, closed := make(chan struct{}), make(chan struct{})
	go func() {
		e.Server.Stop()
		close(stopped)
		e.Close()
		close(closed)
	}()
	select {
	case <-stopped:
	case <-time.After(d):
		return fmt.Errorf("not stopped within %s", d)
	}
	select {
	case <-closed:
	case <-time.After(farewell):
	}
	return nil
}
