package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"standfast/certs"
	"standfast/cluster"
	"standfast/config"
	"standfast/guard"
	"standfast/postgres"
)

// TakeOver makes the primary that runs on this member's data directory, started by something else, one that the member's agent finds
// when it starts. It is run before that, as the user that owns the data.
func TakeOver(ctx context.Context, cfg config.Node) error {
	pg, err := standIn(cfg)
	if err != nil {
		return err
	}
	return errors.Join(pg.TakeOver(ctx), pg.Close(ctx))
}

// GiveBack undoes TakeOver. The agent has just been stopped: first its guard is told that nobody has to end the server.
func GiveBack(ctx context.Context, cfg config.Node) error {
	pg, err := standIn(cfg)
	if err != nil {
		return err
	}
	if err := disarm(ctx, cfg); err != nil {
		return err
	}
	return errors.Join(pg.GiveBack(ctx), pg.Close(ctx))
}

// standIn is the member's server without the member.
func standIn(cfg config.Node) (*postgres.Server, error) {
	n := &Node{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	n.agreed.log, n.agreed.cfg = n.log, cfg.Bootstrap
	founders := make([]cluster.Member, 0, len(cfg.Members))
	for _, m := range cfg.Members {
		founders = append(founders, m.Member())
	}
	n.members.Store(&founders)
	n.tls.files = certs.In(cfg.TLSDir)
	bin, _, err := postgres.FindBinDir(cfg.Postgres.BinDir)
	if err != nil {
		return nil, err
	}
	n.cfg.Postgres.BinDir = bin
	return postgres.New(n.postgresConfig()), nil
}

// disarm takes the guard over that the agent has left, and lets it go without a deadline.
func disarm(ctx context.Context, cfg config.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n := &Node{cfg: cfg}
	device, err := n.watchdog()
	if err != nil {
		return err
	}
	g, err := guard.Start(ctx, guard.Config{Name: cfg.StateDir, Watchdog: device, WatchdogTimeout: time.Duration(cfg.Bootstrap.Lease) / 2, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("take over the guard: %w", err)
	}
	err = g.Disarm()
	for err == nil {
		st := g.Status()
		if !st.Alive || st.AckedSeq == st.LastSeq && st.Left <= 0 {
			break
		}
		select {
		case <-ctx.Done():
			err = fmt.Errorf("disarm the guard: %w", context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.Join(err, g.Close())
}
