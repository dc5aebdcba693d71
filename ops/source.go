package ops

import (
	"context"
	"fmt"
	"strings"

	"standfast/api"
)

// BackupSource chooses the member that a base backup is copied from: the one named, else this host's if it is a standby, else the standby
// that lags least, else the primary; why is "" unless there is something to be told about the choice.
func (c *Cluster) BackupSource(ctx context.Context, named string) (m api.Member, st *api.Status, why string, err error) {
	st, _, err = c.Status(ctx)
	if err != nil {
		return m, nil, "", err
	}
	m, why, err = source(st, named, c.node.Name)
	return m, st, why, err
}

func source(st *api.Status, named, here string) (api.Member, string, error) {
	if named != "" {
		m := st.Member(named)
		switch {
		case m == nil:
			return api.Member{}, "", refuse("there is no member %s; there are %s", named, strings.Join(Names(st), ", "))
		case m.Role == api.Witness:
			return api.Member{}, "", refuse("%s is a witness and holds no data; choose another", named)
		case !copyable(*m):
			return api.Member{}, "", refuse("%s can't be copied now: it is %s %s; see standfast status", named, m.State, m.Note)
		}
		return *m, "", nil
	}
	var best *api.Member
	for i := range st.Members {
		m := &st.Members[i]
		if m.Role != api.Standby || !copyable(*m) {
			continue
		}
		if best == nil || m.Name == here || best.Name != here && lag(*m) < lag(*best) {
			best = m
		}
	}
	if best != nil {
		return *best, "", nil
	}
	if p := st.Member(st.Primary); p != nil && p.Writable {
		return *p, fmt.Sprintf("no standby can be copied now: the primary, %s, is, which its clients may feel", p.Name), nil
	}
	return api.Member{}, "", refuse("no member can be copied now: no standby follows and no primary takes writes; see standfast status")
}

// copyable: its server runs, and what it has is the cluster's.
func copyable(m api.Member) bool {
	return m.State == api.Running && (m.Writable || m.Role == api.Standby && m.Attached && m.Readable)
}

func lag(m api.Member) int64 {
	if m.Lag == nil {
		return 1 << 62
	}
	return *m.Lag
}
