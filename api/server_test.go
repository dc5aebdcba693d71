package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"standfast/cluster"
	"standfast/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certificate makes a self-signed certificate for 127.0.0.1, and what a client needs to trust it.
func certificate(tb testing.TB) (server, client *tls.Config) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

// startBoth runs a server with both sides and returns their addresses and a client that trusts it.
func startBoth(t *testing.T, cfg Config) (plain, secure string, c *http.Client) {
	t.Helper()
	server, trust := certificate(t)
	cfg.Health, cfg.Admin, cfg.TLS, cfg.Tokens = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}, server, oneToken
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	h, a := s.Addrs()
	tr := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return h[0].String(), a[0].String(), &http.Client{Transport: tr}
}

func TestTLS(t *testing.T) {
	ops := &operator{steps: []Progress{{Text: "failover is on again"}}}
	plain, secure, c := startBoth(t, Config{Source: fixed(sample("pg1")), Ops: ops})
	request := func(method, url, token string) (int, string) {
		r, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := c.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	_, port, _ := net.SplitHostPort(secure)
	for _, q := range []struct {
		method, url, token string
		code               int
		body               string
	}{
		{"POST", "https://" + secure + "/resume", "secret", 200, "failover is on again\n"},
		{"POST", "https://" + secure + "/resume", "", 401, "Authorization"},
		{"POST", "https://" + secure + "/resume", "wrong", 401, "not one of"},
		{"GET", "https://" + secure + "/status", "", 200, `"schema":1`},
		{"GET", "https://" + secure + "/primary", "", 200, `"role":"primary"`},
		{"POST", "http://" + plain + "/resume", "secret", 403, "https on port " + port},
		{"GET", "http://" + plain + "/primary", "", 200, `"role":"primary"`},
		{"OPTIONS", "http://" + plain + "/primary", "", 200, ""},
		{"POST", "http://" + secure + "/resume", "secret", 400, "HTTPS server"},
	} {
		if code, body := request(q.method, q.url, q.token); code != q.code || !strings.Contains(body, q.body) {
			t.Errorf("%s %s (%q): %d %q", q.method, q.url, q.token, code, body)
		}
	}
	if len(ops.asked) != 1 {
		t.Errorf("asked %v", ops.asked)
	}
}

// TestOptionsAsterisk: what some balancers send, and net/http would answer by itself with 200.
func TestOptionsAsterisk(t *testing.T) {
	addr := startPlain(t, Config{Source: fixed(sample("pg2"))})
	for _, line := range []string{"OPTIONS * HTTP/1.1", "OPTIONS / HTTP/1.0", "HEAD /master HTTP/1.0"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "%s\r\nHost: x\r\nConnection: close\r\n\r\n", line)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == 200 {
			t.Errorf("%s on a standby is 200", line)
		}
		_ = c.Close()
	}
}

// unhurried is far above what a busy machine takes for anything here, and far below what checks take that wait in line
// behind stuck clients: those are dropped after 3 to 5 s each.
const unhurried = 30 * time.Second

// TestSlowClients: clients that send a byte now and then, never read, or say nothing don't delay a check, and are dropped.
func TestSlowClients(t *testing.T) {
	addr := startPlain(t, Config{Source: fixed(sample("pg1")), MaxPerRemote: 100})
	var slow []net.Conn
	for i := range 90 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		switch i % 3 {
		case 0: // half a request
			fmt.Fprint(c, "GET /primary HTTP/1.1\r\nHost: x\r\nX-Slow: ")
			slow = append(slow, c)
		case 1: // many requests, no answer read
			fmt.Fprint(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 20))
		}
	}
	until := time.Now().Add(unhurried) // for all of them
	for i := range 200 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(until)
		ask(t, c, bufio.NewReader(c), checkRequest+"Connection: close\r\n\r\n")
		_ = c.Close()
		if t.Failed() {
			t.Fatalf("%d checks of 200 were answered beside stuck clients, and no more within %v", i, unhurried)
		}
	}
	for _, c := range slow { // the server ends them; a byte now and then does not buy more time
		_ = c.SetDeadline(time.Now().Add(unhurried))
		fmt.Fprint(c, "a")
		// It ends by RST where the byte came too late to be read: that is a drop as well.
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("a slow client was not dropped: %v", err)
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	src := fixed(sample("pg1"))
	addr := startPlain(t, Config{Source: src, MaxPerRemote: 3})
	open := func(from string) (net.Conn, bool) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, checkRequest+"\r\n")
		_, err = http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "OPTIONS"})
		return c, err == nil
	}
	var conns []net.Conn
	for i := range 5 {
		c, ok := open("127.0.0.1")
		defer c.Close()
		conns = append(conns, c)
		if ok != (i < 3) {
			t.Errorf("connection %d from one host: %v", i+1, ok)
		}
	}
	other, ok := open("127.0.0.2")
	defer other.Close()
	if !ok {
		t.Error("another host is refused too")
	}
	_ = conns[0].Close()
	for deadline := time.Now().Add(5 * time.Second); ; { // the server learns of the end by reading
		c, ok := open("127.0.0.1")
		_ = c.Close()
		if ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a closed connection is not given back")
		}
	}
}

