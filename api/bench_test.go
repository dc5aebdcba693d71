package api

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

const checkRequest = "OPTIONS /primary HTTP/1.1\r\nHost: pg1\r\n"

// ask sends a request as a balancer does and reads the answer.
func ask(tb testing.TB, c net.Conn, r *bufio.Reader, request string) {
	if _, err := io.WriteString(c, request); err != nil {
		tb.Error(err)
		return
	}
	resp, err := http.ReadResponse(r, &http.Request{Method: "OPTIONS"})
	if err != nil {
		tb.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		tb.Errorf("answered %d, %v", resp.StatusCode, err)
	}
}

// BenchmarkKeepAlive is checks over connections that stay open; the client shares the machine with the server.
func BenchmarkKeepAlive(b *testing.B) {
	addr := startPlain(b, Config{Source: fixed(sample("pg1"))})
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for pb.Next() {
			ask(b, c, r, checkRequest+"\r\n")
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// BenchmarkConnectEach is one connection for each check, as HAProxy makes them.
func BenchmarkConnectEach(b *testing.B) {
	addr := startPlain(b, Config{Source: fixed(sample("pg1"))})
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		r := bufio.NewReader(nil)
		for pb.Next() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			r.Reset(c)
			ask(b, c, r, checkRequest+"Connection: close\r\n\r\n")
			_ = c.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// BenchmarkHandler is the work of a check alone, without the network.
func BenchmarkHandler(b *testing.B) {
	h := newHealth(fixed(sample("pg1")), time.Hour, time.Now)
	r, _ := http.NewRequest("GET", "/primary", nil)
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// BenchmarkNewStatus is the same when the agent has published a new Status before each check.
func BenchmarkNewStatus(b *testing.B) {
	src := &swapping{}
	h := newHealth(src, time.Hour, time.Now)
	r, _ := http.NewRequest("GET", "/primary", nil)
	w := &discard{h: http.Header{}}
	base := sample("pg1")
	b.ReportAllocs()
	for b.Loop() {
		next := *base
		src.Store(&next)
		h.ServeHTTP(w, r)
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
