package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
)

// patroniSwitch is the body of Patroni's POST /switchover and /failover; both take all of its keys.
type patroniSwitch struct {
	Leader     string `json:"leader"`
	Candidate  string `json:"candidate"`
	Member     string `json:"member"` // Patroni's older name of candidate
	Scheduled  string `json:"scheduled_at"`
	AcceptLoss bool   `json:"accept_loss"`
	DryRun     bool   `json:"dry_run"`
}

// parseSwitch reads and checks what both have in common.
func parseSwitch(c *changes, r *parsed) (patroniSwitch, error) {
	var s patroniSwitch
	if err := decode(r.body, &s); err != nil {
		return s, err
	}
	if s.Candidate == "" {
		s.Candidate = s.Member
	}
	if s.Scheduled != "" {
		return s, Errorf(Invalid, "scheduled_at: a change of primary is not put off; ask for it when it is due, for example from cron")
	}
	if s.Leader != "" && s.Leader == s.Candidate {
		return s, Errorf(Invalid, "leader and candidate are both %s", s.Leader)
	}
	st := c.source.Snapshot()
	if st == nil {
		return s, Errorf(Unavailable, "this member is starting and knows nothing of the cluster yet; ask again in a moment")
	}
	if s.Leader != "" && s.Leader != st.Primary {
		return s, Errorf(Precondition, "leader: the primary is %s, not %s", orNobody(st.Primary), s.Leader)
	}
	if s.Candidate != "" {
		return s, checkCandidate(st, s.Candidate)
	}
	return s, nil
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

func checkCandidate(st *Status, name string) error {
	m := st.Member(name)
	switch {
	case m == nil:
		return Errorf(Precondition, "candidate: there is no member %s; there are %s", name, strings.Join(names(st), ", "))
	case m.Kind == cluster.Witness:
		return Errorf(Precondition, "candidate: %s is a witness and holds no data", name)
	case !m.Electable():
		return Errorf(Precondition, "candidate: %s has priority 0, it never becomes primary", name)
	}
	return nil
}

func names(st *Status) []string {
	var n []string
	for i := range st.Members {
		n = append(n, st.Members[i].Name)
	}
	return n
}

func parseSwitchover(c *changes, r *parsed) (act, error) {
	s, err := parseSwitch(c, r)
	if err != nil {
		return nil, err
	}
	if s.AcceptLoss {
		return nil, Errorf(Invalid, "accept_loss: a switchover loses nothing; /failover is what may")
	}
	return c.switchover(s, r.by), nil
}

func (c *changes) switchover(s patroniSwitch, by By) act {
	q := SwitchoverRequest{by, s.Leader, s.Candidate, s.DryRun}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Switchover(ctx, q, p) }
}

// parseFailover: with a leader named, Patroni takes it for a switchover, and so do its users.
func parseFailover(c *changes, r *parsed) (act, error) {
	s, err := parseSwitch(c, r)
	if err != nil {
		return nil, err
	}
	if s.Leader != "" && !s.AcceptLoss {
		return c.switchover(s, r.by), nil
	}
	q := FailoverRequest{r.by, s.Candidate, s.AcceptLoss, s.DryRun}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Failover(ctx, q, p) }, nil
}

func parseCancel(c *changes, r *parsed) (act, error) {
	return func(ctx context.Context, p func(Progress)) error {
		return c.ops.CancelSwitchover(ctx, CancelRequest{r.by}, p)
	}, nil
}

func parseRestart(c *changes, r *parsed) (act, error) {
	var s struct {
		RestartRequest
		Schedule string `json:"schedule"`
		Version  string `json:"postgres_version"`
		Timeout  any    `json:"timeout"`
	}
	if err := decode(r.body, &s); err != nil {
		return nil, err
	}
	q := s.RestartRequest
	q.By = r.by
	switch q.Role {
	case "replica":
		q.Role = Standby
	case "", Primary, Standby:
	default:
		return nil, Errorf(Invalid, "role: it is primary or replica, not %q", q.Role)
	}
	if s.Schedule != "" || s.Version != "" {
		return nil, Errorf(Invalid, "schedule and postgres_version are not offered: a restart is done when it is asked for")
	}
	var err error
	if q.Timeout, err = seconds(s.Timeout); err != nil {
		return nil, err
	}
	st, err := c.asked(q.Member)
	if err != nil {
		return nil, err
	}
	if me := st.Me(); q.Role != "" && (me == nil || me.Role != q.Role) {
		return nil, Errorf(Precondition, "role: %s is not %s", st.Self, q.Role)
	}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Restart(ctx, q, p) }, nil
}

// seconds reads Patroni's timeout: a number of seconds, as such or as text; or a duration such as "90s".
func seconds(v any) (time.Duration, error) {
	if v == nil {
		return 0, nil
	}
	text := fmt.Sprint(v)
	d, err := time.ParseDuration(text)
	if n, e := strconv.ParseFloat(text, 64); e == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d <= 0 || d > 24*time.Hour {
		return 0, Errorf(Invalid, "timeout: it is a number of seconds above 0 and at most a day, not %q", text)
	}
	return d, nil
}

