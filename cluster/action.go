package cluster

import "fmt"

// Action is one thing to do. Actions are returned in order and carried out in order: a later one may rely on an
// earlier one having succeeded, and when one fails the rest are dropped and the member looks again.
type Action interface{ String() string }

type (
	// Fence ends this member's service as a primary at once: sessions cut, every process of PostgreSQL killed (a fast stop
	// would release commits that wait). It never waits for a process in uninterruptible sleep.
	Fence struct{ Reason string }

	// Promise raises the relay's floor to Term, closes whatever it carries for an earlier one with RST, and then writes
	// the promise to disk, synced. No report of Term may be sent before it has returned.
	Promise struct{ Term Term }

	// SendReport puts the member's sworn position into the store, beside State.
	SendReport struct{ Report Report }

	// Write replaces the agreed record by Next if it still has Next.Revision. A lost race, like an unknown outcome, is
	// followed by looking again.
	Write struct {
		Cause string
		Next  State
	}

	// Start starts PostgreSQL as a standby behind the relay: never as a primary.
	Start struct{}

	// Restart stops a standby (fast) and starts it again, for parameters that need it.
	Restart struct{ Reason string }

	// Stop stops PostgreSQL fast, in order, with its relays attached, so that standbys receive the shutdown checkpoint.
	Stop struct{ Reason string }

	// SetNames makes PostgreSQL work by the rule: ALTER SYSTEM, SIGHUP, seen in a new session; on a primary every WAL
	// sender older than the change is ended, because each releases waiters by its own copy of the rule.
	SetNames struct{ Rule Rule }

	// Promote makes this standby the primary on exactly Timeline: clients closed out and their sessions ended, names
	// set (never empty), timeline numbers below it skipped, then promotion.
	Promote struct {
		Term     Term
		Timeline Timeline
		Rule     Rule
	}

	// WriteTermRow writes the row whose flush by K members proves that the term's primary can commit.
	WriteTermRow struct{ Term Term }

	// Admit lets clients in: pg_hba opened, beat sent at once. Only after the term row is on K members of the rule.
	Admit struct{ Term Term }

	// Expel closes clients out again without stopping PostgreSQL: sessions cut, pg_hba closed.
	Expel struct{ Reason string }

	// Attach lets the relay carry from the primary of Term, for a member whose WAL lies on that term's history.
	Attach struct{ Term Term }

	// Handover prepares a switchover on the primary: new connections held, CHECKPOINT, To caught up, then Stop. It
	// succeeds only if To has received the shutdown checkpoint.
	Handover struct{ To string }

	// Init makes the first data of a new cluster and starts it as primary on timeline 1, names holding Nobody.
	Init struct{}

	// Rewind brings diverged data back onto the primary's history with pg_rewind, keeping the discarded WAL aside.
	// A durable marker makes the data Partial from its beginning to its end.
	Rewind struct {
		From string
		Term Term
	}

	// Clone replaces the data by a base backup of the primary, under the same marker; the old data is kept aside while
	// fewer than two other healthy copies exist.
	Clone struct {
		From string
		Term Term
		Keep bool
	}

	// Refuse withdraws an operator's request that can't be carried out, and tells why.
	Refuse struct {
		Request Request
		Why     string
	}

	// Probe asks the member's PostgreSQL for an answer to an SSLRequest (no login), so that a dead agent is told from a
	// dead server. An answer counts as Relay.Heard.
	Probe struct{ Member string }
)

func (a Fence) String() string   { return "fence: " + a.Reason }
func (a Promise) String() string { return fmt.Sprintf("promise term %d", a.Term) }
func (a SendReport) String() string {
	return fmt.Sprintf("report %s in term %d", a.Report.Position, a.Report.Term)
}
func (a Write) String() string    { return "write state: " + a.Cause }
func (a Start) String() string    { return "start as standby" }
func (a Restart) String() string  { return "restart: " + a.Reason }
func (a Stop) String() string     { return "stop: " + a.Reason }
func (a SetNames) String() string { return "set names: " + a.Rule.String() }
func (a Promote) String() string {
	return fmt.Sprintf("promote to timeline %d, %s", a.Timeline, a.Rule)
}
func (a WriteTermRow) String() string { return fmt.Sprintf("write the row of term %d", a.Term) }
func (a Admit) String() string        { return fmt.Sprintf("admit clients in term %d", a.Term) }
func (a Expel) String() string        { return "expel clients: " + a.Reason }
func (a Attach) String() string       { return fmt.Sprintf("attach in term %d", a.Term) }
func (a Handover) String() string     { return "hand over to " + a.To }
func (a Init) String() string         { return "initialise a new cluster" }
func (a Rewind) String() string       { return "rewind from " + a.From }
func (a Clone) String() string        { return "clone from " + a.From }
func (a Refuse) String() string       { return "refuse " + string(a.Request.Kind) + ": " + a.Why }
func (a Probe) String() string        { return "probe " + a.Member }
