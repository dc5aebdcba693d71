// Standfast-checker works on a cluster and says whether the cluster kept what it had promised; package checker tells what that means. It
// needs nothing but connection strings, so any stack can be judged, and runs wherever it is copied to:
//
//	CGO_ENABLED=0 go build ./test/checker/standfast-checker
//	standfast-checker -for 60s -write 'host=10.99.0.50 port=5000 user=app dbname=app' -read 'host=10.99.0.50 port=5001 user=app dbname=app' \
//		-server 'host=10.99.0.11 port=5432 user=app dbname=app' -server …
//
// The first way to write should be the one that always leads to the primary. The role must be allowed to make two tables in its
// database, standfast_load and standfast_register, which stay there. The verdict goes to standard output as JSON and to standard
// error in words. The exit code is 0 if everything held, 1 if something is broken or could not be decided, 2 if there is no verdict. An
// interrupt ends the work early, and is followed by the verdict; a second one ends the program.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/test/checker"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "standfast-checker:", err)
	}
	os.Exit(code)
}

type options struct {
	checker.Config
	servers []checker.Way
	work    time.Duration
	settle  time.Duration
	history string
}

func run(args []string, out, words io.Writer) (code int, err error) {
	o, err := parse(args, words)
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	if err != nil {
		return 2, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := checker.Start(ctx, o.Config)
	if err != nil {
		return 2, err
	}
	defer r.Stop()
	if err := begun(ctx, r, o.settle); err != nil {
		return 2, err
	}
	var over <-chan time.Time
	if o.work > 0 {
		over = time.After(o.work)
	}
	select {
	case <-ctx.Done():
	case <-over:
	}
	stop() // the next interrupt ends the program
	settle, cancel := context.WithTimeout(context.Background(), o.settle)
	defer cancel()
	verdict, err := r.Judge(settle, o.servers)
	if err = errors.Join(err, keep(o.history, r.History())); err != nil {
		return 2, err
	}
	fmt.Fprintln(words, verdict)
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(verdict); err != nil {
		return 2, err
	}
	if !verdict.Whole {
		return 1, nil
	}
	return 0, nil
}

// begun waits until a client of the first way has been served, from when on -for counts: a run in which nothing was acknowledged would
// find nothing lost. An interrupt ends the wait and is no error.
func begun(ctx context.Context, r *checker.Run, within time.Duration) error {
	bound, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := r.Writers[0].AwaitServed(bound); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func parse(args []string, words io.Writer) (*options, error) {
	o := &options{}
	clients := 0
	f := flag.NewFlagSet("standfast-checker", flag.ContinueOnError)
	f.SetOutput(words)
	f.Func("write", "connection `string` that leads to the primary; may be repeated", add(&o.Write))
	f.Func("read", "connection `string` for plain reads; may be repeated (default: those to write)", add(&o.Read))
	f.Func("server", "connection `string` of one server, to be read in the end; may be repeated", add(&o.servers))
	f.IntVar(&clients, "clients", 2, "writers for each -write")
	f.DurationVar(&o.work, "for", time.Minute, "how long to work once commits are acknowledged; 0: until interrupted")
	f.DurationVar(&o.settle, "settle", time.Minute, "how long to wait for the first commits, and in the end for a primary and for servers that replay")
	f.DurationVar(&o.Timeout, "timeout", 5*time.Second, "of one operation")
	f.DurationVar(&o.Think, "think", 0, "pause of a writer after an acknowledged commit")
	f.StringVar(&o.history, "history", "", "write every operation to this `file`, as lines of JSON")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 || len(o.Write) == 0 {
		return nil, errors.New("at least one -write is needed, and nothing but flags; -h lists them")
	}
	for i := range o.Write {
		o.Write[i].Clients = clients
	}
	if o.Read == nil {
		o.Read = o.Write
	}
	return o, nil
}

// add appends a way that is named by its address.
func add(to *[]checker.Way) func(string) error {
	return func(dsn string) error {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			return err
		}
		*to = append(*to, checker.Way{Name: net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))), DSN: dsn})
		return nil
	}
}

// keep writes the history to a file.
func keep(path string, h *checker.History) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	buffer := bufio.NewWriter(file)
	return errors.Join(lines(json.NewEncoder(buffer), h), buffer.Flush(), file.Close())
}

// lines encodes each operation with its kind, "write", "read" or "register".
func lines(e *json.Encoder, h *checker.History) error {
	line := func(kind string, op any) error { return e.Encode(map[string]any{kind: op}) }
	for _, ops := range h.Writes {
		for _, op := range ops {
			if err := line("write", op); err != nil {
				return err
			}
		}
	}
	for _, op := range h.Reads {
		if err := line("read", op); err != nil {
			return err
		}
	}
	for _, op := range h.Registers {
		if err := line("register", op); err != nil {
			return err
		}
	}
	return nil
}
