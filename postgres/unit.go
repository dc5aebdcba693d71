package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/coreos/go-systemd/v22/dbus"
)

// spawnUnit starts the postmaster as the service Config.Unit, outside the agent's own: then neither the agent's end, nor its
// sandbox, nor its capabilities are PostgreSQL's. The service has nothing else to run, so whatever still is in it has been
// killed and is being cleared away by systemd: a restart waits for that, where a start would find the service running.
func (c Config) spawnUnit(ctx context.Context, args []string, env []string) (*watch, error) {
	text, err := json.Marshal(launchFile{Program: c.program("postgres"), Args: args, Env: env, Log: c.LogFile})
	if err != nil {
		return nil, err
	}
	if err := c.writeFile(c.UnitFile, text, false); err != nil {
		return nil, err
	}
	bus, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask systemd to start %s: %w", c.Unit, err)
	}
	defer bus.Close()
	done := make(chan string, 1)
	if _, err := bus.RestartUnitContext(ctx, c.Unit, "replace", done); err != nil {
		return nil, fmt.Errorf("ask systemd to start %s: %w (polkit allows it to this user by Standfast's rule: see packaging)", c.Unit, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return nil, fmt.Errorf("systemd could not start %s (%s): see journalctl -u %s", c.Unit, result, c.Unit)
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for systemd to start %s: %w", c.Unit, context.Cause(ctx))
	}
	return c.watchUnit(ctx, bus)
}

// watchUnit watches the service's main process. It asks twice: what was asked first may have ended, and its number may be
// another's by the time that it is held.
func (c Config) watchUnit(ctx context.Context, bus *dbus.Conn) (*watch, error) {
	pid, err := c.mainProcess(ctx, bus)
	if err != nil {
		return nil, err
	}
	w, err := watchProcess(pid, nil)
	if err != nil {
		return nil, err
	}
	if again, err := c.mainProcess(ctx, bus); err != nil || again != pid {
		w.stop()
		return nil, errors.Join(err, fmt.Errorf("%s ended at once: see journalctl -u %s, and %s", c.Unit, c.Unit, c.LogFile))
	}
	return w, nil
}

func (c Config) mainProcess(ctx context.Context, bus *dbus.Conn) (int, error) {
	p, err := bus.GetServicePropertyContext(ctx, c.Unit, "MainPID")
	if err != nil {
		return 0, fmt.Errorf("ask systemd for the process of %s: %w", c.Unit, err)
	}
	pid, ok := p.Value.Value().(uint32)
	if !ok || pid == 0 {
		return 0, fmt.Errorf("%s ended at once: see journalctl -u %s, and %s", c.Unit, c.Unit, c.LogFile)
	}
	return int(pid), nil
}
