package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"standfast/test/system/rig"
)

// healthRun is one measurement of the health endpoint.
type healthRun struct {
	Server      string  `json:"server"` // the state of the node's PostgreSQL
	Connections string  `json:"connections"`
	PerSecond   float64 `json:"requests_per_second"`
	MedianUS    float64 `json:"median_us"`
	P99US       float64 `json:"p99_us"`
	MaxMS       float64 `json:"max_ms"`
	Code        int     `json:"code"` // of the last answer
}

const (
	healthTime    = 5 * time.Second
	healthClients = 16
)

// healthServers are the states that the node's PostgreSQL is brought into.
var healthServers = []string{"running", "stopped (SIGSTOP)"}

// health asks a standby's endpoint as a balancer does, while its PostgreSQL is well and while it is stopped (SIGSTOP).
func health(ctx context.Context, _ limits, done map[string]int) (err error) {
	missing := false
	for _, server := range healthServers {
		missing = missing || done["health/"+server+", "+connections(false)] == 0 || done["health/"+server+", "+connections(true)] == 0
	}
	if !missing {
		return nil
	}
	r, err := rig.Start(ctx, rig.Binary())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Stop(err != nil)) }()
	primary, _, err := r.AwaitWhole(ctx, healing)
	if err != nil {
		return err
	}
	n := r.Others(primary)[0]
	addr := fmt.Sprintf("%s:%d", n.Address, r.Ports().Health)
	for _, server := range healthServers {
		if server != healthServers[0] {
			if err := n.Signal(rig.Postgres, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		for _, each := range []bool{false, true} {
			if done["health/"+server+", "+connections(each)] > 0 {
				continue
			}
			h, err := hammer(ctx, addr, each)
			if err != nil {
				return err
			}
			h.Server = server
			fmt.Fprintf(os.Stderr, "health, PostgreSQL %s, %s: %.0f requests/s\n", h.Server, h.Connections, h.PerSecond)
			if err := send("health", h); err != nil {
				return err
			}
		}
	}
	n.Thaw()
	return nil
}

func connections(each bool) string {
	if each {
		return "one for each request"
	}
	return "kept alive"
}

func (h healthRun) kind() string { return h.Server + ", " + h.Connections }

// hammer asks from many connections at once for a while; each: with a connection for every request, as HAProxy's checks.
func hammer(ctx context.Context, addr string, each bool) (healthRun, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	var code int
	var failed error
	var clients sync.WaitGroup
	began := time.Now()
	for range healthClients {
		clients.Go(func() {
			mine, last, err := ask(ctx, addr, each)
			mu.Lock()
			defer mu.Unlock()
			took, code, failed = append(took, mine...), max(code, last), errors.Join(failed, err)
		})
	}
	clients.Wait()
	length := time.Since(began)
	if failed != nil || len(took) == 0 {
		return healthRun{}, fmt.Errorf("ask %s: %d answers, %w", addr, len(took), failed)
	}
	slices.Sort(took)
	h := healthRun{
		Connections: connections(each), PerSecond: float64(len(took)) / length.Seconds(), Code: code,
		MedianUS: micros(took[len(took)/2]), P99US: micros(took[len(took)*99/100]), MaxMS: millis(took[len(took)-1]),
	}
	return h, nil
}

func micros(d time.Duration) float64 { return float64(d.Microseconds()) }

// dialer leaves out what a check has no use for, keep-alive probes and their four system calls.
var dialer = net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}

// ask is one client. It reads whole answers; the one that the end of ctx cuts short does not count.
func ask(ctx context.Context, addr string, each bool) (took []time.Duration, code int, err error) {
	request := "GET /replica HTTP/1.1\r\nHost: bench\r\n"
	if each {
		request += "Connection: close\r\n"
	}
	request += "\r\n"
	var c net.Conn
	var in *bufio.Reader
	for ctx.Err() == nil {
		began := time.Now()
		if c == nil {
			if c, err = dialer.Dial("tcp", addr); err != nil {
				return took, code, err
			}
			in = bufio.NewReader(c)
		}
		if code, err = exchange(c, in, request); err != nil {
			return took, code, errors.Join(err, c.Close())
		}
		took = append(took, time.Since(began))
		if each {
			_ = c.Close() // the server has closed it
			c = nil
		}
	}
	if c != nil {
		_ = c.Close() // nothing is under way
	}
	return took, code, nil
}

func exchange(c net.Conn, in *bufio.Reader, request string) (code int, err error) {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c, request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}
