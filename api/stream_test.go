package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// events reads a stream and returns a function for its next event of the name.
func events(t *testing.T, c *http.Client, url, origin string) (*http.Response, func(name string) string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewReader(resp.Body)
	return resp, func(name string) string {
		t.Helper()
		for got := ""; ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("wait for an event %s: %v", name, err)
			}
			if e, ok := strings.CutPrefix(line, "event: "); ok {
				got = strings.TrimSpace(e)
			}
			if d, ok := strings.CutPrefix(line, "data: "); ok && got == name {
				return d
			}
		}
	}
}

// TestLiveStream: both sides send what is known at once, what changes soon, and what does not change each second, for longer than any
// other request may take.
func TestLiveStream(t *testing.T) {
	src := fixed(sample("pg1"))
	plain, secure, c := startBoth(t, Config{Source: src, Ops: &operator{}})
	for _, url := range []string{"http://" + plain, "https://" + secure} {
		src.Store(sample("pg1"))
		resp, next := events(t, c, url+"/ui/stream", "")
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" {
			t.Fatalf("%s: %d %s", url, resp.StatusCode, kind)
		}
		var first struct {
			Stale  string
			Status Status
		}
		if err := json.Unmarshal([]byte(next("status")), &first); err != nil || first.Status.Primary != "pg1" || first.Stale != "" {
			t.Errorf("the first event: %+v, %v", first, err)
		}
		if past := next("history"); !strings.Contains(past, `"reason":"pg2 stopped answering"`) {
			t.Errorf("history %s", past)
		}
		st := sample("pg1")
		st.Phase, st.Primary, st.Term = cluster.Electing, "", 6
		src.Store(st)
		for data := next("status"); !strings.Contains(data, `"phase":"electing"`); data = next("status") {
		}
		began := time.Now()
		for range 6 { // the plain side's bounds on a request are 3 and 5 seconds
			next("status")
		}
		if took := time.Since(began); took < 3*streamPace {
			t.Errorf("six events of a Status that does not change took %v", took)
		}
		st = sample("pg1")
		st.History = append(st.History, Entry{Term: 6, Reason: "somebody asked", At: 1724873967000})
		src.Store(st)
		if past := next("history"); !strings.Contains(past, "somebody asked") {
			t.Errorf("history %s", past)
		}
	}
}

// TestStreamStale: what is not believed says so, before the first Status too.
func TestStreamStale(t *testing.T) {
	src := &swapping{}
	addr := startPlain(t, Config{Source: src})
	_, next := events(t, http.DefaultClient, "http://"+addr+"/ui/stream", "")
	if d := next("status"); !strings.Contains(d, `"status":null`) || strings.Contains(d, `"stale":""`) {
		t.Errorf("before the first: %s", d)
	}
	st := sample("pg1")
	st.Observed = time.Now().Add(-time.Minute)
	src.Store(st)
	for d := next("status"); ; d = next("status") {
		if strings.Contains(d, `"self":"pg1"`) {
			if strings.Contains(d, `"stale":""`) {
				t.Errorf("an old status is believed: %s", d)
			}
			return
		}
	}
}

// TestStreamsAreBounded: one more than there may be is refused, and a place is free again when a page is closed. That none stays is seen
// by goleak at the end.
func TestStreamsAreBounded(t *testing.T) {
	addr := startPlain(t, Config{Source: fixed(sample("pg1"))})
	var open []*http.Response
	for range streamsAtOnce {
		resp, err := http.Get("http://" + addr + "/ui/stream")
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("stream %d: %v, %v", len(open)+1, resp, err)
		}
		defer resp.Body.Close()
		open = append(open, resp)
	}
	get := func() (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/ui/stream", nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		if resp.StatusCode == 200 {
			return 200, ""
		}
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, text := get(); code != 503 || !strings.Contains(text, "close one") {
		t.Errorf("one too many: %d %s", code, text)
	}
	if code, _, err := fetch(addr, "/primary"); err != nil || code != 200 {
		t.Errorf("a check beside the streams: %d, %v", code, err)
	}
	open[0].Body.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if code, text := get(); code == 200 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("no place is free again: %d %s", code, text)
		}
	}
}

