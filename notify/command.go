package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/hooks"
)

// runner runs the site's command for an event, as a hook is run: see package hooks.
type runner struct{ log *slog.Logger }

func (r *runner) run(ctx context.Context, command string, events []api.Event) error {
	for _, e := range events {
		body, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode the event: %w%w", err, errUnfit)
		}
		err = hooks.Execute(ctx, hooks.Command{Line: command, Environment: environment(e), Input: append(body, '\n'), Log: r.log.With("to", "command", "event", e.ID)})
		if err != nil {
			return err
		}
	}
	return nil
}

// environment tells a command of an event; the whole of it is on its standard input.
func environment(e api.Event) []string {
	var out []string
	for _, v := range []struct{ name, value string }{
		{"EVENT", e.Kind}, {"ID", e.ID}, {"AT", e.At.UTC().Format(time.RFC3339Nano)}, {"CLUSTER", e.Cluster}, {"MEMBER", e.Member},
		{"SEVERITY", string(e.Severity)}, {"TEXT", e.Text}, {"TERM", strconv.FormatUint(uint64(e.Term), 10)}, {"ABOUT", e.About}, {"BY", e.By},
	} {
		out = append(out, "STANDFAST_"+v.name+"="+strings.ReplaceAll(v.value, "\x00", " "))
	}
	return out
}