// TestSwapping: many readers while the agent publishes. Each answer fits one of the two Statuses, never a mixture.
func TestSwapping(t *testing.T) {
	one, two := sample("pg1"), sample("pg1")
	two.Primary, two.Term = "pg2", 6
	two.Me().Role, two.Me().Writable = Standby, false
	src := fixed(one)
	h := newHealth(src, time.Minute, time.Now)
	h.metrics = newMetrics(h.boards, &h.tally)
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			next := *one
			if i%2 == 1 {
				next = *two
			}
			src.Store(&next)
		}
	})
	for _, path := range []string{"/primary", "/replica?lag=1MB", "/status", "/cluster", "/metrics"} {
		for range 2 {
			readers.Go(func() {
				for range 200 {
					w := get(h, "GET", path, "application/json")
					leads := strings.Contains(w.Body.String(), `"role":"primary"`)
					if path == "/primary" && leads != (w.Code == 200) {
						t.Errorf("%d with %s", w.Code, w.Body)
						return
					}
				}
			})
		}
	}
	readers.Wait()
	close(stop)
	writers.Wait()
}

// TestMetrics parses /metrics as Prometheus does, in both formats, and lints our names. Patroni's are its own, and break
// the rules of naming.
func TestMetrics(t *testing.T) {
	st := sample("pg2")
	h := newHealth(fixed(st), time.Hour, time.Now)
	h.metrics = newMetrics(h.boards, &h.tally)
	get(h, "GET", "/primary", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(get(h, "GET", "/metrics", "").Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"standfast_term", "standfast_member_lag_bytes", "standfast_router_connections_total", "patroni_xlog_received_location",
		"patroni_postgres_state", "go_goroutines", "process_resident_memory_bytes", "standfast_api_responses_total"} {
		if found[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if v := found["patroni_xlog_received_location"].GetMetric()[0].GetGauge().GetValue(); v != 0x5000060 {
		t.Errorf("patroni_xlog_received_location is %v", v)
	}
	open := get(h, "GET", "/metrics", "application/openmetrics-text; version=1.0.0")
	if body := open.Body.String(); !strings.HasSuffix(body, "# EOF\n") || !strings.Contains(body, "\npatroni_xlog_location{") {
		t.Errorf("OpenMetrics: %s %.300s", open.Header().Get("Content-Type"), body)
	}
}

func TestMetricsLint(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	c := &collector{newHealth(fixed(sample("pg2")), time.Hour, time.Now).boards, &tally{}}
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	gathered, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(gathered).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Metric, "patroni_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if all, err := promlint.New(strings.NewReader("# TYPE x counter\nx 1\n")).Lint(); err != nil || len(all) == 0 {
		t.Errorf("the linter finds nothing wrong with a counter without _total: %v, %v", all, err)
	}
}

// TestOldMeasurementsAreLeftOut: what was measured is told for a minute, then only its age; what the agent saw, while it is at work.
func TestOldMeasurementsAreLeftOut(t *testing.T) {
	scrape := func(st *Status) string {
		h := newHealth(fixed(st), time.Minute, clock)
		h.metrics = newMetrics(h.boards, &h.tally)
		return get(h, "GET", "/metrics", "").Body.String()
	}
	st := sample("pg1")
	st.Observed, st.Measured = clock(), measured(clock().Add(-59*time.Second))
	st.Measured.Postgres.At = clock().Add(-61 * time.Second)
	body := scrape(st)
	for line, want := range map[string]bool{
		`standfast_measurement_age_seconds{of="postgres"} 61`: true, `standfast_measurement_age_seconds{of="host"} 59`: true,
		"\nstandfast_postgres_max_connections": false, "\nstandfast_disk_free_bytes": true, "\nstandfast_term 5": true, "\nstandfast_agent_up 1": true,
	} {
		if strings.Contains(body, line) != want {
			t.Errorf("%q: %v", line, !want)
		}
	}
	st.Observed = clock().Add(-2 * time.Minute)
	body = scrape(st)
	for line, want := range map[string]bool{
		"\nstandfast_agent_up 0": true, "\nstandfast_info{": true, "\nstandfast_disk_free_bytes": true,
		"\nstandfast_term": false, "\nstandfast_member_up": false, "\npatroni_primary": false,
	} {
		if strings.Contains(body, line) != want {
			t.Errorf("with a stuck agent, %q: %v", line, !want)
		}
	}
}

// TestOddNames: a database that bears the name of the others' sum costs its own samples at most.
func TestOddNames(t *testing.T) {
	st := sample("pg1")
	st.Measured.Postgres.Databases = []measure.Database{{Name: measure.Others, Size: -1}, {Name: measure.Others, Size: -1}}
	h := newHealth(fixed(st), time.Hour, time.Now)
	h.metrics = newMetrics(h.boards, &h.tally)
	if w := get(h, "GET", "/metrics", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "\nstandfast_term 5") {
		t.Errorf("%d %.200s", w.Code, w.Body)
	}
}

// TestSeriesAreBounded: a member of three with as much as is ever listed has so many series, and no more.
func TestSeriesAreBounded(t *testing.T) {
	st := sample("pg1")
	p := st.Measured.Postgres
	p.Databases, p.Slots, p.Receivers = nil, nil, nil
	for i := range measure.MostDatabases + 1 {
		p.Databases = append(p.Databases, measure.Database{Name: fmt.Sprint("d", i)})
	}
	for i := range measure.MostSlots {
		p.Slots = append(p.Slots, measure.Slot{Name: fmt.Sprint("s", i), Type: "physical", Status: "reserved"})
	}
	for i := range measure.MostReceivers {
		p.Receivers = append(p.Receivers, measure.Receiver{Name: fmt.Sprint("r", i)})
	}
	sent := make(chan prometheus.Metric, 10000)
	(&collector{newHealth(fixed(st), time.Hour, time.Now).boards, &tally{}}).Collect(sent)
	close(sent)
	if n := len(sent); n < 1000 || n > 1300 {
		t.Errorf("%d series", n)
	}
}

// TestPromtool has Prometheus's own linter look at the metrics. Patroni's names are Patroni's.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool (Debian's package prometheus)")
	}
	h := newHealth(fixed(sample("pg1")), time.Hour, time.Now)
	h.metrics = newMetrics(h.boards, &h.tally)
	var ours strings.Builder
	for line := range strings.Lines(get(h, "GET", "/metrics", "").Body.String()) {
		if !strings.Contains(line, "patroni_") {
			ours.WriteString(line)
		}
	}
	check := func(text string) (string, error) {
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := check(ours.String()); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	if out, err := check("# HELP x y\n# TYPE x counter\nx 1\n"); err == nil {
		t.Errorf("promtool finds nothing wrong with a counter without _total: %s", out)
	}
}

// TestMetricsEverywhere: in every situation the metrics are gathered without an error (a duplicate, a wrong label).
func TestMetricsEverywhere(t *testing.T) {
	for _, s := range situations() {
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(&collector{healthOf(s.st).boards, &tally{}})
		if _, err := r.Gather(); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

// TestDescribed: what PRODUCT's dashboards need has a help text, and every metric is in use.
func TestDescribed(t *testing.T) {
	st := sample("pg2")
	st.PausedUntil, st.Store.Size = clock(), 1
	st.Members = append(st.Members, Member{Member: cluster.Member{Name: "pg5"}, Role: Standby, State: Unreachable})
	c := &collector{newHealth(fixed(st), time.Hour, time.Now).boards, &tally{}}
	sent := make(chan prometheus.Metric, 10000)
	c.Collect(sent)
	close(sent)
	used := map[*prometheus.Desc]bool{}
	for m := range sent {
		used[m.Desc()] = true
	}
	for _, f := range families {
		if !used[f.desc] {
			t.Errorf("declared and never sent: %s", f.desc)
		}
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Source: fixed(nil), Health: []string{"127.0.0.1:0", l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the port is taken") || !strings.Contains(err.Error(), "ss -ltnp") {
		t.Errorf("got %v", err)
	}
	s, _ = New(Config{Source: fixed(nil), Health: []string{"192.0.2.7:0"}})
	if err = s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "does not have that address") {
		t.Errorf("got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{}, {Source: fixed(nil), TLS: &tls.Config{}}, {Source: fixed(nil), Admin: []string{":8443"}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// TestStopsWithOperations: Run returns only when an operation under way has seen its end.
func TestStopsWithOperations(t *testing.T) {
	server, trust := certificate(t)
	ops := &operator{wait: make(chan struct{}), steps: []Progress{{Text: "begun"}}}
	var log bytes.Buffer
	s, err := New(Config{Source: fixed(sample("pg2")), Health: []string{}, Admin: []string{"127.0.0.1:0"}, TLS: server, Tokens: oneToken, Ops: ops,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	_, admin := s.Addrs()
	tr := &http.Transport{TLSClientConfig: trust}
	defer tr.CloseIdleConnections()
	r, _ := http.NewRequest("POST", "https://"+admin[0].String()+"/resume", nil)
	r.Header.Set("Authorization", "Bearer secret")
	r.Header.Set("Accept", "application/x-ndjson")
	resp, err := (&http.Client{Transport: tr}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	b, _ := io.ReadAll(resp.Body) // what was sent before the end; the connection may be cut
	_ = resp.Body.Close()
	if !strings.Contains(string(b), "begun") || !strings.Contains(log.String(), "change failed") {
		t.Errorf("got %q, log %q", b, log.String())
	}
}
