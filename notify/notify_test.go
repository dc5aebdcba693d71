package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"standfast/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log collects lines.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// begin runs a notifier until the test ends.
func begin(t *testing.T, s *Settings) (*Notifier, *log) {
	t.Helper()
	l := &log{}
	n := New(Config{Version: "1", Log: slog.New(slog.NewTextHandler(l, nil)), first: 5 * time.Millisecond})
	if s != nil {
		n.Set(*s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n, l
}

func event(id string) api.Event {
	return api.Event{ID: id, At: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), Cluster: "main", Member: "pg1", Kind: "primary", Severity: api.Warning, Text: "pg1 is the primary of term 7", Term: 7, About: "pg1"}
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// told is how the only one stands who is told.
func told(n *Notifier) api.Told {
	if s := n.Status(); len(s) == 1 {
		return s[0]
	}
	return api.Told{To: "not one"}
}

// server is a web server that answers as it is told to, and keeps what it was sent.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	answer http.HandlerFunc
	bodies []string
	last   *http.Request
}

func newServer(t *testing.T, answer http.HandlerFunc) *server {
	s := &server{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.bodies, s.last = append(s.bodies, string(body)), r
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) become(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *server) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

func says(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); fmt.Fprint(w, text) }
}

// TestWebhook: each event as JSON, by a POST that says who sends and which event it is.
func TestWebhook(t *testing.T) {
	s := newServer(t, says(204, ""))
	n, _ := begin(t, &Settings{Webhook: s.URL + "/hook"})
	n.Tell(event("a"))
	within(t, "it is sent", func() bool { return told(n).Sent == 1 })
	want := `{"id":"a","at":"2026-01-02T15:04:05Z","cluster":"main","member":"pg1","kind":"primary","severity":"warning","text":"pg1 is the primary of term 7","term":7,"about":"pg1"}`
	if got := s.got(); len(got) != 1 || got[0] != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if r := s.last; r.Method != "POST" || r.URL.Path != "/hook" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("User-Agent") != "standfast/1" || r.Header.Get("Idempotency-Key") != `"a"` {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
}

// TestFailsAndRecovers: what could not be told is told in order once it can be; the failure is logged once, shown meanwhile, without the
// address; nobody who tells is held up.
func TestFailsAndRecovers(t *testing.T) {
	s := newServer(t, says(503, "s3cret is  being\nupgraded"))
	n, l := begin(t, &Settings{Webhook: strings.Replace(s.URL, "http://", "http://u:pass1234@", 1) + "/hooks/s3cret?k=s3cret"})
	for i := range 3 {
		n.Tell(event(fmt.Sprint(i)))
	}
	within(t, "several attempts", func() bool { return len(s.got()) > 3 })
	got := told(n)
	if got.Sent != 0 || got.Waiting != 3 || got.Failing.IsZero() || got.Error != "it answers 503 Service Unavailable *** is being upgraded" || got.Where != s.URL+"/***" {
		t.Errorf("while it fails: %+v", got)
	}
	s.become(says(200, "ok"))
	within(t, "all are told", func() bool { return told(n).Sent == 3 })
	if got := told(n); got.Waiting != 0 || !got.Failing.IsZero() || got.Error != "" {
		t.Errorf("afterwards: %+v", got)
	}
	bodies := s.got()
	for i, b := range bodies[len(bodies)-3:] {
		if !strings.Contains(b, fmt.Sprintf(`"id":"%d"`, i)) {
			t.Errorf("place %d: %s", i, b)
		}
	}
	if text := l.String(); strings.Count(text, "\n") != 2 || strings.Contains(text, "s3cret") || strings.Contains(text, "pass1234") || !strings.Contains(text, "told again") {
		t.Errorf("log:\n%s", text)
	}
}

// TestHangs: an attempt has its bound, and holds up neither whoever tells nor the others who are told.
func TestHangs(t *testing.T) {
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	other := newServer(t, says(200, ""))
	n, _ := begin(t, &Settings{Webhook: s.URL, Chat: other.URL, Timeout: 100 * time.Millisecond})
	n.Tell(event("a"))
	within(t, "the chat is told, and the webhook's attempt is ended", func() bool {
		st := n.Status()
		return st[1].Sent == 1 && strings.Contains(st[0].Error, "not done within 100ms")
	})
	s.become(says(200, ""))
	within(t, "it is told after all", func() bool { return n.Status()[0].Sent == 1 })
}

// TestNobodyThere, and the address changes: what waits goes to the new one at once, whatever rest was left.
func TestNobodyThere(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	n, _ := begin(t, &Settings{Webhook: gone.URL + "/s3cret"})
	n.lanes[0].first = time.Hour
	n.Tell(event("a"))
	within(t, "the failure", func() bool { return told(n).Error != "" })
	if e := told(n).Error; !strings.Contains(e, "connection refused") || strings.Contains(e, "s3cret") {
		t.Errorf("error: %s", e)
	}
	s := newServer(t, says(200, ""))
	n.Set(Settings{Webhook: s.URL})
	within(t, "the new one is told", func() bool { return told(n).Sent == 1 && told(n).Where == s.URL+"/***" })
	n.Set(Settings{})
	if n.Tell(event("b")); len(n.Status()) != 0 {
		t.Errorf("nobody is to be told: %+v", n.Status())
	}
}

// TestRefused: an event that is never accepted holds up no other; a redirection is no success.
func TestRefused(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/s3cret", http.StatusFound) })
	n, _ := begin(t, &Settings{Webhook: s.URL})
	n.Tell(event("a"))
	within(t, "the redirection is told", func() bool { return strings.Contains(told(n).Error, "it answers 302") })
	s.become(func(w http.ResponseWriter, _ *http.Request) {
		if b := s.got(); strings.Contains(b[len(b)-1], `"a"`) {
			w.WriteHeader(400)
		}
	})
	n.Tell(event("b"))
	within(t, "the other is told", func() bool { return told(n).Sent == 1 && told(n).GivenUp == 1 })
}

// TestBounds: the newest wait, the rest is counted; what is too old is given up.
func TestBounds(t *testing.T) {
	n := New(Config{Log: slog.New(slog.DiscardHandler)})
	n.Set(Settings{Webhook: "http://127.0.0.1:1/"})
	for i := range waiting + 7 {
		n.Tell(event(fmt.Sprint(i)))
	}
	l := n.lanes[0]
	if got := told(n); got.Waiting != waiting || got.GivenUp != 7 || l.queue[0].event.ID != "7" {
		t.Errorf("%+v, the first is %s", got, l.queue[0].event.ID)
	}
	l.queue[0].since = time.Now().Add(-2 * patience)
	_, _, batch := l.next()
	rest := l.settle(l.target, batch, io.EOF)
	if got := told(n); got.Waiting != waiting-1 || got.GivenUp != 8 || rest != firstRest {
		t.Errorf("the old one: %+v, rest %v", got, rest)
	}
	for range 20 {
		_, _, batch = l.next()
		rest = l.settle(l.target, batch, io.EOF)
	}
	if rest != longestRest || told(n).Waiting != waiting-1 {
		t.Errorf("after 21 failures: rest %v, %+v", rest, told(n))
	}
}

// TestBeforeItIsKnown: what happens before the settings are known is told once they are.
func TestBeforeItIsKnown(t *testing.T) {
	s := newServer(t, says(200, ""))
	n, _ := begin(t, nil)
	small := event("info")
	small.Severity = api.Info
	n.Tell(small)
	n.Tell(event("a"))
	n.Set(Settings{Webhook: s.URL})
	within(t, "it is told", func() bool { return told(n).Sent == 1 })
	if got := s.got(); !strings.Contains(got[0], `"id":"a"`) {
		t.Errorf("got %q", got)
	}
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		kind     string
		severity api.Severity
		least    api.Severity
		want     bool
	}{
		{"work", api.Info, api.Info, true}, {"work", api.Info, api.Warning, false}, {"work", api.Warning, api.Warning, true}, {"warning", api.Warning, api.Critical, false},
		{"warning", api.Critical, api.Critical, true}, {"cleared", api.Info, api.Warning, true}, {"heard", api.Info, api.Warning, true}, {"cleared", api.Info, api.Critical, false},
	} {
		if got := Wanted(api.Event{Kind: c.kind, Severity: c.severity}, c.least); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestChat: events that come together are one message, and nothing in them calls everybody, makes a link or a second line.
func TestChat(t *testing.T) {
	s := newServer(t, says(200, "ok"))
	n, _ := begin(t, &Settings{Chat: s.URL, AtLeast: api.Info})
	n.lanes[1].gather = 50 * time.Millisecond
	bad := event("b")
	bad.Severity, bad.Text, bad.Member = api.Critical, "@channel <http://x|y> & more\nlines", "pg2"
	n.Tell(event("a"))
	n.Tell(bad)
	within(t, "both are told", func() bool { return told(n).Sent == 2 })
	got := s.got()
	var m map[string]string
	if len(got) != 1 || json.Unmarshal([]byte(got[0]), &m) != nil || len(m) != 1 {
		t.Fatalf("got %q", got)
	}
	want := "🟠 main: pg1 is the primary of term 7 (pg1, 2026-01-02 15:04:05 UTC)\n🔴 main: @\u200bchannel &lt;http://x|y&gt; &amp; more lines (pg2, 2026-01-02 15:04:05 UTC)"
	if m["text"] != want {
		t.Errorf("got\n%s\nwant\n%s", m["text"], want)
	}
	long := event("c")
	long.Text = strings.Repeat("ü", 2*longest)
	if text := Chat([]api.Event{long}); len([]rune(text)) > longest+100 || !strings.Contains(text, "ü… (pg1") {
		t.Errorf("a long one: %s", text)
	}
}

// TestCommand: it has the event in its environment and on its standard input; one that fails is run again.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	out, ready := filepath.Join(dir, "out"), filepath.Join(dir, "ready")
	n, _ := begin(t, &Settings{Command: fmt.Sprintf(`[ -e %s ] || exit 3; { env | grep ^STANDFAST_ | sort; cat; } >%s`, ready, out)})
	e := event("a")
	e.Text, e.By = "two\nlines\x00", "anna"
	n.Tell(e)
	within(t, "it fails", func() bool { return told(n).Error == "exit status 3" })
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, "it is run again", func() bool { return told(n).Sent == 1 })
	got, err := os.ReadFile(out)
	want := "STANDFAST_ABOUT=pg1\nSTANDFAST_AT=2026-01-02T15:04:05Z\nSTANDFAST_BY=anna\nSTANDFAST_CLUSTER=main\nSTANDFAST_EVENT=primary\nSTANDFAST_ID=a\n" +
		"STANDFAST_MEMBER=pg1\nSTANDFAST_SEVERITY=warning\nSTANDFAST_TERM=7\nSTANDFAST_TEXT=two\n" +
		`{"id":"a","at":"2026-01-02T15:04:05Z","cluster":"main","member":"pg1","kind":"primary","severity":"warning","text":"two\nlines\u0000","term":7,"about":"pg1","by":"anna"}` + "\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

// TestCommandThatReadsNothing, of an event that no pipe holds.
func TestCommandThatReadsNothing(t *testing.T) {
	n, _ := begin(t, &Settings{Command: "exit 0"})
	e := event("a")
	e.Facts = map[string]string{"long": strings.Repeat("x", 1<<20)}
	n.Tell(e)
	within(t, "it is told", func() bool { return told(n).Sent == 1 })
}

func TestSyslogLine(t *testing.T) {
	e := event("a")
	e.Text = "two\n lines"
	want := `two lines id="a" cluster="main" member="pg1" kind="primary" severity="warning" term="7" about="pg1"`
	if got := Syslog(e); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	f := fields(e)
	if f["STANDFAST_KIND"] != "primary" || f["STANDFAST_TERM"] != "7" || f["SYSLOG_IDENTIFIER"] != "standfast-event" || !json.Valid([]byte(f["STANDFAST_JSON"])) {
		t.Errorf("fields: %v", f)
	}
	if _, there := f["STANDFAST_BY"]; there {
		t.Error("a field without a value")
	}
}
