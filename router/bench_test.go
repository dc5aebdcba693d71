package router

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// What the environment may set. On a machine that others use too, many short rounds say more than a few long ones.
var (
	benchRounds  = number("ROUTER_BENCH_ROUNDS", 5)
	benchSeconds = number("ROUTER_BENCH_SECONDS", 4) // of each run
	benchWorkers = number("ROUTER_BENCH_WORKERS", 0) // Config.Workers
)

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// BenchmarkBesideHAProxy compares pgbench -S directly, through HAProxy and through the router, in rounds that
// alternate between them, and reports medians. It runs once, whatever -benchtime says:
//
//	go test ./router -run '^$' -bench BesideHAProxy -timeout 60m -v
func BenchmarkBesideHAProxy(b *testing.B) {
	server := startPostgres(b, false)
	pgbench := filepath.Join(server.bin, "pgbench")
	if _, err := os.Stat(pgbench); err != nil {
		b.Skipf("no pgbench: %v", err)
	}
	_, port, _ := net.SplitHostPort(server.addr)
	server.run(b, "pgbench", "-i", "-q", "-s", "10", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "postgres")
	ways := []benchWay{
		{"direct", server.addr},
		{"HAProxy", startHAProxy(b, server.addr)},
		{"router", benchRouter(b, server.addr)},
	}
	b.Logf("%s, %d processors, pgbench -S -M prepared, %d rounds of %d s each, median (min-max) transactions/s", runtime.Version(), runtime.NumCPU(), benchRounds, benchSeconds)
	for _, connect := range []bool{false, true} {
		for _, clients := range []int{1, 16, 64} {
			kind := "session"
			if connect {
				kind = "connect"
			}
			b.Run(fmt.Sprintf("%s/clients=%d", kind, clients), func(b *testing.B) {
				compare(b, pgbench, ways, clients, connect)
			})
		}
	}
}

type benchWay struct{ name, addr string }

func compare(b *testing.B, pgbench string, ways []benchWay, clients int, connect bool) {
	got := map[string][]float64{}
	var ratios []float64
	for round := range benchRounds {
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			got[w.name] = append(got[w.name], runPgbench(b, pgbench, w.addr, clients, connect))
		}
		ratios = append(ratios, got["router"][round]/got["HAProxy"][round])
	}
	var line strings.Builder
	for _, w := range ways {
		all := got[w.name]
		fmt.Fprintf(&line, "%s %.0f (%.0f-%.0f)  ", w.name, median(all), slices.Min(all), slices.Max(all))
		b.ReportMetric(median(all), w.name+"-tps")
	}
	ofMedians := median(got["router"]) / median(got["HAProxy"])
	fmt.Fprintf(&line, "router/HAProxy %.3f (median of rounds %.3f)", ofMedians, median(ratios))
	b.Log(line.String())
	b.ReportMetric(ofMedians, "of-HAProxy")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+)`)

func runPgbench(b *testing.B, pgbench, addr string, clients int, connect bool) float64 {
	host, port, _ := net.SplitHostPort(addr)
	args := []string{"-n", "-S", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)),
		"-T", strconv.Itoa(benchSeconds), "-h", host, "-p", port, "-U", "postgres"}
	if connect {
		args = append(args, "-C")
	}
	out, err := exec.Command(pgbench, append(args, "postgres")...).CombinedOutput()
	m := tpsLine.FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("pgbench through %s (%d s may be too short for %d clients to begin): %v\n%s", addr, benchSeconds, clients, err, out)
	}
	tps, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return tps
}

// startHAProxy runs HAProxy with its own defaults, in TCP mode.
func startHAProxy(b *testing.B, server string) string {
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		b.Skip("haproxy is not installed, there is nothing to compare with")
	}
	addr := freeAddr(b)
	conf := filepath.Join(b.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`global
	maxconn 1000
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen write
	bind %s
	server pg1 %s
`, addr, server)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(bin, "-db", "-f", conf)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 100 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatalf("haproxy does not listen: %s", out.String())
	return ""
}

func benchRouter(b *testing.B, server string) string {
	r, err := New(Config{Write: []string{"127.0.0.1:0"}, Workers: benchWorkers})
	if err != nil {
		b.Fatal(err)
	}
	r.SetRoute(cluster.Route{Term: 1, Write: "pg1"}, map[string]string{"pg1": server})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return r.Addrs(WriteSide)[0].String()
}
