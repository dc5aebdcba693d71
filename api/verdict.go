package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"standfast/cluster"
)

// check is a question that a health path asks of this member.
type check int

const (
	checkPrimary check = iota
	checkReplica
	checkStandbyLeader
	checkReadOnly
	checkSync
	checkReadOnlySync
	checkQuorum
	checkReadOnlyQuorum
	checkAsync
	checkHealth
	checkReady
	checkReadiness
	checkLiveness
	checks // how many there are
)

// labels name what was asked for, in pgchk's words where it has any.
var labels = [checks]string{"Primary", "Replica", "Standby Leader", "Read Only", "Synchronous", "Read Only", "Quorum", "Read Only",
	"Asynchronous", "Healthy", "Ready", "Ready", "Live"}

// readinessLag is how far behind a standby may be for /readiness when the query does not say: the default of Patroni's
// maximum_lag_on_failover, 1 MB.
const readinessLag = 1 << 20

// judge answers a check: "" is yes, otherwise the sentence that says why not. It is pure, so that the whole table of
// paths, roles and states can be tested.
func judge(st *Status, c check, q query) string {
	switch c {
	case checkLiveness:
		return "" // staleness is asked before, for every check
	case checkPrimary:
		return notPrimary(st)
	case checkStandbyLeader:
		return "this cluster is not a standby cluster"
	case checkHealth:
		return notRunning(st)
	case checkReadiness:
		return notReadiness(st, q)
	case checkReplica:
		return notReplica(st, q)
	case checkSync:
		return first(notReplica(st, q), notSync(st))
	case checkQuorum:
		return first(notReplica(st, q), notQuorum(st))
	case checkAsync:
		return notAsync(st, q)
	case checkReadOnlySync:
		return primaryOr(st, q, checkSync)
	case checkReadOnlyQuorum:
		return primaryOr(st, q, checkQuorum)
	case checkReadOnly, checkReady:
		return primaryOr(st, q, checkReplica)
	}
	return "not a check"
}

// first returns the first reason against, "" if there is none.
func first(why, next string) string {
	if why != "" {
		return why
	}
	return next
}

// primaryOr is yes for the primary, and asks anyone else the given check.
func primaryOr(st *Status, q query, c check) string {
	why := notPrimary(st)
	if why == "" {
		return notTagged(st.Me(), q)
	}
	if me := st.Me(); me != nil && me.Role == Primary {
		return why
	}
	return judge(st, c, q)
}

// notRunning says why this member's PostgreSQL can't be used at all.
func notRunning(st *Status) string {
	me := st.Me()
	switch {
	case me == nil:
		return st.Self + " is not a member of the cluster"
	case me.Kind == cluster.Witness:
		return "a witness holds no data"
	case me.State != Running && me.Note != "":
		return fmt.Sprintf("PostgreSQL is %s: %s", me.State, me.Note)
	case me.State != Running:
		return fmt.Sprintf("PostgreSQL is %s", me.State)
	}
	return ""
}

func notPrimary(st *Status) string {
	if why := notRunning(st); why != "" {
		return why
	}
	switch me := st.Me(); {
	case st.Primary == "":
		return fmt.Sprintf("a primary is being elected, in term %d", st.Term)
	case st.Primary != st.Self:
		return "the primary is " + st.Primary
	case me.Role != Primary || !me.Writable:
		return fmt.Sprintf("not open to clients yet in term %d", st.Term)
	}
	return ""
}

func notReplica(st *Status, q query) string {
	if why := notRunning(st); why != "" {
		return why
	}
	me := st.Me()
	switch {
	case me.Role != Standby:
		return "it is the primary"
	case me.Draining:
		return "an operator keeps it out of routing"
	case q.replication != "" && q.replication != replicationState(me):
		return fmt.Sprintf("replication is %q, not %q", replicationState(me), q.replication)
	case !me.Readable:
		return "not readable yet in this term"
	case q.limited && me.Lag == nil:
		return "its lag is not known"
	case q.limited && *me.Lag > q.lag:
		return fmt.Sprintf("%d bytes behind, more than %d", *me.Lag, q.lag)
	}
	return notTagged(me, q)
}

// replicationState is Patroni's word for a standby's stream.
func replicationState(m *Member) string {
	if m.Role == Standby && m.Attached {
		return "streaming"
	}
	return ""
}

func notTagged(me *Member, q query) string {
	if len(q.tags) == 0 {
		return ""
	}
	has := tags(me)
	for _, t := range q.tags {
		if v, ok := has[t.key]; !ok || fmt.Sprint(v) != t.value {
			return fmt.Sprintf("its tag %q is not %q", t.key, t.value)
		}
	}
	return ""
}

// tags are Patroni's tags for what our configuration says in its own way; only what differs from the default is there.
func tags(m *Member) map[string]any {
	t := map[string]any{}
	if m.Kind == cluster.Data {
		t["failover_priority"] = m.Priority
	}
	if !m.Electable() {
		t["nofailover"] = true
	}
	if m.Draining {
		t["noloadbalance"] = true
	}
	if m.Location != "" {
		t["location"] = m.Location
	}
	return t
}

func notQuorum(st *Status) string {
	if r := st.Commit.Rule; r.K < 1 || !r.Has(st.Self) {
		return "it does not count in the commit rule: " + r.String()
	}
	return ""
}

// notSync: only when every member of the rule must have flushed does one of them hold each acknowledged commit.
func notSync(st *Status) string {
	if why := notQuorum(st); why != "" {
		return why
	}
	if !allSync(st.Commit.Rule) {
		return "not every commit is certain to be on it: " + st.Commit.Rule.String()
	}
	return ""
}

func allSync(r cluster.Rule) bool { return r.K >= 1 && r.K >= len(r.Of) }

func notAsync(st *Status, q query) string {
	if why := notReplica(st, q); why != "" {
		return why
	}
	if notQuorum(st) == "" {
		return "it counts in the commit rule: " + st.Commit.Rule.String()
	}
	return ""
}

func notReadiness(st *Status, q query) string {
	if notPrimary(st) == "" {
		return ""
	}
	if why := notRunning(st); why != "" {
		return why
	}
	me := st.Me()
	bound, lag := int64(readinessLag), me.Lag
	if q.limited {
		bound = q.lag
	}
	if q.write {
		lag = me.ReceiveLag
	}
	switch {
	case me.Role != Standby:
		return notPrimary(st)
	case !me.Attached:
		return "replication is not streaming"
	case lag == nil:
		return "its lag is not known"
	case *lag > bound:
		return fmt.Sprintf("%d bytes behind, more than %d", *lag, bound)
	}
	return ""
}

// stale says why nothing in st is believed any more at age, or "" when it is young enough.
func stale(st *Status, age, bound time.Duration) string {
	switch {
	case st == nil:
		return "starting: nothing is known yet"
	case age > bound:
		return fmt.Sprintf("the agent has not reported for %.1f s", age.Seconds())
	}
	return ""
}

// line is pgchk's one-line answer for a reason that judge or stale gave.
func line(c check, st *Status, why string) string {
	switch {
	case why == "":
		return "OK - " + labels[c] + "\n"
	case st != nil && strings.HasPrefix(why, "PostgreSQL is "):
		return "PostgreSQL Unreachable: " + strings.TrimPrefix(why, "PostgreSQL is ") + "\n"
	}
	return "Service Unavailable - Not " + labels[c] + ": " + why + "\n"
}

// code is the HTTP status for a reason.
func code(why string) int {
	if why == "" {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}
