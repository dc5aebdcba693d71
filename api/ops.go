package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"standfast/cluster"
)

// Ops carries out what an operator asks for. Each method returns when the operation has ended, reporting its steps on
// the way; errors made with Errorf choose the HTTP status, any other is a 500. ctx ends when the client has gone
// or the server stops: that ends the watching, and does not undo a step already taken.
//
// Restart, Reload, Reinitialize, RenewCertificate and DropSlot concern the member that is asked; the others the cluster, whichever member is asked.
type Ops interface {
	Switchover(ctx context.Context, r SwitchoverRequest, progress func(Progress)) error
	CancelSwitchover(ctx context.Context, r CancelRequest, progress func(Progress)) error // NotFound if none is pending
	Failover(ctx context.Context, r FailoverRequest, progress func(Progress)) error
	Restart(ctx context.Context, r RestartRequest, progress func(Progress)) error
	Reload(ctx context.Context, r ReloadRequest, progress func(Progress)) error
	Reinitialize(ctx context.Context, r ReinitializeRequest, progress func(Progress)) error
	RenewCertificate(ctx context.Context, r RenewRequest, progress func(Progress)) error
	Shutdown(ctx context.Context, r ShutdownRequest, progress func(Progress)) error // returns when the primary has stopped
	Pause(ctx context.Context, r PauseRequest, progress func(Progress)) error
	Resume(ctx context.Context, r ResumeRequest, progress func(Progress)) error
	Config(ctx context.Context, masked bool) (ClusterConfig, error)                // masked: without what may be secret in it
	SetConfig(ctx context.Context, r ConfigRequest, progress func(Progress)) error // Conflict if Revision is no longer the newest
	AddMember(ctx context.Context, r AddMemberRequest, progress func(Progress)) error
	RemoveMember(ctx context.Context, r RemoveMemberRequest, progress func(Progress)) error
	DropSlot(ctx context.Context, r DropSlotRequest, progress func(Progress)) error // Conflict for one that the cluster knows what it is for
}

// Progress is one step of a long operation. The last one before success is the sentence a plain client gets.
type Progress struct {
	At     time.Time `json:"at"`               // filled in by the server when zero
	Member string    `json:"member,omitempty"` // where it happened
	Step   string    `json:"step,omitempty"`   // a word, for programs
	Text   string    `json:"text"`             // a sentence
	Bytes  int64     `json:"bytes,omitempty"`  // copied so far
	Total  int64     `json:"total,omitempty"`  // to copy, as estimated; 0: not known
}

// StepNothing is the Step of what was asked for and turned out not to be needed.
const StepNothing = "nothing"

// Line is one line of the application/x-ndjson answer: a step, or, last, the outcome.
type Line struct {
	Progress *Progress `json:"progress,omitempty"`
	Done     bool      `json:"done,omitempty"`
	Error    *Error    `json:"error,omitempty"` // with Done: why it was not carried out
}

// By says who asks; the server fills it in from the token and the connection.
type By struct {
	Operator string `json:"-"`
	Remote   string `json:"-"` // host:port
}

// SwitchoverRequest hands the primary's role over in order, with nothing lost.
type SwitchoverRequest struct {
	By
	Leader    string `json:"leader,omitempty"`    // refused with 412 unless it is the primary; "": whoever is
	Candidate string `json:"candidate,omitempty"` // "": the best
	DryRun    bool   `json:"dry_run,omitempty"`   // say what would happen, change nothing
}

// CancelRequest withdraws a switchover or failover that was asked for and has not begun.
type CancelRequest struct{ By }

// FailoverRequest begins an election now, though the primary may live.
type FailoverRequest struct {
	By
	Candidate  string `json:"candidate,omitempty"`   // wins ties; "": the best
	AcceptLoss bool   `json:"accept_loss,omitempty"` // elect from a majority's reports: acknowledged commits may be lost
	DryRun     bool   `json:"dry_run,omitempty"`     // say what would happen and what may be lost, change nothing
}

// RestartRequest restarts the member's PostgreSQL.
type RestartRequest struct {
	By
	Member      string        `json:"member,omitempty"`          // refused with 409 unless it is the one asked
	Role        Role          `json:"role,omitempty"`            // refused with 412 unless the member has it
	OnlyPending bool          `json:"restart_pending,omitempty"` // only if parameters wait for it
	DryRun      bool          `json:"dry_run,omitempty"`         // say what would happen, change nothing
	Timeout     time.Duration `json:"-"`                         // for PostgreSQL to answer again; 0: no bound of the operator's
}

