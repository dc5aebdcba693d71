package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"standfast/postgres"
	"standfast/test/netlab"
	"standfast/test/netlab/peers"
	"standfast/test/netlab/site"
)

// pathRun is pgbench -S from another host, by each way to the same server: transactions per second, medians of some rounds that
// take the ways in turn. The fast path is switched on and off at run time, so directly is measured beside either.
type pathRun struct {
	Clients     int     `json:"clients"`
	Direct      float64 `json:"direct_tps"`       // while the fast path was off
	HAProxy     float64 `json:"haproxy_tps"`      // on the primary's host, in TCP mode
	Router      float64 `json:"router_tps"`       // through the floating address, fast path off
	DirectBeam  float64 `json:"direct_again_tps"` // while it was on
	FastPath    float64 `json:"fast_path_tps"`    // through the floating address, fast path on
	LoadAverage string  `json:"load_average"`
}

func (p pathRun) kind() string { return strconv.Itoa(p.Clients) }

const (
	pathRounds  = 3
	haproxyPort = 6000
)

// besideHAProxyConfig has it do nothing but carry bytes.
const besideHAProxyConfig = `global
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 30m
  timeout server 30m
listen primary
  bind *:%d
  server primary %s:5432
`

// comparePaths measures what is not there yet.
func comparePaths(ctx context.Context, l limits, to *results) (err error) {
	done := parseDone(to.done())
	todo := slices.DeleteFunc([]int{1, 16, 64}, func(clients int) bool { return done["paths/"+strconv.Itoa(clients)] > 0 })
	if len(todo) == 0 {
		return nil
	}
	s, err := startStack(ctx, "standfast") // by default detection is balanced: nobody is to take a busy primary for a dead one
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	to.with = s.With()
	p, err := newPaths(ctx, s, l.seconds)
	if err != nil {
		return err
	}
	for _, clients := range todo {
		r, err := p.compare(ctx, clients)
		if err != nil {
			return fmt.Errorf("%d clients: %w", clients, err)
		}
		fmt.Fprintf(os.Stderr, "pgbench -S, %d clients: direct %.0f, HAProxy %.0f, router %.0f; direct %.0f, fast path %.0f\n", clients, r.Direct, r.HAProxy, r.Router, r.DirectBeam, r.FastPath)
		if err := to.add("paths", r); err != nil {
			return err
		}
	}
	return nil
}

// paths are the ways to one server.
type paths struct {
	stack   peers.Stack
	primary *netlab.Host
	pgbench string
	seconds int
}

func newPaths(ctx context.Context, s peers.Stack, seconds int) (*paths, error) {
	dir, _, err := postgres.FindBinDir("")
	if err != nil {
		return nil, err
	}
	primary, err := s.Whole(ctx)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(primary.Root(), "etc/haproxy/haproxy.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, besideHAProxyConfig, haproxyPort, primary.Addr), 0o644); err != nil {
		return nil, err
	}
	if _, err := primary.Run(ctx, "systemctl", "restart", "haproxy"); err != nil {
		return nil, err
	}
	p := &paths{s, primary, filepath.Join(dir, "pgbench"), seconds}
	_, err = p.run(ctx, primary.Addr.String(), site.PostgresPort, "-i", "-q", "-s", "10")
	return p, err
}

// compare measures one number of clients.
func (p *paths) compare(ctx context.Context, clients int) (pathRun, error) {
	r := pathRun{Clients: clients, LoadAverage: loadAverage()}
	host, floating := p.primary.Addr.String(), site.Floating.String()
	for _, phase := range []struct {
		fast bool
		ways []way
	}{
		{false, []way{{&r.Direct, host, site.PostgresPort}, {&r.HAProxy, host, haproxyPort}, {&r.Router, floating, site.WritePort}}},
		{true, []way{{&r.DirectBeam, host, site.PostgresPort}, {&r.FastPath, floating, site.WritePort}}},
	} {
		if err := p.fastPath(ctx, phase.fast); err != nil {
			return r, err
		}
		if err := p.inTurn(ctx, clients, phase.ways); err != nil {
			return r, err
		}
	}
	return r, nil
}

// way leads to the server; its median goes to tps.
type way struct {
	tps  *float64
	host string
	port int
}

func (p *paths) inTurn(ctx context.Context, clients int, ways []way) error {
	rounds := make([][]float64, len(ways))
	for range pathRounds {
		for i, w := range ways {
			out, err := p.run(ctx, w.host, w.port, "-S", "-M", "prepared", "-n", "-T", strconv.Itoa(p.seconds), "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)))
			if err != nil {
				return err
			}
			tps, err := parseTPS(out)
			if err != nil {
				return err
			}
			rounds[i] = append(rounds[i], tps)
		}
	}
	for i, w := range ways {
		slices.Sort(rounds[i])
		*w.tps = rounds[i][pathRounds/2]
	}
	return nil
}

// run runs pgbench on the client, which is another host than the server's.
func (p *paths) run(ctx context.Context, host string, port int, args ...string) (string, error) {
	args = append(args, "-h", host, "-p", strconv.Itoa(port), "-U", "app", "app")
	cmd := p.stack.Lab().Command(ctx, p.pgbench, args...)
	cmd.Env = append(os.Environ(), "PGSSLMODE=disable")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgbench %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// tpsLine is pgbench's last.
var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

func parseTPS(out string) (float64, error) {
	m := tpsLine.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench says no tps: %s", out)
	}
	return strconv.ParseFloat(m[1], 64)
}

// fastPath switches it and waits until the primary's host has, or no longer has, its rules. They count; the table alone says nothing, for
// it stays, empty.
func (p *paths) fastPath(ctx context.Context, on bool) error {
	if _, err := p.primary.Run(ctx, "standfast", "config", "set", fmt.Sprintf("router.fast_path=%t", on)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		out, err := p.primary.Shell(ctx, "nft list ruleset")
		if err == nil && strings.Contains(out, "counter") == on {
			return nil
		}
		if !rest(ctx, 200*time.Millisecond) {
			return fmt.Errorf("switch the fast path (%t): %w: %v: %s", on, context.Cause(ctx), err, out)
		}
	}
}
