package embed

import "context"

// State is what one etcd says of itself.
type State struct {
	Size    int64    // of its database's file, bytes
	Quota   int64    // that it must not grow beyond: then nothing can be written any more
	Alarms  []string // in its own words: "NOSPACE", "CORRUPT", no leader
	Learner bool
	Leader  bool
}

// Own asks the first of the endpoints, which is the member's own.
func (a *Admin) Own(ctx context.Context) (State, error) {
	r, err := statusOf(ctx, a.clients[0])
	if err != nil {
		return State{}, err
	}
	s := status{a.clients[0], r}
	return State{Size: r.DbSize, Quota: quota, Alarms: r.Errors, Learner: r.IsLearner, Leader: s.leads()}, nil
}
