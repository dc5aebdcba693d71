package postgres

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// StopMode says how PostgreSQL is stopped ("Shutting Down the Server").
type StopMode string

const (
	Smart     StopMode = "smart"     // waits for sessions to end
	Fast      StopMode = "fast"      // ends sessions; a commit that waits for a standby becomes visible
	Immediate StopMode = "immediate" // no checkpoint; recovery at the next start
)

var stopSignals = map[StopMode]unix.Signal{Smart: unix.SIGTERM, Fast: unix.SIGINT, Immediate: unix.SIGQUIT}

// Stop stops PostgreSQL and returns when the postmaster has ended. One that does not run is stopped already. When ctx
// ends first the server goes on stopping.
func (s *Server) Stop(ctx context.Context, mode StopMode) error {
	w := s.postmaster()
	if w == nil {
		return nil
	}
	sig, ok := stopSignals[mode]
	if !ok {
		return fmt.Errorf("stop PostgreSQL: no mode %q", mode)
	}
	if err := w.signal(sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	select {
	case <-w.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop PostgreSQL (%s): it still runs: %w", mode, context.Cause(ctx))
	}
}
