package embed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// wasteWorthwhile is how many bytes of a database file must be unused before it is rewritten.
const wasteWorthwhile = 4 << 20

// status is what one reachable member says of itself.
type status struct {
	client *clientv3.Client
	*pb.StatusResponse
}

func (s status) id() uint64      { return s.Header.MemberId }
func (s status) leads() bool     { return s.Leader == s.id() }
func (s status) waste() int64    { return s.DbSize - s.DbSizeInUse }
func (s status) bloated() bool   { return s.waste() > wasteWorthwhile && s.waste() > s.DbSizeInUse }
func (s status) electable() bool { return !s.leads() && !s.IsLearner }

// statuses asks all endpoints at once, and returns the answers in the endpoints' order.
func (a *Admin) statuses(ctx context.Context) []status {
	answers := make([]*pb.StatusResponse, len(a.clients))
	var wg sync.WaitGroup
	for i, c := range a.clients {
		wg.Go(func() {
			if r, err := statusOf(ctx, c); err == nil {
				answers[i] = r
			}
		})
	}
	wg.Wait()
	var all []status
	for i, r := range answers {
		if r != nil {
			all = append(all, status{a.clients[i], r})
		}
	}
	return all
}

// pick returns a client of a voting member that is up and has a leader.
func (a *Admin) pick(ctx context.Context) (*clientv3.Client, error) {
	for _, s := range a.statuses(ctx) {
		if s.Leader != 0 && !s.IsLearner {
			return s.client, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	return nil, errNoLeader
}

// Size is what the database of the first endpoint's member, which is this host's own, takes on its disk, in bytes.
func (a *Admin) Size(ctx context.Context) (int64, error) {
	r, err := statusOf(ctx, a.clients[0])
	if err != nil {
		return 0, fmt.Errorf("ask etcd for its size: %w", err)
	}
	return r.DbSize, nil
}

// Leader returns the name of etcd's leader, as the first endpoint that knows it says. Members keep their names, so mostly it
// costs one question that one member answers from memory: it may be asked every few seconds.
func (a *Admin) Leader(ctx context.Context) (string, error) {
	var id uint64
	for _, c := range a.clients {
		if r, err := statusOf(ctx, c); err == nil && r.Leader != 0 {
			id = r.Leader
			break
		}
	}
	if id == 0 {
		return "", fmt.Errorf("find etcd's leader: %w", errNoLeader)
	}
	if name := a.known(id); name != "" {
		return name, nil
	}
	all, err := a.Members(ctx)
	if err != nil {
		return "", fmt.Errorf("find etcd's leader: %w", err)
	}
	a.learn(all)
	if name := a.known(id); name != "" {
		return name, nil
	}
	return "", fmt.Errorf("find etcd's leader: %w", ErrNoMember)
}

func (a *Admin) known(id uint64) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.names[id]
}

func (a *Admin) learn(all []Member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names = make(map[uint64]string, len(all))
	for _, m := range all {
		a.names[m.ID] = m.Name
	}
}

// statusOf asks one member, over the connection there is; clientv3's own Status dials each time.
func statusOf(ctx context.Context, c *clientv3.Client) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return pb.NewMaintenanceClient(c.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
}

// MoveLeaderAway hands etcd's leadership from the named member to the voting member that is most advanced, and returns
// that one's name; "" if the named member does not lead. It takes about one Tick. There is an error if nobody else can lead.
func (a *Admin) MoveLeaderAway(ctx context.Context, from string) (string, error) {
	all, err := a.Members(ctx)
	if err != nil {
		return "", fmt.Errorf("move etcd's leadership from %s: %w", from, err)
	}
	names := map[uint64]string{}
	for _, m := range all {
		names[m.ID] = m.Name
	}
	var leader, best *status
	for _, s := range a.statuses(ctx) {
		switch {
		case s.leads():
			leader = &s
		case s.electable() && (best == nil || s.RaftAppliedIndex > best.RaftAppliedIndex):
			best = &s
		}
	}
	switch {
	case leader == nil:
		return "", fmt.Errorf("move etcd's leadership from %s: %w", from, errNoLeader)
	case names[leader.id()] != from:
		return "", nil
	case best == nil:
		return "", fmt.Errorf("move etcd's leadership from %s: no other voting member is up", from)
	}
	maintenance := pb.NewMaintenanceClient(leader.client.ActiveConnection())
	if _, err := maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: best.id()}); err != nil {
		return "", fmt.Errorf("move etcd's leadership from %s to %s: %w", from, names[best.id()], err)
	}
	return names[best.id()], nil
}

