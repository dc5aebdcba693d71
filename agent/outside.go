package agent

import (
	"context"

	"standfast/cluster"
	"standfast/postgres"
	"standfast/relay"
)

// Postgres is the member's server, as package postgres implements it. A witness has none (nil).
type Postgres interface {
	Data(ctx context.Context) (cluster.DataState, string, error)
	Adopt(ctx context.Context) (bool, error)
	Observe(ctx context.Context) (postgres.Observation, error)
	Running() (bool, error)     // a postmaster or any process of it lives
	StandbyData() (bool, error) // the data directory is marked as a standby's
	InPlace() bool              // it runs as something else started it, and was taken over
	Exited() <-chan struct{}
	Ping(ctx context.Context) error
	WriteProbe(ctx context.Context) error

	Init(ctx context.Context) error
	StartStandby(ctx context.Context) error
	Stop(ctx context.Context, mode postgres.StopMode) error
	Kill(ctx context.Context) error    // returns when every process has its SIGKILL
	KillAll(ctx context.Context) error // and when they have ended
	Checkpoint(ctx context.Context) error
	SetNames(ctx context.Context, r cluster.Rule, endSenders bool) error
	Promote(ctx context.Context, tl cluster.Timeline, r cluster.Rule) error
	WriteTermRow(ctx context.Context, t cluster.Term) (cluster.LSN, error)
	OpenClients(ctx context.Context) error
	CloseClients(ctx context.Context, endSessions bool) error
	Clone(ctx context.Context, from postgres.Source, progress func(done, total int64)) error
	Rewind(ctx context.Context, from postgres.Source) error
	EnsureSlots(ctx context.Context, members []string) error
	AdvanceSlots(ctx context.Context, to map[string]cluster.LSN) error
}

// Relay is the local end of the WAL stream, as package relay implements it.
type Relay interface {
	Raise(term cluster.Term)
	Attach(term cluster.Term, timeline cluster.Timeline, addr string) error
	Detach(reason string)
	Status() relay.Status
	Changed() <-chan struct{}
}

// Router carries client sessions, as package router implements it.
type Router interface {
	SetRoute(r cluster.Route, addrs map[string]string)
}
