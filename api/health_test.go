package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// situation is one member in one state, by name.
type situation struct {
	name string
	st   *Status
}

// with returns the sample seen from self, changed.
func with(self string, change func(st *Status, me *Member)) *Status {
	st := sample(self)
	if change != nil {
		change(st, st.Me())
	}
	return st
}

func situations() []situation {
	state := func(s State) func(*Status, *Member) {
		return func(_ *Status, me *Member) { me.State, me.Writable, me.Readable = s, false, false }
	}
	s := []situation{
		{"nothing known yet", nil},
		{"primary", with("pg1", nil)},
		{"primary, named and not open yet", with("pg1", func(_ *Status, me *Member) { me.Writable = false })},
		{"primary, no store", with("pg1", func(st *Status, _ *Member) { st.Store.OK = false })},
		{"primary, deposed", with("pg1", func(st *Status, me *Member) { st.Term, st.Primary, me.Role = 6, "pg2", Standby })},
		{"primary, electing", with("pg1", func(st *Status, me *Member) { st.Phase, st.Primary, me.Writable = cluster.Electing, "", false })},
		{"standby", with("pg2", nil)},
		{"standby, paused", with("pg2", func(st *Status, _ *Member) { st.Paused = true })},
		{"standby, not readable", with("pg2", func(_ *Status, me *Member) { me.Readable = false })},
		{"standby, not attached", with("pg2", func(_ *Status, me *Member) { me.Readable, me.Attached = false, false })},
		{"standby, draining", with("pg2", func(_ *Status, me *Member) { me.Draining = true })},
		{"standby, 2 MB behind", with("pg2", func(_ *Status, me *Member) { me.Lag = new(int64(2 << 20)) })},
		{"standby, lag unknown", with("pg2", func(_ *Status, me *Member) { me.Lag, me.ReceiveLag = nil, nil })},
		{"standby, out of the rule", with("pg2", func(st *Status, me *Member) { st.Commit.Rule, me.InRule = st.Commit.Rule.Without("pg2"), false })},
		{"standby, every commit on it", with("pg2", func(st *Status, _ *Member) { st.Commit.Rule.K = 2 })},
		{"standby, electing", with("pg2", func(st *Status, me *Member) { st.Phase, st.Primary, me.Readable = cluster.Electing, "", false })},
		{"witness", with("pg4", nil)},
		{"removed", with("pg9", nil)},
		{"primary, stale", with("pg1", func(st *Status, _ *Member) { st.Observed = clock().Add(-time.Minute) })},
		{"primary, stale, paused", with("pg1", func(st *Status, _ *Member) { st.Observed, st.Paused = clock().Add(-time.Minute), true })},
	}
	for _, v := range []State{Starting, Stopping, Stopped, Restarting, Initialising, Cloning, Rewinding, Failed, Stalled} {
		s = append(s, situation{"primary, " + string(v), with("pg1", state(v))}, situation{"standby, " + string(v), with("pg2", state(v))})
	}
	return s
}

// clock is the time in the tables.
func clock() time.Time { return time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC) }

