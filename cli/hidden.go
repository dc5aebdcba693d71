package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"standfast/config"
	"standfast/deploy/probe"
	"standfast/guard"
	"standfast/node"
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
	case "server":
		if err := server(args[1:]); err != nil {
			fmt.Fprintf(stderr, "standfast server: %v\n", err)
			return int(Failed), true
		}
		return int(OK), true
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

// takeTime bounds what server does to a PostgreSQL that runs.
const takeTime = time.Minute

// server is what standfast adopt runs on a host, as the user that PostgreSQL runs as, before the agent there starts or after it stopped.
func server(args []string) error {
	verbs := map[string]func(context.Context, config.Node) error{"take-over": node.TakeOver, "give-back": node.GiveBack}
	if len(args) != 1 || verbs[args[0]] == nil {
		return errors.New("this is run by standfast adopt, with take-over or give-back")
	}
	cfg, err := config.LoadNode(cmp.Or(os.Getenv("STANDFAST_CONFIG"), config.DefaultPath), os.Environ(), nil)
	if err != nil {
		return err
	}
	if err := rightUser(cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), takeTime)
	defer cancel()
	return verbs[args[0]](ctx, cfg)
}
