package embed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

var (
	// ErrNotInSync says that a learner has not caught up yet; ask again a moment later.
	ErrNotInSync = errors.New("the learner has not caught up with the leader yet")

	// ErrNotSettled says that etcd refuses to change its members now: a majority of the others is not up, or has not been
	// for five seconds. Ask again, or repair those first.
	ErrNotSettled = errors.New("etcd's other members are not all up, or have not been for five seconds")

	// ErrNoMember says that etcd has no member of that name.
	ErrNoMember = errors.New("etcd has no such member")

	errNoLeader = errors.New("etcd has no leader: no majority of its members is up")
)

// statusTimeout bounds the wait for a member's status; one that needs longer counts as down.
const statusTimeout = time.Second

// Member is one member of the etcd cluster.
type Member struct {
	ID        uint64
	Name      string // "" while it was added but has never started
	PeerURL   string
	ClientURL string
	Learner   bool // it receives the log but has no vote
}

// Admin changes and maintains an etcd cluster. A member that is down or frozen delays a call by a second at most.
type Admin struct {
	clients []*clientv3.Client // one per endpoint

	mu    sync.Mutex
	names map[uint64]string // of members, by id, as last listed
}

// NewAdmin prepares the calls. Endpoints are the members' client URLs; those that are missing are neither maintained nor
// chosen as leader.
func NewAdmin(t *tls.Config, endpoints ...string) (*Admin, error) {
	a := &Admin{}
	for _, e := range endpoints {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{e}, TLS: t, Logger: zap.NewNop(), MaxUnaryRetries: 1,
			DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: time.Second,
			})},
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open etcd at %s: %w", e, err), a.Close())
		}
		a.clients = append(a.clients, c)
	}
	if len(a.clients) == 0 {
		return nil, errors.New("open etcd: no endpoints given")
	}
	return a, nil
}

// Close ends all connections.
func (a *Admin) Close() error {
	var errs error
	for _, c := range a.clients {
		if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// Members lists all members, sorted by name.
func (a *Admin) Members(ctx context.Context) ([]Member, error) {
	c, err := a.pick(ctx)
	if err != nil {
		return nil, fmt.Errorf("list etcd members: %w", err)
	}
	r, err := c.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list etcd members: %w", err)
	}
	return members(r.Members), nil
}

// AddLearner adds a member without a vote and returns the InitialCluster with which to start it (State "existing"). It
// may be repeated: a member that is there already, by its peer URL, is not added again.
func (a *Admin) AddLearner(ctx context.Context, name, peerURL string) (map[string]string, error) {
	all, err := a.Members(ctx)
	if err != nil {
		return nil, fmt.Errorf("add etcd member %s: %w", name, err)
	}
	if !slices.ContainsFunc(all, func(m Member) bool { return m.PeerURL == peerURL }) {
		c, err := a.pick(ctx)
		if err != nil {
			return nil, fmt.Errorf("add etcd member %s: %w", name, err)
		}
		r, err := c.MemberAddAsLearner(ctx, []string{peerURL})
		err = settled(err)
		if err != nil {
			return nil, fmt.Errorf("add etcd member %s: %w", name, err)
		}
		all = members(r.Members)
	}
	return initial(all, name, peerURL), nil
}

func initial(all []Member, name, peerURL string) map[string]string {
	out := map[string]string{name: peerURL}
	for _, m := range all {
		if m.Name != "" && m.PeerURL != peerURL {
			out[m.Name] = m.PeerURL
		}
	}
	return out
}

// Place is what etcd's members know of one of them.
type Place struct {
	Number  string            // etcd's own of the member, in hexadecimal; "": it is none
	Started bool              // it has run, and must have its data
	Initial map[string]string // with which to start it where it has not run
}

// Place looks a member up by the URL that the others reach it at.
func (a *Admin) Place(ctx context.Context, name, peerURL string) (Place, error) {
	all, err := a.Members(ctx)
	if err != nil {
		return Place{}, err
	}
	i := slices.IndexFunc(all, func(m Member) bool { return m.PeerURL == peerURL })
	if i < 0 {
		return Place{}, nil
	}
	return Place{fmt.Sprintf("%x", all[i].ID), all[i].Name != "", initial(all, name, peerURL)}, nil
}

// PromoteLearner gives the member its vote; ErrNotInSync if it is too early. It may be repeated.
func (a *Admin) PromoteLearner(ctx context.Context, name string) error {
	c, m, err := a.find(ctx, name)
	if err != nil {
		return fmt.Errorf("promote etcd member %s: %w", name, err)
	}
	if !m.Learner {
		return nil
	}
	_, err = c.MemberPromote(ctx, m.ID)
	if errors.Is(err, rpctypes.ErrMemberLearnerNotReady) {
		err = ErrNotInSync
	}
	err = settled(err)
	if err != nil && !errors.Is(err, rpctypes.ErrMemberNotLearner) {
		return fmt.Errorf("promote etcd member %s: %w", name, err)
	}
	return nil
}

// Remove takes a member out for good: its data is of no more use, and it comes back only by AddLearner with an empty
// directory. It is no error if there is none of that name (a member that never started is named by its peer URL).
// ErrNotSettled if etcd would not be sure of its majority afterwards.
func (a *Admin) Remove(ctx context.Context, name string) error {
	c, m, err := a.find(ctx, name)
	if errors.Is(err, ErrNoMember) {
		return nil
	}
	if err == nil {
		_, err = c.MemberRemove(ctx, m.ID)
		err = settled(err)
	}
	if err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return fmt.Errorf("remove etcd member %s: %w", name, err)
	}
	return nil
}

// find returns the member by its name or peer URL, and a client that can be asked to change it.
func (a *Admin) find(ctx context.Context, name string) (*clientv3.Client, Member, error) {
	c, err := a.pick(ctx)
	if err != nil {
		return nil, Member{}, err
	}
	r, err := c.MemberList(ctx)
	if err != nil {
		return nil, Member{}, err
	}
	all := members(r.Members)
	if i := slices.IndexFunc(all, func(m Member) bool { return m.Name == name || m.PeerURL == name }); i >= 0 {
		return c, all[i], nil
	}
	return nil, Member{}, ErrNoMember
}

func settled(err error) error {
	if errors.Is(err, rpctypes.ErrUnhealthy) || errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
		return ErrNotSettled
	}
	return err
}

func members(raw []*pb.Member) []Member {
	all := make([]Member, len(raw))
	for i, m := range raw {
		all[i] = Member{ID: m.ID, Name: m.Name, Learner: m.IsLearner}
		if len(m.PeerURLs) > 0 {
			all[i].PeerURL = m.PeerURLs[0]
		}
		if len(m.ClientURLs) > 0 {
			all[i].ClientURL = m.ClientURLs[0]
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}
