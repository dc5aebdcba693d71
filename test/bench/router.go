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

// besideHAProxy runs the router's own benchmark, which takes the three ways in turn, five rounds, and reports medians.
func besideHAProxy(ctx context.Context, l limits, to *results) error {
	cmd := exec.CommandContext(ctx, "go", "test", "./router", "-run", "^$", "-bench", "BesideHAProxy", "-timeout", "60m", "-v")
	cmd.Env = append(os.Environ(), "ROUTER_BENCH_SECONDS="+strconv.Itoa(l.seconds))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	fmt.Fprintln(os.Stderr, "pgbench directly, through HAProxy and through the router")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("compare with HAProxy: %w\n%s", err, out.Bytes())
	}
	rows := parseBeside(out.String())
	if len(rows) == 0 {
		return fmt.Errorf("compare with HAProxy: no figures in its output (was it skipped?)\n%s", out.Bytes())
	}
	for _, row := range rows {
		if err := to.add("router", row); err != nil {
			return err
		}
	}
	return nil
}

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
