package api

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// healthPaths are the checks by path. plain: answered in pgchk's line unless the client asks for JSON.
var healthPaths = map[string]struct {
	check check
	plain bool
}{
	"/":                      {checkPrimary, true},
	"/master":                {checkPrimary, true},
	"/primary":               {checkPrimary, false},
	"/leader":                {checkPrimary, false},
	"/read-write":            {checkPrimary, false},
	"/replica":               {checkReplica, true},
	"/standby-leader":        {checkStandbyLeader, false},
	"/standby_leader":        {checkStandbyLeader, false},
	"/read-only":             {checkReadOnly, false},
	"/sync":                  {checkSync, false},
	"/synchronous":           {checkSync, false},
	"/read-only-sync":        {checkReadOnlySync, false},
	"/read-only-synchronous": {checkReadOnlySync, false},
	"/quorum":                {checkQuorum, false},
	"/read-only-quorum":      {checkReadOnlyQuorum, false},
	"/async":                 {checkAsync, false},
	"/asynchronous":          {checkAsync, false},
	"/health":                {checkHealth, false},
	"/ready":                 {checkReady, true},
	"/readiness":             {checkReadiness, false},
	"/liveness":              {checkLiveness, false},
}

// ignoresQuery: Patroni does not apply lag or tags where the answer is about the primary alone.
func ignoresQuery(c check) bool {
	return c == checkPrimary || c == checkStandbyLeader || c == checkHealth || c == checkLiveness
}

// health answers all that may be read. It is safe for any number of requests at once and never waits for anything.
type health struct {
	boards  *boards
	metrics http.Handler
	tally   tally
	streams atomic.Int32 // open now
}

func newHealth(source Source, bound time.Duration, now func() time.Time) *health {
	b := &boards{source: source, now: now}
	b.bound.Store(int64(bound))
	return &health{boards: b}
}

// ServeHTTP answers a GET, HEAD or OPTIONS. The caller has dealt with other methods.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if p, ok := healthPaths[path]; ok {
		h.check(w, r, p.check, p.plain)
		return
	}
	b := h.boards.current()
	switch path {
	case "/status":
		h.write(w, r, b.status())
	case "/patroni":
		h.write(w, r, b.patroni())
	case "/cluster":
		h.write(w, r, b.cluster())
	case "/history":
		if r.URL.Query().Get("format") == "standfast" {
			h.write(w, r, b.entries())
			return
		}
		h.write(w, r, b.history())
	case "/failsafe":
		h.write(w, r, b.failsafe())
	case "/ui/stream":
		h.stream(w, r)
	case "/metrics":
		h.tally.count(http.StatusOK)
		h.metrics.ServeHTTP(w, r)
	default:
		if !h.page(w, r, path) {
			h.write(w, r, textAnswer(http.StatusNotFound, "no such path; there are /primary, /replica, /ready, /health, /status, /cluster, /history, /metrics and Patroni's others, and for a browser /ui"))
		}
	}
}

func textAnswer(code int, text string) *answer { return newAnswer(code, textKind, []byte(text+"\n")) }

func (h *health) check(w http.ResponseWriter, r *http.Request, c check, plain bool) {
	b := h.boards.current()
	text := b.texts[c]
	if r.URL.RawQuery != "" && !ignoresQuery(c) {
		q, err := parseQuery(r.URL.RawQuery)
		if err != nil {
			h.write(w, r, textAnswer(http.StatusBadRequest, err.Error()))
			return
		}
		if b.stale == "" {
			why := judge(b.st, c, q)
			text = newAnswer(code(why), textKind, []byte(line(c, b.st, why)))
		}
	}
	if accept := r.Header["Accept"]; len(accept) > 0 {
		plain = wantsPlain(accept[0], plain)
	}
	if plain || b.st == nil {
		h.write(w, r, text)
		return
	}
	a := *b.node()
	a.code = text.code
	h.write(w, r, &a)
}

// wantsPlain chooses the body by the Accept header; one that names neither form leaves the path's own.
func wantsPlain(accept string, plain bool) bool {
	if strings.Contains(accept, "application/json") {
		return false
	}
	return plain || strings.Contains(accept, "text/plain")
}

// write sends a prepared answer; HEAD and OPTIONS get no body.
func (h *health) write(w http.ResponseWriter, r *http.Request, a *answer) {
	h.tally.count(a.code)
	header := w.Header()
	header["Content-Type"] = a.kind
	if r.Method == http.MethodOptions {
		header["Content-Length"] = noBody
		w.WriteHeader(a.code)
		return
	}
	header["Content-Length"] = a.length
	w.WriteHeader(a.code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body) // the client went away: nobody is left to tell
	}
}

var noBody = []string{"0"}

// tally counts answers by class, for the metrics.
type tally struct {
	classes [6]atomic.Uint64 // by the first digit of the code
	refused atomic.Uint64    // connections closed for want of a place
}

func (t *tally) count(code int) { t.classes[code/100%6].Add(1) }
