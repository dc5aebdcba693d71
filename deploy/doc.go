// Package deploy makes a running cluster of bare hosts, in phases that each end in a checkpoint. A phase is a list of steps, and every
// step can say whether it is done: so a deployment that was interrupted anywhere is begun again from the beginning and finds
// its place by looking, and one that is repeated changes nothing. What was done is looked at again at once: a step that did not take
// effect is a failure there, not a riddle later.
package deploy

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/deploy/bundle"
	"standfast/deploy/distro"
	"standfast/deploy/plan"
)

// Machine is a host as a deployment works on it.
type Machine interface {
	plan.Host
	// Files describes those of the paths that exist.
	Files(ctx context.Context, paths ...string) (map[string]FileState, error)
	// Read gives the text of a file.
	Read(ctx context.Context, path string) ([]byte, error)
	// Write replaces a file whole, synced, with its owner and mode; a directory that is missing is made with mode 0755 and the
	// same owner. What is written goes in through standard input.
	Write(ctx context.Context, f File) error
	// Alias has a service's name lead to another's file, over the file that it had, and makes systemd read it.
	Alias(ctx context.Context, path, target string) error
	// Install installs packages, without what they only recommend.
	Install(ctx context.Context, p Packages) error
	// SetAside stops a cluster of the distribution's and keeps it from starting. Its files stay.
	SetAside(ctx context.Context, version, name string) error
	// AddUser makes a system user, if there is none of that name.
	AddUser(ctx context.Context, name string) error
	HasUser(ctx context.Context, name string) (bool, error)
	// Unit looks at a service, Reload makes systemd and udev read their files again.
	Unit(ctx context.Context, name string) (Unit, error)
	Reload(ctx context.Context) error
	// Start enables a service and starts it, or starts it again where it runs, in a second later than all of the times.
	Start(ctx context.Context, name string, after time.Time) error
	// Refresh enables a service and has it read its files anew: by a reload where it runs, else by a start.
	Refresh(ctx context.Context, name string) error
	// Log gives the last lines that a service has said.
	Log(ctx context.Context, name string) (string, error)
	// SQL runs statements on the host's PostgreSQL as its superuser and returns the rows. They go in through standard input.
	SQL(ctx context.Context, database, statements string) (string, error)
	// Crash kills the host's PostgreSQL as it would kill itself: without a word to anybody.
	Crash(ctx context.Context) error
	// Switchover asks the cluster, from there, to hand the primary's role to a member.
	Switchover(ctx context.Context, to string) error
	// AddMember and RemoveMember ask the cluster, from there, to change its members, and report whether there was nothing to do.
	AddMember(ctx context.Context, r api.AddMemberRequest) (nothing bool, err error)
	RemoveMember(ctx context.Context, r api.RemoveMemberRequest) (nothing bool, err error)
	// Stop stops services, in order, and keeps them from starting at the next boot.
	Stop(ctx context.Context, names ...string) error
	// Command runs a command of the installed program, as its administrator there would.
	Command(ctx context.Context, args ...string) (string, error)
	// Server runs a command of the installed program about the host's PostgreSQL, as the user that PostgreSQL runs as.
	Server(ctx context.Context, args ...string) (string, error)
	// Again starts a service as it is, whoever stopped it.
	Again(ctx context.Context, name string) error
	// Remove takes files and directories away, and has systemd notice; what is not there is no error.
	Remove(ctx context.Context, paths ...string) error
	// Version is what a program says to --version.
	Version(ctx context.Context, program string) (string, error)
}

// Packages are to be installed.
type Packages struct {
	Names  []string
	Fresh  bool           // look first what the repositories have now
	Bundle *bundle.Bundle // that they come from, with nothing fetched; nil: the host's repositories
}

// File is one to be written.
type File struct {
	Path  string
	Text  []byte
	Mode  fs.FileMode
	Owner string // user, and group of the same name
	Keep  bool   // what is there stays, whatever it holds: the host renews it by itself
	Quiet bool   // it keeps the time of the one that it replaces: what reads it need not be started again
}

// FileState is one that is there.
type FileState struct {
	Sum   string // SHA-256, in hexadecimal
	Mode  fs.FileMode
	Owner string
	Time  time.Time // of its last change, in whole seconds
}

// Unit is a service as systemd knows it.
type Unit struct {
	Active, Enabled bool
	Stale           bool      // its file has changed since it was read
	Since           time.Time // when it was started last, in whole seconds
}

// Site is what is deployed, and where.
type Site struct {
	Deployment config.Deployment
	Machines   map[string]Machine       // by member; all of them
	Program    File                     // the program
	Postgres   string                   // major version
	Systems    map[string]distro.System // what each host runs, by member
	Bundle     *bundle.Bundle           // what packages come from; nil: the hosts' repositories
	Now        func() time.Time
	Patience   time.Duration // for the cluster to become whole; 0: 3 minutes
}

// Options of a run.
type Options struct {
	DryRun bool
	Only   int  // one phase; 0: all
	Diff   bool // tell what a step changes in files
	Tell   func(Event)
}

// State says what became of a step.
type State string

// What becomes of a step.
const (
	Begins  State = "begins"
	Was     State = "was done"
	Did     State = "done"
	Would   State = "would be done"
	Holds   State = "holds" // a checkpoint
	Passed  State = "passed over"
	Failure State = "failed"
)

// Event is told while a deployment goes on, from one goroutine at a time.
type Event struct {
	Phase int
	Title string // of the phase
	Host  string // "": the cluster
	Step  string
	State State
	Text  string // what a checkpoint has seen
	Took  time.Duration
	Err   error
	Diff  []Diff // of files, where Options ask for it and the step was not done
}

// StepError is a step that failed.
type StepError struct {
	Phase int
	Host  string
	Step  string
	Err   error
}

// Error names host and step.
func (e *StepError) Error() string {
	who := ""
	if e.Host != "" {
		who = e.Host + ": "
	}
	return fmt.Sprintf("phase %d: %s%s: %v", e.Phase, who, e.Step, e.Err)
}

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Refusal is why nothing was done: it would be unsafe, or make no sense now.
type Refusal struct{ Reason string }

// Error is the reason, with the remedy.
func (r *Refusal) Error() string { return r.Reason }