// asked refuses an operation on a member that was sent to another one.
func (c *changes) asked(member string) (*Status, error) {
	st := c.source.Snapshot()
	if st == nil {
		return nil, Errorf(Unavailable, "this member is starting and knows nothing of the cluster yet; ask again in a moment")
	}
	if member == "" || member == st.Self {
		return st, nil
	}
	m := st.Member(member)
	if m == nil {
		return nil, Errorf(NotFound, "there is no member %s; there are %s", member, strings.Join(names(st), ", "))
	}
	return nil, Errorf(Conflict, "this is %s; ask %s itself, at https://%s", st.Self, member, m.Admin)
}

func parseReload(c *changes, r *parsed) (act, error) {
	q := ReloadRequest{}
	if err := decode(r.body, &q); err != nil {
		return nil, err
	}
	q.By = r.by
	if _, err := c.asked(q.Member); err != nil {
		return nil, err
	}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Reload(ctx, q, p) }, nil
}

// parseReinitialize takes from-leader in both of Patroni's spellings: data always comes from the primary here.
func parseReinitialize(c *changes, r *parsed) (act, error) {
	var s struct {
		ReinitializeRequest
		Hyphen     bool `json:"from-leader"`
		Underscore bool `json:"from_leader"`
	}
	if err := decode(r.body, &s); err != nil {
		return nil, err
	}
	q := s.ReinitializeRequest
	q.By = r.by
	st, err := c.asked(q.Member)
	if err != nil {
		return nil, err
	}
	switch {
	case st.Primary == st.Self:
		return nil, Errorf(Conflict, "%s is the primary: its data is what the others copy; switch over first", st.Self)
	case st.Me() != nil && st.Me().Kind == cluster.Witness:
		return nil, Errorf(Conflict, "%s is a witness and holds no data", st.Self)
	}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Reinitialize(ctx, q, p) }, nil
}

// maxPause bounds a pause: a cluster left without failover for longer has been forgotten.
const maxPause = 30 * 24 * time.Hour

func parseShutdown(c *changes, r *parsed) (act, error) {
	q := ShutdownRequest{}
	if err := decode(r.body, &q); err != nil {
		return nil, err
	}
	q.By = r.by
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Shutdown(ctx, q, p) }, nil
}

func parsePause(c *changes, r *parsed) (act, error) {
	var s struct {
		For    string `json:"for"`
		DryRun bool   `json:"dry_run"`
	}
	if err := decode(r.body, &s); err != nil {
		return nil, err
	}
	q := PauseRequest{r.by, DefaultPause, s.DryRun}
	if s.For != "" {
		d, err := time.ParseDuration(s.For)
		if err != nil || d <= 0 || d > maxPause {
			return nil, Errorf(Invalid, "for: it is a time such as 30m or 2h, above 0 and at most 720h, not %q", s.For)
		}
		q.For = d
	}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Pause(ctx, q, p) }, nil
}

func parseResume(c *changes, r *parsed) (act, error) {
	q := ResumeRequest{}
	if err := decode(r.body, &q); err != nil {
		return nil, err
	}
	q.By = r.by
	return func(ctx context.Context, p func(Progress)) error { return c.ops.Resume(ctx, q, p) }, nil
}

// parseConfig: the revision comes as an If-Match header (RFC 9110, section 13.1.1), dry_run as a parameter.
func parseConfig(c *changes, r *parsed) (act, error) {
	q := ConfigRequest{By: r.by, Patch: r.Method == "PATCH", Body: r.body, DryRun: r.URL.Query().Get("dry_run") == "true"}
	if len(strings.TrimSpace(string(r.body))) == 0 {
		return nil, Errorf(Invalid, "the body is empty")
	}
	if q.Patch {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(r.body, &object); err != nil || object == nil {
			return nil, Errorf(Invalid, "the body of a PATCH is a JSON object with the keys to change, null to remove one")
		}
	}
	if match := r.Header.Get("If-Match"); match != "" {
		n, err := strconv.ParseInt(strings.Trim(match, `"`), 10, 64)
		if err != nil || n < 1 {
			return nil, Errorf(Invalid, "If-Match: it is the ETag of GET /config, not %s", match)
		}
		q.Revision = n
	}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.SetConfig(ctx, q, p) }, nil
}

func parseRenew(c *changes, r *parsed) (act, error) {
	q := RenewRequest{}
	if err := decode(r.body, &q); err != nil {
		return nil, err
	}
	q.By = r.by
	return func(ctx context.Context, p func(Progress)) error { return c.ops.RenewCertificate(ctx, q, p) }, nil
}

func parseAddMember(c *changes, r *parsed) (act, error) {
	q := AddMemberRequest{}
	if err := decode(r.body, &q); err != nil {
		return nil, err
	}
	if q.Member.Name == "" || q.Member.Beat == "" {
		return nil, Errorf(Invalid, "member: it needs a name, and the addresses that the others reach it at")
	}
	q.By = r.by
	return func(ctx context.Context, p func(Progress)) error { return c.ops.AddMember(ctx, q, p) }, nil
}

func parseRemoveMember(c *changes, r *parsed) (act, error) {
	q := RemoveMemberRequest{}
	if err := decode(r.body, &q); err != nil {
		return nil, err
	}
	if q.Name == "" {
		return nil, Errorf(Invalid, "name: which member?")
	}
	q.By = r.by
	return func(ctx context.Context, p func(Progress)) error { return c.ops.RemoveMember(ctx, q, p) }, nil
}