func get(h http.Handler, method, target, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func healthOf(st *Status) *health { return newHealth(fixed(st), 3*time.Second, clock) }

// TestHealthTable holds every path in every situation against testdata/health.txt: one line for each, with the codes and
// the plain answer. Read it: it is the contract. UPDATE=1 writes it anew.
func TestHealthTable(t *testing.T) {
	paths := make([]string, 0, len(healthPaths))
	for p := range healthPaths {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	var out bytes.Buffer
	for _, s := range situations() {
		h := healthOf(s.st)
		fmt.Fprintf(&out, "%s\n", s.name)
		for _, p := range paths {
			plain := get(h, "GET", p, "text/plain")
			fmt.Fprintf(&out, "  %-23s %d %s", p, plain.Code, plain.Body)
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				w := get(h, method, p, "application/json")
				if w.Code != plain.Code {
					t.Errorf("%s: %s %s as JSON is %d, as a line %d", s.name, method, p, w.Code, plain.Code)
				}
				if (method == "GET") != (w.Body.Len() > 0) {
					t.Errorf("%s: %s %s has a body of %d bytes", s.name, method, p, w.Body.Len())
				}
			}
		}
	}
	compare(t, "testdata/health.txt", out.Bytes())
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s, line %d:\n got %q\nwant %q", file, i+1, at(g, i), at(w, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

// TestExclusive: in no situation is a member both writable and a replica, and nobody but an open primary is writable.
func TestExclusive(t *testing.T) {
	for _, s := range situations() {
		h := healthOf(s.st)
		primary, replica := get(h, "GET", "/primary", "").Code, get(h, "GET", "/replica", "").Code
		if primary == 200 && replica == 200 {
			t.Errorf("%s: both primary and replica", s.name)
		}
		open := s.st != nil && s.st.Me() != nil && s.st.Me().Writable && s.st.Primary == s.st.Self && clock().Sub(s.st.Observed) < 3*time.Second
		if (primary == 200) != open {
			t.Errorf("%s: /primary is %d, open is %v", s.name, primary, open)
		}
		either := max(200, min(primary, replica))
		for _, p := range []string{"/read-only", "/ready"} {
			if c := get(h, "GET", p, "").Code; c != either {
				t.Errorf("%s: %s is %d, not %d", s.name, p, c, either)
			}
		}
	}
}

func TestQueries(t *testing.T) {
	behind := with("pg2", func(_ *Status, me *Member) { me.Lag, me.ReceiveLag = new(int64(10<<20)), new(int64(100)) })
	unknown := with("pg2", func(_ *Status, me *Member) { me.Lag = nil })
	async := with("pg2", func(st *Status, me *Member) { st.Commit.Rule, me.Lag = cluster.NewRule(1, "pg3"), new(int64(4096)) })
	for _, c := range []struct {
		st     *Status
		target string
		want   int
	}{
		{behind, "/replica", 200},
		{behind, "/replica?lag=10485760", 200},
		{behind, "/replica?lag=10485759", 503},
		{behind, "/replica?lag=10MB", 200},
		{behind, "/replica?lag=10mb", 200},
		{behind, "/replica?lag=10239kB", 503},
		{behind, "/replica?lag=0.01GB", 200},
		{behind, "/replica?lag=1TB", 200},
		{behind, "/replica?lag=", 400},
		{behind, "/replica?lag=ten", 400},
		{behind, "/replica?lag=-1", 400},
		{behind, "/replica?lag=1e99", 400},
		{behind, "/replica?lag=99999999999TB", 400},
		{behind, "/replica?lag=10XB", 400},
		{behind, "/replica?lag=%zz", 400},
		{behind, "/primary?lag=ten", 503}, // the primary's paths take no parameters
		{unknown, "/replica", 200},
		{unknown, "/replica?lag=1GB", 503},
		{behind, "/read-only?lag=1MB", 503},
		{behind, "/quorum?lag=1MB", 503},
		{behind, "/quorum?lag=1GB", 200},
		{behind, "/replica?replication_state=streaming", 200},
		{behind, "/replica?replication_state=in+archive+recovery", 503},
		{behind, "/replica?tag_location=hall+2", 200},
		{behind, "/replica?tag_location=hall+3", 503},
		{behind, "/replica?tag_failover_priority=100", 200},
		{behind, "/replica?tag_unheard_of=1", 503},
		{behind, "/replica?other=1", 200},
		{behind, "/readiness", 503},
		{behind, "/readiness?lag=10MB", 200},
		{behind, "/readiness?mode=write", 200},
		{behind, "/readiness?mode=write&lag=99", 503},
		{behind, "/readiness?mode=apply", 503},
		{behind, "/readiness?mode=guess", 400},
		{async, "/async?lag=4kB", 200},
		{async, "/asynchronous?lag=4095", 503},
		{async, "/quorum?lag=1GB", 503},
		{sample("pg1"), "/read-only?tag_location=hall+1", 200},
		{sample("pg1"), "/read-only?tag_location=hall+2", 503},
		{sample("pg1"), "/readiness?lag=0", 200},
		{sample("pg1"), "/primary/", 200},
		{sample("pg1"), "/nothing", 404},
	} {
		if w := get(healthOf(c.st), "GET", c.target, ""); w.Code != c.want {
			t.Errorf("%s is %d, want %d: %s", c.target, w.Code, c.want, w.Body)
		}
	}
}

// TestStaleQuery: what is no longer believed stays so whatever is asked of it.
func TestStaleQuery(t *testing.T) {
	st := with("pg2", func(st *Status, _ *Member) { st.Observed, st.Paused = clock().Add(-time.Minute), true })
	for _, p := range []string{"/replica?lag=1TB", "/readiness?lag=1TB", "/read-only?tag_location=hall+2"} {
		if w := get(healthOf(st), "GET", p, ""); w.Code != 503 {
			t.Errorf("%s is %d", p, w.Code)
		}
	}
}

// TestStaleStatus: the last that was seen is still shown, with a warning; and the Status itself is not touched.
func TestStaleStatus(t *testing.T) {
	st := with("pg2", func(st *Status, _ *Member) { st.Observed = clock().Add(-time.Minute) })
	w := get(healthOf(st), "GET", "/status", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "has not reported for 60.0 s") || len(st.Warnings) != 0 {
		t.Errorf("%d %s, warnings %v", w.Code, w.Body, st.Warnings)
	}
}

func TestBodies(t *testing.T) {
	for _, c := range []struct{ self, path, accept, kind, want string }{
		{"pg1", "/", "", "text/plain", "OK - Primary\n"},
		{"pg1", "/", "*/*", "text/plain", "OK - Primary\n"},
		{"pg1", "/replica", "", "text/plain", "Service Unavailable - Not Replica: it is the primary\n"},
		{"pg2", "/master", "", "text/plain", "Service Unavailable - Not Primary: the primary is pg1\n"},
		{"pg2", "/replica", "", "text/plain", "OK - Replica\n"},
		{"pg2", "/ready", "", "text/plain", "OK - Ready\n"},
		{"pg2", "/replica", "application/json", "application/json", `"role":"replica"`},
		{"pg1", "/primary", "", "application/json", `"role":"primary"`},
		{"pg1", "/primary", "*/*", "application/json", `"role":"primary"`},
		{"pg1", "/primary", "text/plain", "text/plain", "OK - Primary\n"},
		{"pg2", "/primary", "text/plain, application/json", "application/json", `"state":"running"`},
	} {
		w := get(healthOf(sample(c.self)), "GET", c.path, c.accept)
		if kind := w.Header().Get("Content-Type"); !strings.HasPrefix(kind, c.kind) || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s (%s): %s %q", c.self, c.path, c.accept, kind, w.Body)
		}
	}
}

// TestDocuments holds the JSON documents, as a reader of Patroni's and our own gets them, against testdata.
func TestDocuments(t *testing.T) {
	for _, self := range []string{"pg1", "pg2"} {
		st := sample(self)
		st.Observed = clock()
		h := healthOf(st)
		var out bytes.Buffer
		for _, p := range []string{"/patroni", "/cluster", "/history", "/history?format=standfast", "/failsafe", "/status"} {
			w := get(h, "GET", p, "")
			if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %s", p, w.Code, w.Header())
			}
			fmt.Fprintln(&out, p)
			if err := json.Indent(&out, w.Body.Bytes(), "", " "); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
		compare(t, "testdata/documents-"+self+".txt", out.Bytes())
	}
}

// TestNothingKnown: before the first Status documents are refused too, and nothing panics.
func TestNothingKnown(t *testing.T) {
	for _, p := range []string{"/status", "/patroni", "/cluster", "/history", "/failsafe"} {
		if w := get(healthOf(nil), "GET", p, ""); w.Code != 503 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", p, w.Code, w.Body)
		}
	}
}

