package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errUnsure: a repeated comparison failed, perhaps because an earlier attempt of ours had succeeded.
var errUnsure = errors.New("outcome unknown: the request was repeated, and an earlier attempt may have succeeded")

// errSilent: the endpoint took a request that can't be repeated and then fell silent.
var errSilent = errors.New("outcome unknown: the endpoint took the request and stopped answering")

// operation is one request, to be made of one endpoint.
type operation[T any] func(context.Context, *clientv3.Client) (T, error)

type answer[T any] struct {
	from  *endpoint
	value T
	err   error
}

// repeat runs op until there is an answer, at several endpoints at once if need be: only for what does no harm when it
// happens twice. doubtful says of an answer that it can't be believed if another attempt has been made; such an answer waits
// a moment for the attempts still under way.
func repeat[T any](ctx context.Context, s *Store, op operation[T], doubtful func(T) bool) (T, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	r := round[T]{store: s, op: op, answers: make(chan answer[T]), late: map[*endpoint]int{}}
	var none T
	var doubt bool
	var last error
	r.launch(ctx)
	tick := time.NewTimer(hedge)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return none, ended(ctx, last)
		case a := <-r.answers:
			r.pending--
			asked := r.late[a.from]
			delete(r.late, a.from)
			switch {
			case a.err == nil && doubtful(a.value) && r.sent > 1:
				doubt = true
				tick.Reset(hedge)
			case a.err == nil:
				r.blame(asked)
				return a.value, nil
			case final(a.err):
				return none, fmt.Errorf("etcd at %s: %w", a.from.url, a.err)
			default:
				last = fmt.Errorf("etcd at %s: %w", a.from.url, a.err)
				s.suspect(a.from, false)
				tick.Reset(after(len(r.next) > 0))
			}
			if doubt && r.pending == 0 {
				return none, errUnsure
			}
		case <-tick.C:
			if doubt {
				return none, errUnsure
			}
			r.launch(ctx)
			tick.Reset(2 * hedge)
		}
	}
}

// round is the attempts of one call.
type round[T any] struct {
	store   *Store
	op      operation[T]
	answers chan answer[T]
	next    []*endpoint       // still to be tried, best first
	late    map[*endpoint]int // asked, and no answer yet: by which attempt
	sent    int
	pending int // attempts that have not answered
}

// launch makes one more attempt. Whoever was asked before is late by then and looked into.
func (r *round[T]) launch(ctx context.Context) {
	for e := range r.late {
		r.store.suspect(e, false)
	}
	if len(r.next) == 0 {
		r.next = r.store.order()
	}
	e := r.next[0]
	r.next = r.next[1:]
	if r.store.spawn(func() { deliver(ctx, r.answers, ask(ctx, e, r.op)) }) {
		r.sent, r.pending = r.sent+1, r.pending+1
		r.late[e] = r.sent
	}
}

// blame puts those behind that were asked earlier than the attempt that has been answered, and have not answered.
func (r *round[T]) blame(answered int) {
	for e, asked := range r.late {
		if asked < answered {
			r.store.suspect(e, true)
		}
	}
}

// after is the pause before the next attempt when one has failed: none while there is an endpoint that has not been
// tried in this round.
func after(untried bool) time.Duration {
	if untried {
		return 0
	}
	return hedge / 3
}

// once runs op at one endpoint, once. It is given up when that endpoint has stopped answering and another one has not; a
// slow one is waited for.
func once[T any](ctx context.Context, s *Store, op operation[T]) (T, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var none T
	order := s.order()
	e := order[0]
	answers := make(chan answer[T])
	dead := make(chan bool)
	if !s.spawn(func() { deliver(ctx, answers, ask(ctx, e, op)) }) {
		return none, errClosed
	}
	tick := time.NewTimer(hedge)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return none, ended(ctx, fmt.Errorf("etcd at %s: no answer", e.url))
		case a := <-answers:
			if a.err != nil {
				s.suspect(e, false)
				return none, fmt.Errorf("etcd at %s: %w", e.url, a.err)
			}
			return a.value, nil
		case <-tick.C:
			s.suspect(e, false)
			s.spawn(func() { deliver(ctx, dead, outlived(ctx, e, order[1:])) })
		case gone := <-dead:
			if gone {
				s.suspect(e, true)
				return none, fmt.Errorf("etcd at %s: %w", e.url, errSilent)
			}
			tick.Reset(hedge)
		}
	}
}

// outlived reports whether the endpoint does not even answer what needs neither a majority nor a disk, while one of the
// others serves linearizable reads. Where no other does, giving up would gain nothing: it is the whole machine or network
// that is slow, or there is no other.
func outlived(ctx context.Context, e *endpoint, others []*endpoint) bool {
	well := make(chan bool, len(others))
	for _, o := range others {
		go func() { well <- o.probe(ctx, aliveWithin) == nil }()
	}
	silent := e.probe(ctx, aliveWithin, clientv3.WithSerializable()) != nil
	alive := false
	for range others {
		alive = <-well || alive
	}
	return silent && alive
}

// bound ties ctx to the life of the store.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

func ask[T any](ctx context.Context, e *endpoint, op operation[T]) answer[T] {
	v, err := op(ctx, e.client)
	return answer[T]{e, v, err}
}

func deliver[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

// ended is the error of a call whose time is up; last is what stood in its way, if anything is known.
func ended(ctx context.Context, last error) error {
	if last == nil {
		return fmt.Errorf("etcd gave no answer: %w", context.Cause(ctx))
	}
	return fmt.Errorf("%w (%w)", context.Cause(ctx), last)
}

// final reports whether another attempt would get the same error. Everything that another endpoint or a moment's patience
// may cure is not: endpoints that are unreachable, without a leader, overloaded, corrupt or a learner.
func final(err error) bool {
	code := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	}
	switch code {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.ResourceExhausted, codes.Unimplemented:
		return !errors.Is(err, rpctypes.ErrTooManyRequests)
	}
	return false
}

// note takes down what an answer tells of etcd itself. Only linearizable requests may be noted: their revision is not below any
// that was known when they were sent (floor, from known). If it is, or another cluster answers, etcd was made anew or restored
// from a backup: a watch that waits for later revisions would wait for ever. The cluster's id alone does not tell, for
// "etcdctl snapshot restore" with the same token, names and peer addresses gives the same one (seen with etcd 3.4).
func (s *Store) note(h *pb.ResponseHeader, floor int64) {
	if h == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clusterID != 0 && s.clusterID != h.ClusterId || h.Revision < floor {
		close(s.renewed)
		s.renewed = make(chan struct{})
		s.revision = 0
	}
	s.clusterID, s.revision = h.ClusterId, max(s.revision, h.Revision)
}

// known is the highest revision that etcd has answered with.
func (s *Store) known() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}