func fetch(addr, path string) (int, string, error) {
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// TestStreamOrigins: another member's page may read it, anybody else's may not.
func TestStreamOrigins(t *testing.T) {
	addr := startPlain(t, Config{Source: fixed(sample("pg1"))})
	for origin, want := range map[string]string{
		"http://10.0.0.12:8008": "http://10.0.0.12:8008", "https://10.0.0.13:8443": "https://10.0.0.13:8443",
		"http://10.0.0.99:8008": "", "https://10.0.0.12:8008": "", "null": "", "": "",
	} {
		resp, _ := events(t, http.DefaultClient, "http://"+addr+"/ui/stream", origin)
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("origin %q may read as %q, want %q", origin, got, want)
		}
		resp.Body.Close()
	}
}

// broken is a client whose end of the connection takes nothing more.
type broken struct{ *httptest.ResponseRecorder }

func (broken) FlushError() error { return errors.New("i/o timeout") }

// TestSlowStream: a write that did not come through in time ends the stream.
func TestSlowStream(t *testing.T) {
	w := broken{httptest.NewRecorder()}
	s := streamer{w: w, control: http.NewResponseController(w)}
	if s.show(newBoard(sample("pg1"), ""), time.Now()) {
		t.Error("a stream goes on to a client that takes nothing")
	}
	h := healthOf(sample("pg1"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.stream(w, httptest.NewRequest("GET", "/ui/stream", nil))
	}()
	<-done
	if n := h.streams.Load(); n != 0 {
		t.Errorf("%d streams are counted after the end", n)
	}
}

// TestStatusMark: what an operator waits for is sent at once; positions and counters are not.
func TestStatusMark(t *testing.T) {
	was := statusMark(sample("pg1"), "")
	for name, c := range map[string]struct {
		change func(st *Status)
		marked bool
	}{
		"term":     {func(st *Status) { st.Term++ }, true},
		"phase":    {func(st *Status) { st.Phase = cluster.Elected }, true},
		"pause":    {func(st *Status) { st.Paused = true }, true},
		"warning":  {func(st *Status) { st.Warnings = []string{"x"} }, true},
		"state":    {func(st *Status) { st.Members[1].State = Stopped }, true},
		"note":     {func(st *Status) { st.Members[1].Note = "cloning" }, true},
		"holder":   {func(st *Status) { st.Address[0].Holder = "pg2" }, true},
		"request":  {func(st *Status) { st.Request = &cluster.Request{ID: "a"} }, true},
		"target":   {func(st *Status) { st.Router.Write.Target = "pg2" }, true},
		"position": {func(st *Status) { st.Members[0].LSN++ }, false},
		"sessions": {func(st *Status) { st.Router.Write.Sessions++; st.Members[0].Sessions++ }, false},
		"observed": {func(st *Status) { st.Observed = st.Observed.Add(time.Second) }, false},
	} {
		st := sample("pg1")
		c.change(st)
		if got := statusMark(st, "") != was; got != c.marked {
			t.Errorf("%s: sent at once is %v", name, got)
		}
	}
	if statusMark(sample("pg1"), "too old") == was {
		t.Error("a status that is not believed is like one that is")
	}
}

// TestPage: the files of the page, on both sides, with what a browser is told about them.
func TestPage(t *testing.T) {
	plain, secure, c := startBoth(t, Config{Source: fixed(sample("pg1")), Ops: &operator{}})
	get := func(url, header, value string) (*http.Response, string) {
		r, _ := http.NewRequest("GET", url, nil)
		r.Header.Set(header, value)
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp, string(b)
	}
	for _, base := range []string{"http://" + plain, "https://" + secure} {
		resp, body := get(base+"/ui", "Accept", "text/html")
		policy := resp.Header.Get("Content-Security-Policy")
		if resp.StatusCode != 200 || !strings.Contains(body, "<h1") || !strings.Contains(policy, "connect-src 'self' http://10.0.0.11:8008 https://10.0.0.11:8443 ") {
			t.Errorf("%s/ui: %d, policy %q, %.60q", base, resp.StatusCode, policy, body)
		}
		if resp, _ := get(base+"/ui/", "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != 304 {
			t.Errorf("the same again: %d", resp.StatusCode)
		}
		if resp, body := get(base+"/ui/app.js", "Accept-Encoding", "gzip"); resp.Header.Get("Content-Encoding") != "gzip" || resp.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || len(body) == 0 {
			t.Errorf("app.js: %v", resp.Header)
		}
		for _, path := range []string{"/ui/nothing", "/ui/../change.go", "/uix"} {
			if resp, _ := get(base+path, "Accept", "*/*"); resp.StatusCode != 404 {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
	}
	for token, want := range map[string]string{"Bearer secret": `200 {"operator":"anna"}`, "Bearer wrong": "401 ", "": "401 "} {
		resp, body := get("https://"+secure+"/ui/operator", "Authorization", token)
		if got := fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(body)); !strings.HasPrefix(got, want) {
			t.Errorf("operator by %q: %s", token, got)
		}
	}
	if resp, body := get("http://"+plain+"/ui/operator", "Authorization", "Bearer secret"); resp.StatusCode != 403 {
		t.Errorf("a token without TLS: %d %s", resp.StatusCode, body)
	}
}

// TestForward: a change that concerns another member is passed on to it, and its lines come back; without being asked to, it is refused
// as before.
func TestForward(t *testing.T) {
	theirs := &operator{steps: []Progress{{Text: "restarting the standby pg2"}}}
	_, pg2, _ := startBoth(t, Config{Source: fixed(sample("pg2")), Ops: theirs})
	st := sample("pg1")
	st.Member("pg2").Admin = pg2
	st.Member("pg3").Admin = "127.0.0.1:1"
	mine := &operator{}
	_, trust := certificate(t)
	trust.InsecureSkipVerify = true // pg2's certificate is of its own making
	_, pg1, c := startBoth(t, Config{Source: fixed(st), Ops: mine, Others: trust})
	post := func(query, body string) (int, string) {
		r, _ := http.NewRequest("POST", "https://"+pg1+"/restart"+query, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer secret")
		r.Header.Set("Accept", "application/x-ndjson")
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, body := post("?forward=true", `{"member":"pg2","dry_run":true}`); code != 200 || !strings.Contains(body, "restarting the standby pg2") || !strings.Contains(body, `"done":true`) {
		t.Errorf("passed on: %d %s", code, body)
	}
	if len(theirs.asked) != 1 || !strings.Contains(theirs.asked[0], "DryRun:true") || !strings.Contains(theirs.asked[0], "Operator:anna") {
		t.Errorf("pg2 was asked %q", theirs.asked)
	}
	if code, body := post("", `{"member":"pg2"}`); code != 409 || !strings.Contains(body, "ask pg2 itself") {
		t.Errorf("without being told to pass it on: %d %s", code, body)
	}
	if code, body := post("?forward=true", `{"member":"pg3"}`); code != 503 || !strings.Contains(body, "pg3 does not answer at https://127.0.0.1:1") {
		t.Errorf("to one that is down: %d %s", code, body)
	}
	if code, body := post("?forward=true", `{"member":"nobody"}`); code != 404 {
		t.Errorf("to nobody: %d %s", code, body)
	}
	if code, body := post("?forward=true", `{"member":"pg1"}`); code != 200 || len(mine.asked) != 1 {
		t.Errorf("to itself: %d %s, asked %q", code, body, mine.asked)
	}
}