// ReloadRequest makes the member read its configuration again.
type ReloadRequest struct {
	By
	Member string `json:"member,omitempty"` // refused with 409 unless it is the one asked
}

// ReinitializeRequest replaces the member's data by a new copy of the primary's.
type ReinitializeRequest struct {
	By
	Member string `json:"member,omitempty"` // refused with 409 unless it is the one asked
	Force  bool   `json:"force,omitempty"`  // also while another attempt is under way, which is ended
}

// RenewRequest gives the member a new key and certificate. Members do so by themselves in time.
type RenewRequest struct {
	By
	Member string `json:"member,omitempty"` // refused with 409 unless it is the one asked
}

// ShutdownRequest stops the whole cluster in order, until it is started again.
type ShutdownRequest struct {
	By
	DryRun bool `json:"dry_run,omitempty"` // say what would happen, change nothing
}

// DefaultPause is how long a pause lasts that does not say.
const DefaultPause = 2 * time.Hour

// PauseRequest stops automatic failover for a while.
type PauseRequest struct {
	By
	For    time.Duration `json:"-"`                 // above 0
	DryRun bool          `json:"dry_run,omitempty"` // say what would happen, change nothing
}

// ResumeRequest ends a pause.
type ResumeRequest struct {
	By
	DryRun bool `json:"dry_run,omitempty"` // say what would happen, change nothing
}

// ClusterConfig is the agreed configuration.
type ClusterConfig struct {
	Revision int64           `json:"revision"` // of the store; the ETag of GET /config
	YAML     string          `json:"yaml"`     // as it was given, comments and all
	Values   json.RawMessage `json:"values"`   // the same as a JSON object
}

// ConfigRequest changes the agreed configuration.
type ConfigRequest struct {
	By
	Patch    bool   // Body is a JSON merge patch (RFC 7396); otherwise the whole, in YAML or JSON
	Body     []byte //
	Revision int64  // only if this is still the newest; 0: whatever is
	DryRun   bool   // validate and say what would change
}

// AddMemberRequest takes a host into the cluster. It is to run by then, or to be started meanwhile, with join: true in its file.
type AddMemberRequest struct {
	By
	Member cluster.Member `json:"member"`
	HBA    []string       `json:"hba,omitempty"`     // lines of pg_hba.conf for what comes through its router; added where the site has lines at all
	DryRun bool           `json:"dry_run,omitempty"` // say what would happen, change nothing
}

// RemoveMemberRequest takes a member out of the cluster, whether its host lives or not. What runs there stops by itself; its data stays.
type RemoveMemberRequest struct {
	By
	Name   string   `json:"name"`
	HBA    []string `json:"hba,omitempty"` // lines of pg_hba.conf that are taken away with it
	DryRun bool     `json:"dry_run,omitempty"`
}

// Kind classifies an error; it decides the HTTP status.
type Kind string

const (
	Invalid      Kind = "invalid"      // 400: the request makes no sense
	Unauthorized Kind = "unauthorized" // 401: no token, or not a valid one
	Forbidden    Kind = "forbidden"    // 403: not here, or not for this operator
	NotFound     Kind = "not found"    // 404: there is no such thing
	Conflict     Kind = "conflict"     // 409: refused in the present state, or somebody was faster
	Precondition Kind = "precondition" // 412: what the request takes for granted is not so
	Unavailable  Kind = "unavailable"  // 503: no majority, or not now
	Internal     Kind = "internal"     // 500: a fault of ours
)

var statusOf = map[Kind]int{Invalid: 400, Unauthorized: 401, Forbidden: 403, NotFound: 404, Conflict: 409, Precondition: 412, Unavailable: 503, Internal: 500}

// Error is a refusal or failure that an operator is told: its Text is a sentence that names the thing and the remedy.
type Error struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
	err  error
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text }

// Unwrap returns what %w named.
func (e *Error) Unwrap() error { return e.err }

// Status is the HTTP status of the error.
func (e *Error) Status() int {
	if code, ok := statusOf[e.Kind]; ok {
		return code
	}
	return statusOf[Internal]
}

// Errorf makes an error of the kind; %w works as in fmt.Errorf.
func Errorf(k Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{k, err.Error(), errors.Unwrap(err)}
}

// errorOf finds the Error in err, or makes one: an end of ctx is Unavailable, for the outcome is not known.
func errorOf(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return &Error{e.Kind, err.Error(), e}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Unavailable, "the outcome is not known, look at the status: " + err.Error(), err}
	}
	return &Error{Internal, err.Error(), err}
}
