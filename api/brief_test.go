package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBriefAnswersAsHTTP: whatever is asked, and however it comes, the answer is net/http's.
func TestBriefAnswersAsHTTP(t *testing.T) {
	src := fixed(sample("pg1"))
	quick := startPlain(t, Config{Source: src})
	s, err := New(Config{Source: src, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	other := httptest.NewUnstartedServer(http.HandlerFunc(s.servePlain))
	other.Config.DisableGeneralOptionsHandler = true
	other.Start()
	defer other.Close()
	slow := other.Listener.Addr().String()

	const end = "Connection: close\r\n\r\n"
	for _, parts := range [][]string{
		{"GET /primary HTTP/1.1\r\nHost: pg1:8008\r\n" + end},
		{"GET /replica HTTP/1.1\r\nHost: [::1]:8008\r\nAccept: application/json\r\n" + end},
		{"GET /replica?lag=nonsense HTTP/1.1\r\nHost: x\r\n" + end},
		{"HEAD /primary HTTP/1.1\r\nHost: x\r\n" + end},
		{"OPTIONS / HTTP/1.0\r\n\r\n"},
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n" + end},
		{"GET /primary HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n"},
		{"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n", "GET /replica HTTP/1.1\r\nHost: x\r\n" + end},
		{"GET /primary HTTP/1.1\r\nHost: x\r\n\r\nGET /replica HTTP/1.1\r\nHost: x\r\n" + end},
		{"GET /pri", "mary HTTP/1.1\r\nHost: x\r\n" + end},
		{"", "GET /primary HTTP/1.1\r\nHost: x\r\n" + end},
		{"GET /primary HTTP/1.1\r\n" + end},
		{"GET /primary HTTP/1.1\r\nHost: x\r\nhOST: y\r\n" + end},
		{"GET /primary HTTP/1.1\r\nHost: a b\r\n" + end},
		{"GET /primary HTTP/1.1\r\nHost: x\r\nX-Odd: \x01\r\n" + end},
		{"GET /primary HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n" + end + "abc"},
		{"GET /primary HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n" + end},
		{"GET /primary HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n" + end},
		{"GET /primary HTTP/2.0\r\nHost: x\r\n" + end},
		{"GET http://x/primary HTTP/1.1\r\nHost: x\r\n" + end},
		{"GET /primary HTTP/1.1\nHost: x\nConnection: close\n\n"},
		{"POST /primary HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + end},
		{"GET /nothing HTTP/1.1\r\nHost: x\r\n" + end},
		{"GET /primary HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 8000) + "\r\n" + end},
		{"nonsense\r\n\r\n"},
	} {
		got, want := converse(t, quick, parts), converse(t, slow, parts)
		if !slices.Equal(got, want) {
			t.Errorf("%.80q\nanswered %q\ninstead  %q", parts, got, want)
		}
	}
}

var dateLine = regexp.MustCompile(`Date: [^\r]*`)

// converse sends the parts, a moment apart, and returns the lines of what comes back, sorted: the order of fields is free.
func converse(t *testing.T, addr string, parts []string) []string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	for i, p := range parts {
		if i > 0 {
			time.Sleep(20 * time.Millisecond) // so that it mostly comes by itself; the answer is the same if not
		}
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // there were bytes that nobody wanted
		t.Fatal(err)
	}
	return slices.Sorted(strings.SplitSeq(dateLine.ReplaceAllString(string(text), "Date: now"), "\r\n"))
}

// TestBriefServesItself: the checks of balancers don't reach the HTTP server.
func TestBriefServesItself(t *testing.T) {
	for text, want := range map[string]bool{
		"OPTIONS / HTTP/1.0\r\n\r\n": true,
		"GET /replica?lag=1MB HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n": true,
		"GET /replica HTTP/1.1\r\nHost: x\r\n\r\n":                              false,
		"GET /metrics HTTP/1.0\r\n\r\n":                                         false,
	} {
		b := &brief{health: newHealth(fixed(sample("pg2")), time.Hour, time.Now), text: bufio.NewReader(nil), reply: briefReply{header: http.Header{}}}
		if got := b.serve([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// FuzzBrief: what is answered where the connection is accepted is one request for a check, and its answer is the whole of one
// that says what the HTTP server's would.
func FuzzBrief(f *testing.F) {
	for _, text := range []string{
		"OPTIONS / HTTP/1.0\r\n\r\n",
		"GET /replica?lag=1MB HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"HEAD //primary/ HTTP/1.1\r\nHost: [::1]:8008\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
		"GET /%70rimary HTTP/1.1\r\nHost: x\r\nHost : y\r\n Host: z\r\nConnection: close\r\n\r\n",
		"GET  HTTP/1.0\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	h := healthOf(sample("pg2"))
	f.Fuzz(func(t *testing.T, p []byte) {
		b := &brief{health: h, text: bufio.NewReader(nil), reply: briefReply{header: http.Header{}}}
		if len(p) > briefRequest || !b.serve(p) {
			return
		}
		in := bufio.NewReader(bytes.NewReader(p))
		r, err := http.ReadRequest(in)
		if err != nil || in.Buffered() > 0 {
			t.Fatalf("%q is not one request: %v", p, err)
		}
		want := httptest.NewRecorder()
		h.ServeHTTP(want, r)
		out := bufio.NewReader(bytes.NewReader(b.reply.text))
		got, err := http.ReadResponse(out, r)
		if err != nil {
			t.Fatalf("%q is answered %q: %v", p, b.reply.text, err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || out.Buffered() > 0 || got.StatusCode != want.Code || r.Method != http.MethodHead && string(body) != want.Body.String() {
			t.Fatalf("%q is answered %q, want %d %q: %v", p, b.reply.text, want.Code, want.Body, err)
		}
	})
}
