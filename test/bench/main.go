// Command bench measures what the project promises in figures, on this machine, and writes them down: raw results as JSON
// lines under docs/bench, the tables of docs/BENCHMARKS.md, and the pictures in docs/img. It runs from the module's root:
//
//	go run ./test/bench                        all of it, about half an hour
//	go run ./test/bench -only failover,idle    some sections, as -h lists them
//	go run ./test/bench -resume                what an interrupted run has not measured yet
//	go run ./test/bench -only report           the tables and pictures anew, from the raw results
//	go run ./test/bench -only peers,paths,report -resume
//	                                           whole machines, beside other stacks, forty minutes, as root; -stacks,
//	                                           -faults, -runs and -peer-runs choose from it
//
// Run by root, what runs PostgreSQL does so as the user postgres.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"standfast/test/system/rig"
)

// sections in the order in which they are measured. The report is always written. Those of whole machines are measured only if they
// are named.
var sections = []string{"failover", "health", "idle", "router", "peers", "paths", "report"}

const usual = "failover,health,idle,router,report"

// limits are what the flags say.
type limits struct {
	only     []string
	rounds   int // failovers of each kind
	seconds  int // of each run of pgbench
	stacks   []string
	faults   string // parts of names, separated by commas; "": all
	runs     int    // of each fault on Standfast, beside peers
	peerRuns int    // of each fault on each peer
	resume   bool
	docs     string
}

func (l limits) wants(section string) bool { return slices.Contains(l.only, section) }

func main() {
	l, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, l)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}
	os.Exit(code)
}

func parse(args []string) (limits, error) {
	var l limits
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := f.String("only", usual, "of the sections "+strings.Join(sections, ", ")+", separated by commas")
	f.IntVar(&l.rounds, "rounds", 20, "failovers of each kind")
	f.IntVar(&l.seconds, "seconds", 4, "of each run of pgbench; there are five for each number beside HAProxy")
	which := f.String("stacks", strings.Join(stacks, ","), "for the section peers, separated by commas")
	f.StringVar(&l.faults, "faults", "", "for the section peers: parts of faults' names, separated by commas; all if empty")
	f.IntVar(&l.runs, "runs", 10, "for the section peers: of each fault on Standfast")
	f.IntVar(&l.peerRuns, "peer-runs", 3, "for the section peers: of each fault on each other stack")
	f.BoolVar(&l.resume, "resume", false, "keep the results that are there and measure the rest")
	f.StringVar(&l.docs, "docs", "docs", "where bench/, img/ and BENCHMARKS.md are")
	if err := f.Parse(args); err != nil {
		return l, err
	}
	l.only, l.stacks = strings.Split(*only, ","), strings.Split(*which, ",")
	for _, s := range l.stacks {
		if !slices.Contains(stacks, s) {
			return l, fmt.Errorf("there is no stack %q; there are %s", s, strings.Join(stacks, ", "))
		}
	}
	for _, s := range l.only {
		if !slices.Contains(sections, s) {
			return l, fmt.Errorf("there is no section %q; there are %s", s, strings.Join(sections, ", "))
		}
	}
	if l.rounds < 1 || l.seconds < 1 {
		return l, errors.New("-rounds and -seconds are at least 1")
	}
	return l, nil
}

// run measures in two selves: the first, as whoever called, writes the results; the second, as a user that PostgreSQL can
// run as, runs the cluster and sends the first what it measured.
func run(ctx context.Context, l limits) (int, error) {
	if rig.Second() {
		if _, _, err := rig.Again(nil); err != nil {
			return 1, err
		}
		return 0, measure(ctx, l)
	}
	to, err := openResults(filepath.Join(l.docs, "bench"), l)
	if err != nil {
		return 1, err
	}
	if l.wants("failover") || l.wants("health") || l.wants("idle") {
		if err := os.Setenv(doneVar, to.done()); err != nil {
			return 1, err
		}
		_, code, err := rig.Again(to)
		if err = errors.Join(err, to.err); err != nil || code != 0 {
			return code, err
		}
	}
	if l.wants("router") {
		if err := besideHAProxy(ctx, l, to); err != nil {
			return 1, err
		}
	}
	for _, s := range []struct {
		name string
		run  func(context.Context, limits, *results) error
	}{{"peers", besidePeers}, {"paths", comparePaths}} {
		if !l.wants(s.name) {
			continue
		}
		if err := s.run(ctx, l, to); err != nil {
			return 1, fmt.Errorf("measure %s: %w", s.name, err)
		}
	}
	return 0, report(l.docs)
}

// measure runs the sections that need a cluster, each on one of its own.
func measure(ctx context.Context, l limits) error {
	done := parseDone(os.Getenv(doneVar))
	for _, s := range []struct {
		name string
		run  func(context.Context, limits, map[string]int) error
	}{{"failover", failovers}, {"health", health}, {"idle", idle}} {
		if !l.wants(s.name) || done[s.name] > 0 {
			continue
		}
		if err := s.run(ctx, l, done); err != nil {
			return fmt.Errorf("measure %s: %w", s.name, err)
		}
	}
	return nil
}
