package etcd

import (
	"context"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

const (
	// hedge is how long an endpoint may take before another one is asked as well. An fsync of a busy disk fits in.
	hedge = 150 * time.Millisecond

	// aliveWithin bounds the question whether a process answers at all: hedge + aliveWithin < 300 ms.
	aliveWithin = 120 * time.Millisecond

	// reprobe is the pause between two looks at an endpoint that is out of order.
	reprobe = 300 * time.Millisecond
)

// probeKey is read by probes. Whether it exists does not matter.
const probeKey = "/standfast"

// endpoint is one member of etcd, with what is known of its health.
type endpoint struct {
	url    string
	client *clientv3.Client

	mu      sync.Mutex
	bad     bool // it did not answer in time
	probing bool // a goroutine asks it until it answers again; so, while bad is set
}

// order lists the endpoints to be tried, best first. Sorting is stable: among equals the order of the configuration
// holds, hence the local endpoint comes first while it works.
func (s *Store) order() []*endpoint {
	eps := slices.Clone(s.endpoints)
	slices.SortStableFunc(eps, func(a, b *endpoint) int { return a.rank() - b.rank() })
	return eps
}

// Prefers returns the endpoint that the next request goes to first, for status and logs.
func (s *Store) Prefers() string { return s.order()[0].url }

// rank is 0 for an endpoint that can be used at once, 1 for one that may have to be connected to, 2 for one that has not
// answered, and 3 for one that can't be connected to.
func (e *endpoint) rank() int {
	state := e.client.ActiveConnection().GetState()
	switch {
	case state == connectivity.TransientFailure:
		return 3
	case e.isBad():
		return 2
	case state == connectivity.Ready:
		return 0
	default:
		return 1
	}
}

// suspect finds out whether the endpoint still serves linearizable reads, and if not, keeps asking until it does again.
// With verdict set it comes last until it has proved that it does.
func (s *Store) suspect(e *endpoint, verdict bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.probing {
		e.probing = s.spawn(func() { s.probeUntilWell(e) })
	}
	e.bad = (e.bad || verdict) && e.probing
}

func (s *Store) probeUntilWell(e *endpoint) {
	for {
		started := time.Now()
		err := e.probe(s.ctx, hedge+aliveWithin)
		e.mu.Lock()
		e.bad = err != nil
		e.probing = e.bad && s.ctx.Err() == nil
		probing := e.probing
		e.mu.Unlock()
		if !probing {
			return
		}
		pause(s.ctx, reprobe-time.Since(started))
	}
}

func (e *endpoint) isBad() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bad
}

// probe makes a linearizable read, or with clientv3.WithSerializable() one that the process answers alone, without a
// majority and without the disk.
func (e *endpoint) probe(ctx context.Context, within time.Duration, opts ...clientv3.OpOption) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := e.client.Get(ctx, probeKey, append(opts, clientv3.WithKeysOnly())...)
	return err
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
