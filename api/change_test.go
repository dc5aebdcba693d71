package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// operator is an Ops that notes what it is asked for and ends as told.
type operator struct {
	mu    sync.Mutex
	asked []string
	steps []Progress
	err   error
	wait  chan struct{} // with it, an operation lasts until it is closed or its context ends
}

func (o *operator) do(ctx context.Context, request any, progress func(Progress)) error {
	o.mu.Lock()
	o.asked = append(o.asked, fmt.Sprintf("%T%+v", request, request))
	steps, err := o.steps, o.err
	o.mu.Unlock()
	for _, s := range steps {
		progress(s)
	}
	if o.wait != nil {
		select {
		case <-o.wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (o *operator) Switchover(ctx context.Context, r SwitchoverRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) CancelSwitchover(ctx context.Context, r CancelRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) Failover(ctx context.Context, r FailoverRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) Restart(ctx context.Context, r RestartRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) Reload(ctx context.Context, r ReloadRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) Reinitialize(ctx context.Context, r ReinitializeRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) Shutdown(ctx context.Context, r ShutdownRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}

func (o *operator) Pause(ctx context.Context, r PauseRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) Resume(ctx context.Context, r ResumeRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) RenewCertificate(ctx context.Context, r RenewRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) AddMember(ctx context.Context, r AddMemberRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) RemoveMember(ctx context.Context, r RemoveMemberRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) DropSlot(ctx context.Context, r DropSlotRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) SetConfig(ctx context.Context, r ConfigRequest, p func(Progress)) error {
	return o.do(ctx, r, p)
}
func (o *operator) Config(context.Context, bool) (ClusterConfig, error) {
	return ClusterConfig{Revision: 7, YAML: "lease: 3s # default\n", Values: json.RawMessage(`{"lease":"3s"}`)}, o.err
}

func oneToken(token string) (Operator, bool) { return Operator{"anna", Operate}, token == "secret" }

// changer is the TLS side without the network, and its log.
func changer(st *Status, ops Ops) (*changes, *bytes.Buffer) {
	var log bytes.Buffer
	return &changes{health: healthOf(st), source: fixed(st), ops: ops, tokens: oneToken, log: slog.New(slog.NewTextHandler(&log, nil))}, &log
}

func send(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer secret")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestChanges is every operation with good and bad bodies: the code, a part of the answer, and what Ops was asked for.
func TestChanges(t *testing.T) {
	const by = "By:{Operator:anna Remote:192.0.2.1:1234}"
	for _, c := range []struct {
		self, request, body string
		code                int
		answer, asked       string
	}{
		{"pg1", "POST /switchover", `{"leader":"pg1","candidate":"pg2"}`, 200, "switched over", "api.SwitchoverRequest{" + by + " Leader:pg1 Candidate:pg2 DryRun:false}"},
		{"pg2", "POST /switchover", `{"leader":"pg1"}`, 200, "switched over", "Leader:pg1 Candidate: "},
		{"pg2", "POST /switchover", ``, 200, "switched over", "Leader: Candidate: "},
		{"pg2", "POST /switchover", `{"dry_run":true}`, 200, "", "DryRun:true"},
		{"pg2", "POST /switchover", `{"leader":"pg3"}`, 412, "the primary is pg1, not pg3", ""},
		{"pg2", "POST /switchover", `{"candidate":"pg7"}`, 412, "there is no member pg7; there are pg1, pg2, pg3, pg4", ""},
		{"pg2", "POST /switchover", `{"candidate":"pg4"}`, 412, "witness", ""},
		{"pg2", "POST /switchover", `{"leader":"pg1","candidate":"pg1"}`, 400, "both pg1", ""},
		{"pg2", "POST /switchover", `{"scheduled_at":"2030-01-01T00:00+00"}`, 400, "scheduled_at", ""},
		{"pg2", "POST /switchover", `{"candidat":"pg2"}`, 400, `unknown field "candidat"`, ""},
		{"pg2", "POST /switchover", `{"candidate":"pg2"`, 400, "JSON", ""},
		{"pg2", "POST /switchover", `{}{}`, 400, "more than one", ""},
		{"pg2", "POST /switchover", `{"accept_loss":true}`, 400, "/failover", ""},
		{"pg2", "POST /switchover", strings.Repeat(" ", maxBody+1), 400, "larger than", ""},
		{"pg2", "DELETE /switchover", ``, 200, "withdrawn", "api.CancelRequest{" + by + "}"},
		{"pg2", "POST /failover", `{"candidate":"pg2"}`, 200, "failed over", "api.FailoverRequest{" + by + " Candidate:pg2 AcceptLoss:false DryRun:false}"},
		{"pg2", "POST /failover", `{"accept_loss":true}`, 200, "failed over", "AcceptLoss:true"},
		{"pg2", "POST /failover", `{"leader":"pg1","candidate":"pg2"}`, 200, "failed over", "api.SwitchoverRequest"},
		{"pg2", "POST /failover", `{"member":"pg3"}`, 200, "failed over", "Candidate:pg3"},
		{"pg2", "POST /restart", ``, 200, "restarted", "api.RestartRequest{" + by + " Member: Role: OnlyPending:false DryRun:false Timeout:0s}"},
		{"pg2", "POST /restart", `{"role":"replica","restart_pending":true,"timeout":"30"}`, 200, "restarted", "Role:standby OnlyPending:true DryRun:false Timeout:30s"},
		{"pg2", "POST /restart", `{"timeout":1.5}`, 200, "restarted", "Timeout:1.5s"},
		{"pg2", "POST /restart", `{"timeout":"2m"}`, 200, "restarted", "Timeout:2m0s"},
		{"pg2", "POST /restart", `{"timeout":0}`, 400, "timeout", ""},
		{"pg2", "POST /restart", `{"timeout":{}}`, 400, "timeout", ""},
		{"pg2", "POST /restart", `{"role":"primary"}`, 412, "pg2 is not primary", ""},
		{"pg2", "POST /restart", `{"role":"king"}`, 400, "role", ""},
		{"pg2", "POST /restart", `{"schedule":"tomorrow"}`, 400, "schedule", ""},
		{"pg2", "POST /restart", `{"member":"pg3"}`, 409, "https://10.0.0.13:8443", ""},
		{"pg2", "POST /restart", `{"member":"pg7"}`, 404, "no member pg7", ""},
		{"pg2", "POST /restart", `{"Operator":"root"}`, 400, "unknown field", ""},
		{"pg2", "POST /reload", ``, 202, "reload scheduled", "api.ReloadRequest{" + by},
		{"pg2", "POST /reinitialize", `{"force":true,"from-leader":true}`, 200, "reinitialized", "Force:true"},
		{"pg1", "POST /reinitialize", ``, 409, "switch over first", ""},
		{"pg4", "POST /reinitialize", ``, 409, "witness", ""},
		{"pg2", "POST /pause", `{"for":"30m"}`, 200, "paused", "For:30m0s"},
		{"pg2", "POST /pause", ``, 200, "paused", "For:2h0m0s"},
		{"pg2", "POST /pause", `{"for":"for ever"}`, 400, "for: it is a time", ""},
		{"pg2", "POST /pause", `{"for":"-1h"}`, 400, "for: it is a time", ""},
		{"pg2", "POST /pause", `{"for":"9000h"}`, 400, "at most", ""},
		{"pg2", "POST /resume", ``, 200, "resumed", "api.ResumeRequest"},
		{"pg2", "PATCH /config", `{"lease":"5s"}`, 200, `{"lease":"3s"}`, "Patch:true"},
		{"pg2", "PATCH /config?dry_run=true", `{"lease":"5s"}`, 200, "", "DryRun:true"},
		{"pg2", "PATCH /config", `[1]`, 400, "JSON object", ""},
		{"pg2", "PATCH /config", `null`, 400, "JSON object", ""},
		{"pg2", "PUT /config", "lease: 5s\n", 200, `{"lease":"3s"}`, "Patch:false"},
		{"pg2", "PUT /config", " ", 400, "empty", ""},
		{"pg2", "GET /config", "", 200, `{"lease":"3s"}`, ""},
		{"pg2", "GET /primary", "", 503, "", ""},
		{"pg2", "POST /primary", "", 404, "no such operation: POST /primary", ""},
		{"pg2", "DELETE /restart", "", 404, "no such operation", ""},
	} {
		ops := &operator{}
		h, log := changer(sample(c.self), ops)
		method, target, _ := strings.Cut(c.request, " ")
		w := send(h, method, target, c.body)
		asked := strings.Join(ops.asked, "; ")
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.answer) || !strings.Contains(asked, c.asked) || (c.asked == "") != (asked == "") {
			t.Errorf("%s: %s %.60s\n got %d %q, asked %q\nwant %d %q, asked %q", c.self, c.request, c.body, w.Code, w.Body, asked, c.code, c.answer, c.asked)
		}
		if asked != "" && (!strings.Contains(log.String(), "operator=anna") || !strings.Contains(log.String(), "remote=192.0.2.1:1234") || !strings.Contains(log.String(), "change done")) {
			t.Errorf("%s: the log is %q", c.request, log)
		}
	}
}

func TestConfigRevision(t *testing.T) {
	ops := &operator{}
	h, log := changer(sample("pg1"), ops)
	if w := send(h, "GET", "/config", "", "Accept", "application/yaml"); w.Body.String() != "lease: 3s # default\n" || w.Header().Get("ETag") != `"7"` {
		t.Errorf("GET /config: %v %q", w.Header(), w.Body)
	}
	if w := send(h, "PUT", "/config", "password: hush", "If-Match", `"7"`); w.Code != 200 || !strings.Contains(ops.asked[0], "Revision:7") {
		t.Errorf("PUT /config: %d, asked %v", w.Code, ops.asked)
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("the log keeps the configuration: %s", log)
	}
	if w := send(h, "PUT", "/config", "a: b", "If-Match", "*"); w.Code != 400 {
		t.Errorf("If-Match: *: %d", w.Code)
	}
}

// TestFacts: they are read with the token only, on the TLS side only, and a member that has none says that there is no such path.
func TestFacts(t *testing.T) {
	h, _ := changer(sample("pg1"), &operator{})
	if w := send(h, "GET", "/facts", ""); w.Code != 404 {
		t.Errorf("without facts: %d %s", w.Code, w.Body)
	}
	var err error
	h.facts = func(_ context.Context, brief bool) (any, error) {
		return map[string]any{"name": "pg1", "brief": brief}, err
	}
	if w := send(h, "GET", "/facts", ""); w.Code != 200 || w.Body.String() != `{"brief":false,"name":"pg1"}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(h, "GET", "/facts?brief=true", ""); !strings.Contains(w.Body.String(), `"brief":true`) {
		t.Errorf("briefly: %s", w.Body)
	}
	if w := send(h, "GET", "/facts", "", "Authorization", "Bearer wrong"); w.Code != 401 || strings.Contains(w.Body.String(), "pg1") {
		t.Errorf("with a wrong token: %d %s", w.Code, w.Body)
	}
	if err = context.DeadlineExceeded; send(h, "GET", "/facts", "").Code != 503 {
		t.Error("an examination that did not end is not told as 503")
	}
	s, err := New(Config{Source: fixed(sample("pg1")), TLS: &tls.Config{}, Ops: &operator{}, Tokens: oneToken, Facts: h.facts})
	if err != nil {
		t.Fatal(err)
	}
	if w := send(http.HandlerFunc(s.servePlain), "GET", "/facts", ""); w.Code != 404 {
		t.Errorf("on the plain port: %d %s", w.Code, w.Body)
	}
}

func TestErrorsBecomeCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{Errorf(Invalid, "x"), 400}, {Errorf(Unauthorized, "x"), 401}, {Errorf(Forbidden, "x"), 403}, {Errorf(NotFound, "x"), 404},
		{Errorf(Conflict, "x"), 409}, {Errorf(Precondition, "x"), 412}, {Errorf(Unavailable, "x"), 503}, {errors.New("x"), 500},
		{context.DeadlineExceeded, 503}, {fmt.Errorf("outer: %w", Errorf(Conflict, "inner")), 409}, {Errorf("odd", "x"), 500},
	} {
		h, log := changer(sample("pg1"), &operator{err: c.err})
		w := send(h, "POST", "/resume", "")
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.err.Error()) {
			t.Errorf("%v: %d %q", c.err, w.Code, w.Body)
		}
		if !strings.Contains(log.String(), "change failed") {
			t.Errorf("%v: the log is %q", c.err, log)
		}
	}
}

func TestTokens(t *testing.T) {
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic secret", "secret"} {
		ops := &operator{}
		h, log := changer(sample("pg1"), ops)
		for _, request := range []string{"POST /resume", "GET /config", "HEAD /config", "DELETE /nothing"} {
			method, target, _ := strings.Cut(request, " ")
			w := send(h, method, target, "", "Authorization", header)
			if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" || len(ops.asked) > 0 {
				t.Errorf("%q: %s: %d, asked %v", header, request, w.Code, ops.asked)
			}
		}
		if !strings.Contains(log.String(), "change refused") || strings.Contains(log.String(), "wrong") {
			t.Errorf("%q: the log is %q", header, log)
		}
	}
	h, _ := changer(sample("pg1"), &operator{})
	if w := send(h, "POST", "/resume", "", "Authorization", "bearer secret"); w.Code != 200 {
		t.Errorf("the scheme in lower case: %d", w.Code) // RFC 9110, section 11.1: case-insensitive
	}
}

// TestStream: steps are sent one by one while the operation runs, and the outcome last.
func TestStream(t *testing.T) {
	ops := &operator{steps: []Progress{{Step: "clone", Text: "copying", Bytes: 5, Total: 10}}, wait: make(chan struct{})}
	h, _ := changer(sample("pg2"), ops)
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, _ := http.NewRequest("POST", srv.URL+"/reinitialize", nil)
	r.Header.Set("Authorization", "Bearer secret")
	r.Header.Set("Accept", "application/x-ndjson")
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() (l Line) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := next(); l.Progress == nil || l.Progress.Text != "copying" || l.Progress.Total != 10 || l.Progress.At.IsZero() || l.Done {
		t.Errorf("first line: %+v", l)
	}
	close(ops.wait) // the step above arrived before the operation ended
	if l := next(); !l.Done || l.Error != nil {
		t.Errorf("last line: %+v", l)
	}
	if lines.Scan() {
		t.Errorf("another line: %s", lines.Text())
	}
}

// TestStreamFails: before the first step a failure has its own code, after it the last line tells.
func TestStreamFails(t *testing.T) {
	ops := &operator{err: Errorf(Conflict, "pg2 is being cloned already")}
	for _, steps := range [][]Progress{nil, {{Text: "copying"}}} {
		ops.steps = steps
		h, _ := changer(sample("pg2"), ops)
		w := send(h, "POST", "/reinitialize", "", "Accept", "application/x-ndjson")
		want := 409
		if len(steps) > 0 {
			want = 200
		}
		lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
		var last Line
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatal(err)
		}
		if w.Code != want || !last.Done || last.Error == nil || last.Error.Kind != Conflict || len(lines) != len(steps)+1 {
			t.Errorf("after %d steps: %d %s", len(steps), w.Code, w.Body)
		}
	}
}

// TestClientGone: an operation sees that nobody waits for it any more.
func TestClientGone(t *testing.T) {
	ops := &operator{wait: make(chan struct{})}
	h, log := changer(sample("pg2"), ops)
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		close(done)
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "POST", srv.URL+"/resume", nil)
	r.Header.Set("Authorization", "Bearer secret")
	if resp, err := srv.Client().Do(r); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		t.Errorf("answered %d", resp.StatusCode)
	}
	<-done
	if !strings.Contains(log.String(), "context canceled") {
		t.Errorf("the log is %q", log)
	}
}

// TestPlainRefusesChanges: without TLS nothing is changed or shown that needs a token.
func TestPlainRefusesChanges(t *testing.T) {
	s, err := New(Config{Source: fixed(sample("pg1"))})
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{"POST /switchover", "PUT /config", "PATCH /config", "GET /config", "DELETE /switchover", "POST /", "TRACE /primary"} {
		method, target, _ := strings.Cut(request, " ")
		w := send(http.HandlerFunc(s.servePlain), method, target, "{}")
		if w.Code != 403 || !strings.Contains(w.Body.String(), "TLS") {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
	}
}

// FuzzBody: no body panics, and what is refused asks Ops for nothing.
func FuzzBody(f *testing.F) {
	for _, b := range []string{"", "{}", `{"leader":"pg1"}`, `{"for":"1h"}`, `{"timeout":1e300}`, `[`, "null", `{"member":"pg2","role":"replica"}`} {
		f.Add(b)
	}
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, body string) {
		for request := range changePaths {
			ops := &operator{}
			st := sample("pg2")
			method, target, _ := strings.Cut(request, " ")
			w := send(&changes{health: healthOf(st), source: fixed(st), ops: ops, tokens: oneToken, log: log}, method, target, body)
			if (w.Code < 300) != (len(ops.asked) == 1) {
				t.Errorf("%s %q: %d, asked %v", request, body, w.Code, ops.asked)
			}
		}
	})
}

// TestOutlastsReadTimeout: the bound on reading a request must not end an operation that takes longer than it.
func TestOutlastsReadTimeout(t *testing.T) {
	ops := &operator{wait: make(chan struct{})}
	h, _ := changer(sample("pg2"), ops)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ReadTimeout = 50 * time.Millisecond
	srv.Start()
	defer srv.Close()
	time.AfterFunc(300*time.Millisecond, func() { close(ops.wait) })
	r, _ := http.NewRequest("POST", srv.URL+"/resume", strings.NewReader("{}"))
	r.Header.Set("Authorization", "Bearer secret")
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
}
