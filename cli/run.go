package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"standfast/config"
	"standfast/node"
)

type runCmd struct {
	Set      []string `help:"A setting over the file's, as ports.health=8009." placeholder:"KEY=VALUE"`
	UntilEOF bool     `name:"until-eof" hidden:"" help:"End when standard input ends, stopping PostgreSQL too: for a playground."`
}

func (runCmd) Help() string {
	return `Runs this host's member until it is told to stop. PostgreSQL goes on when the member stops, and is taken over again
when it starts: a restart or an upgrade of standfast interrupts nobody.

Examples:
  standfast run --config /etc/standfast/standfast.yml
  standfast run --set log.level=debug`
}

func (c *runCmd) Run(a *app) error {
	path := a.config
	if path == "" {
		path = config.DefaultPath
	}
	cfg, err := config.LoadNode(path, os.Environ(), c.Set)
	if err != nil {
		return &usageError{err}
	}
	n, err := node.New(cfg, logger(a.stderr, cfg.Log))
	if err != nil {
		return err
	}
	ctx := a.ctx
	if c.UntilEOF {
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() { // ends with standard input, at the latest with the process
			_, _ = io.Copy(io.Discard, a.stdin)
			cancel(errors.New("standard input has ended"))
		}()
	}
	err = n.Run(ctx)
	if c.UntilEOF {
		err = errors.Join(err, n.StopPostgres())
	}
	return err
}

// logger writes to standard error as the file asks for.
func logger(w io.Writer, l config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // Validate has accepted it
	opts := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
