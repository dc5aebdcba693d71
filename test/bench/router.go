package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// besideRun is one row of the comparison: transactions per second of pgbench -S by the way that it took.
type besideRun struct {
	Mode    string  `json:"mode"` // "session", or "connect": one connection for each transaction
	Clients int     `json:"clients"`
	Direct  float64 `json:"direct_tps"`
	HAProxy float64 `json:"haproxy_tps"`
	Router  float64 `json:"router_tps"`
}

// besideKinds are the rows of the comparison, as the router's benchmark names them.
var besideKinds = []string{
	"session/clients=1", "session/clients=16", "session/clients=64", "connect/clients=1", "connect/clients=16", "connect/clients=64",
}

// besideHAProxy runs the router's own benchmark row by row, so that it can be resumed. It takes the three ways in turn, five
// rounds, and reports medians.
func besideHAProxy(ctx context.Context, l limits, to *results) error {
	done := parseDone(to.done())
	for i, kind := range besideKinds {
		if done["router/"+kind] > 0 {
			continue
		}
		fmt.Fprintf(os.Stderr, "router %d/%d: pgbench, %s, directly, through HAProxy and through the router\n", i+1, len(besideKinds), kind)
		row, err := beside(ctx, l, kind)
		if err != nil {
			return fmt.Errorf("compare with HAProxy, %s: %w", kind, err)
		}
		fmt.Fprintf(os.Stderr, "router %d/%d: %.0f, %.0f and %.0f transactions/s\n", i+1, len(besideKinds), row.Direct, row.HAProxy, row.Router)
		if err := to.add("router", row); err != nil {
			return err
		}
	}
	return nil
}

// beside measures one row.
func beside(ctx context.Context, l limits, kind string) (besideRun, error) {
	mode, clients, _ := strings.Cut(kind, "/")
	pattern := fmt.Sprintf("^BenchmarkBesideHAProxy$/^%s$/^%s$", mode, clients)
	cmd := exec.CommandContext(ctx, "go", "test", "./router", "-run", "^$", "-bench", pattern, "-benchtime", "1x", "-timeout", "60m", "-v")
	cmd.Env = append(os.Environ(), "ROUTER_BENCH_SECONDS="+strconv.Itoa(l.seconds))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return besideRun{}, fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	rows := parseBeside(out.String())
	if len(rows) != 1 {
		return besideRun{}, fmt.Errorf("%d figures in its output instead of one (was it skipped?)\n%s", len(rows), out.Bytes())
	}
	return rows[0], nil
}

func (r besideRun) kind() string { return fmt.Sprintf("%s/clients=%d", r.Mode, r.Clients) }

// parseBeside reads go test's lines "BenchmarkBesideHAProxy/session/clients=16-2  1  0 ns/op  9000 direct-tps  …".
func parseBeside(text string) []besideRun {
	var out []besideRun
	in := bufio.NewScanner(strings.NewReader(text))
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "BenchmarkBesideHAProxy/") {
			continue
		}
		path := strings.Split(f[0], "/")
		clients, _, _ := strings.Cut(strings.TrimPrefix(path[len(path)-1], "clients="), "-")
		row := besideRun{Mode: path[1]}
		row.Clients, _ = strconv.Atoi(clients) // 0 shows in the table if the name ever changes
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				break
			}
			switch f[i+1] {
			case "direct-tps":
				row.Direct = v
			case "HAProxy-tps":
				row.HAProxy = v
			case "router-tps":
				row.Router = v
			}
		}
		if row.Router > 0 {
			out = append(out, row)
		}
	}
	return out
}