// TestRoundTrip: what /status says can be read back into the same Status.
func TestRoundTrip(t *testing.T) {
	st := sample("pg2")
	st.Observed = clock()
	var back Status
	if err := json.Unmarshal(get(healthOf(st), "GET", "/status", "").Body.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if again := encode(&back); !bytes.Equal(again, encode(st)) {
		t.Errorf("read back:\n%s\nwas:\n%s", again, encode(st))
	}
}

func TestCommitWords(t *testing.T) {
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	only2 := func(n string) bool { return n == "pg2" }
	five := []string{"pg2", "pg3", "pg4", "pg5"}
	for _, c := range []struct {
		d        cluster.Durability
		r        cluster.Rule
		attached func(string) bool
		spare    int
		want     string
	}{
		{cluster.Quorum, cluster.NewRule(1, "pg2", "pg3"), all, 1, "each commit is on 2 of 3 hosts; one more host may fail"},
		{cluster.Quorum, cluster.NewRule(2, five...), all, 2, "each commit is on 3 of 5 hosts; two more hosts may fail"},
		{cluster.Quorum, cluster.NewRule(1, "pg2", "pg3"), only2, 0, "each commit is on 2 of 3 hosts; if one more host fails, writing waits"},
		{cluster.Quorum, cluster.NewRule(1, "pg2", "pg3"), none, -1, "writing waits: each commit needs 1 of pg2, pg3, and 0 are attached"},
		{cluster.Quorum, cluster.NewRule(2, five...), only2, -1, "writing waits: each commit needs 2 of pg2, pg3, pg4, pg5, and 1 is attached"},
		{cluster.Quorum, cluster.NewRule(1), all, -1, "writing waits for the first standby: no commit can be acknowledged before it is there"},
		{cluster.Quorum, cluster.NewRule(0, "pg2"), all, 1, "each commit is on the primary's host alone; if that host is lost, so is what no standby has yet"},
		{cluster.Async, cluster.NewRule(0, "pg2"), all, 1, "commits wait for no copy (async): what the standbys lag behind is lost with the primary's host"},
	} {
		if got := Describe(c.d, c.r, c.attached, 2); got.Text != c.want || got.Spare != c.spare {
			t.Errorf("%s %s: %d, %q", c.d, c.r, got.Spare, got.Text)
		}
	}
	if got := Describe(cluster.Quorum, cluster.NewRule(1, "pg2", "pg3", "pg4"), all, 1); got.Spare != 1 || got.Text != "each commit is on 2 of 4 hosts; one more host may fail" {
		t.Errorf("four members: %d, %q", got.Spare, got.Text)
	}
}

// FuzzQuery: no query panics, answers anything but 200, 400 or 503, or makes a lagging standby look closer than it is.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "lag=10MB", "lag=%zz", "mode=write&lag=1", "replication_state=streaming", "tag_a=b&tag_a=c", "lag=1;lag=2", "lag=.&x", "lag=1 kB"} {
		f.Add("/replica", q)
		f.Add("/readiness", q)
	}
	st := with("pg2", func(_ *Status, me *Member) { me.Lag, me.ReceiveLag = new(int64(1<<40)), new(int64(1<<40)) })
	h := healthOf(st)
	f.Fuzz(func(t *testing.T, path, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path, r.URL.RawQuery = path, query
		w := httptest.NewRecorder()
		if path == "/metrics" {
			return
		}
		h.ServeHTTP(w, r)
		if !slices.Contains([]int{200, 400, 404, 503}, w.Code) {
			t.Fatalf("%s?%s: %d", path, query, w.Code)
		}
		q, err := parseQuery(query)
		if err == nil && q.limited && q.lag < 1<<40 && path == "/replica" && w.Code == 200 {
			t.Fatalf("%s?%s: 200 beyond its bound", path, query)
		}
		if err == nil && q.limited && q.lag < 0 {
			t.Fatalf("%s: a negative bound", query)
		}
	})
}
