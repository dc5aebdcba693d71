// Package etcd implements store.Store on etcd's v3 API (tested with etcd 3.4 and 3.7).
//
// Its concern is what a client of several endpoints does while some of them are frozen, dead or cut off:
//
//   - Each endpoint has a client of its own, so that a request goes where we say. clientv3 alone would deal requests out in
//     turn, and every third one would hang on a frozen remote member although the local one works.
//   - The first endpoint (the local one) is preferred. When it has not answered within 150 ms, the request goes to the
//     next one as well, if repeating it is safe; the first answer counts.
//   - A request that may not be repeated is given up, its outcome unknown, once its endpoint does not even answer a
//     serializable read while another endpoint is well.
//   - A watch runs on all endpoints at once and is merged by revision. An event arrives by the fastest way, and the loss
//     of an endpoint costs a watch nothing at all, not even the time to notice it.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/grpclog"

	"standfast/store"
)

// gRPC prints connection errors to stderr by itself; callers get them as errors.
func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) }

var errClosed = errors.New("store closed")

// Config says where etcd is.
type Config struct {
	// Endpoints in the order of preference, "host:port" or with a scheme: the local one first.
	Endpoints []string

	// TLS is used for endpoints without a scheme and with https; nil: plain text.
	TLS *tls.Config
}

// Store is a client of an etcd cluster. It is safe for concurrent use.
type Store struct {
	endpoints []*endpoint
	ctx       context.Context
	cancel    context.CancelCauseFunc
	wg        sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	clusterID uint64        // of the newest answer; 0: none yet
	revision  int64         // the highest that it answered with
	renewed   chan struct{} // closed and replaced when etcd is another one than before: revisions begin anew, watches must too
}

var _ store.Store = (*Store)(nil)

// Open prepares a client. It does not connect: an etcd that is not there yet is no error.
func Open(c Config) (*Store, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("open etcd: no endpoints given")
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &Store{ctx: ctx, cancel: cancel, renewed: make(chan struct{})}
	for _, url := range c.Endpoints {
		client, err := Dial(c.TLS, url)
		if err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("open etcd at %s: %w", url, err)
		}
		s.endpoints = append(s.endpoints, &endpoint{url: url, client: client})
	}
	return s, nil
}

// Dial makes a quiet client of the given endpoints that neither retries by itself nor waits long before it connects again.
func Dial(t *tls.Config, endpoints ...string) (*clientv3.Client, error) {
	full := make([]string, len(endpoints))
	for i, e := range endpoints {
		full[i] = withScheme(e, t != nil)
	}
	return clientv3.New(clientv3.Config{
		Endpoints: full,
		TLS:       t,
		Logger:    zap.NewNop(),
		// gRPC allows no shorter interval than 10 s. It only finds connections whose host is gone; nothing waits for it.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
		MaxUnaryRetries:      1,
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(failFast),
			grpc.WithConnectParams(grpc.ConnectParams{
				// The default doubles up to two minutes, which a host that comes back would have to wait.
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: time.Second,
			}),
		},
	})
}

// failFast makes a request that can't be sent return with the reason. clientv3 would have it wait for a connection, as it
// assumes that there is another endpoint behind it.
func failFast(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

func withScheme(endpoint string, secure bool) string {
	switch {
	case strings.Contains(endpoint, "://"):
		return endpoint
	case secure:
		return "https://" + endpoint
	default:
		return "http://" + endpoint
	}
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel(errClosed)
	s.wg.Wait()
	var errs error
	for _, e := range s.endpoints {
		if err := e.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = errors.Join(errs, fmt.Errorf("close etcd client of %s: %w", e.url, err))
		}
	}
	return errs
}

// spawn runs f in a goroutine that Close waits for, and reports false once the store is closed.
func (s *Store) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}