// Maintain keeps etcd's disk usage bounded: it forgets all but the last revisions, rewrites the database file of at most
// one member, if much of it is unused, and takes back the alarm of a full database once nothing needs rewriting. A member
// does not answer while its file is rewritten, so the leader comes last. It returns the name of the member that was
// rewritten, or "". Call it every few minutes from one place, and never on an etcd that others use as well.
func (a *Admin) Maintain(ctx context.Context) (string, error) {
	c, err := a.pick(ctx)
	if err != nil {
		return "", fmt.Errorf("maintain etcd: %w", err)
	}
	if err := compact(ctx, c); err != nil {
		return "", fmt.Errorf("maintain etcd: %w", err)
	}
	all := a.statuses(ctx)
	next, ok := nextToRewrite(all)
	switch {
	case !ok && slices.ContainsFunc(all, status.bloated):
		return "", nil // not yet
	case !ok:
		return "", disarm(ctx, c)
	}
	if _, err := pb.NewMaintenanceClient(next.client.ActiveConnection()).Defragment(ctx, &pb.DefragmentRequest{}); err != nil {
		return "", fmt.Errorf("maintain etcd: rewrite the database: %w", err)
	}
	return a.nameOf(ctx, next.id())
}

// nextToRewrite chooses the follower that wastes most, and the leader only once all others are done. A follower that has
// not freed its space yet (compaction goes on in the background of each member) is not done: as all hold the same, its
// file is still as large as the leader's.
func nextToRewrite(all []status) (status, bool) {
	var leader, best *status
	for _, s := range all {
		switch {
		case s.leads():
			leader = &s
		case s.bloated() && (best == nil || s.waste() > best.waste()):
			best = &s
		}
	}
	if best != nil {
		return *best, true
	}
	if leader == nil || !leader.bloated() {
		return status{}, false
	}
	for _, s := range all {
		if !s.leads() && s.DbSize > leader.DbSize/2 {
			return status{}, false
		}
	}
	return *leader, true
}

// compact forgets all but the last keptRevisions, and returns when the space is free to be used again.
func compact(ctx context.Context, c *clientv3.Client) error {
	r, err := c.Get(ctx, "/", clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	rev := r.Header.Revision - keptRevisions
	if rev <= 0 {
		return nil
	}
	_, err = c.Compact(ctx, rev, clientv3.WithCompactPhysical())
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return err
}

func disarm(ctx context.Context, c *clientv3.Client) error {
	r, err := c.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("maintain etcd: list alarms: %w", err)
	}
	for _, alarm := range r.Alarms {
		if alarm.Alarm != pb.AlarmType_NOSPACE {
			continue // a corrupt member is not ours to excuse
		}
		if _, err := c.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return fmt.Errorf("maintain etcd: take back the alarm of a full database: %w", err)
		}
	}
	return nil
}

func (a *Admin) nameOf(ctx context.Context, id uint64) (string, error) {
	all, err := a.Members(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range all {
		if m.ID == id {
			return m.Name, nil
		}
	}
	return "", ErrNoMember
}

// WaitReady returns once a member with a leader answers, or when ctx ends.
func (a *Admin) WaitReady(ctx context.Context) error {
	for {
		_, err := a.pick(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for etcd: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}
