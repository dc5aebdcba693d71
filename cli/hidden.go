package cli

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"standfast/deploy/probe"
	"standfast/guard"
	"standfast/postgres"
	"standfast/store/embed"
)

// runHidden carries out the commands that only Standfast itself starts, before anything else is set up: they have no use for
// flags and help.
func runHidden(args []string, stdin io.Reader, stdout, stderr io.Writer) (code int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case "guard":
		return guard.Main(args[1:]), true
	case "probe":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		if err := probe.Main(ctx, stdin, stdout); err != nil {
			fmt.Fprintf(stderr, "standfast probe: %v\n", err)
			return int(Failed), true
		}
		return int(OK), true
	case "postgres":
		if len(args) != 2 {
			fmt.Fprintln(stderr, "standfast postgres: this is started by systemd, with the path of what the agent has written")
			return int(Usage), true
		}
		fmt.Fprintf(stderr, "standfast postgres: %v\n", postgres.Launch(args[1]))
		return int(Failed), true
	case "etcd":
		if len(args) != 2 {
			fmt.Fprintln(stderr, "standfast etcd: this is started by standfast run, with the path of its configuration")
			return int(Usage), true
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if err := embed.Main(ctx, args[1], stdin); err != nil {
			fmt.Fprintf(stderr, "standfast etcd: %v\n", err)
			return int(Failed), true
		}
		return int(OK), true
	}
	return 0, false
}
