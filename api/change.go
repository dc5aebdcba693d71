package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxBody bounds the body of a change: a whole configuration is a few kilobytes.
const maxBody = 1 << 20

// act is an operation ready to run, its request already checked.
type act func(ctx context.Context, progress func(Progress)) error

// change is how one kind of request becomes an operation.
type change struct {
	name  string                                   // for the audit log
	code  int                                      // of success
	done  string                                   // what a plain client is told when no step said more
	parse func(c *changes, r *parsed) (act, error) // checks the request
}

// parsed is a change's request with what every one of them needs.
type parsed struct {
	*http.Request
	by   By
	body []byte
}

// changePaths are the operations by method and path, under Patroni's names where it has one.
var changePaths = map[string]change{
	"POST /switchover":   {"switchover", 200, "switched over", parseSwitchover},
	"DELETE /switchover": {"cancel switchover", 200, "switchover withdrawn", parseCancel},
	"POST /failover":     {"failover", 200, "failed over", parseFailover},
	"POST /restart":      {"restart", 200, "restarted successfully", parseRestart},
	"POST /reload":       {"reload", 202, "reload scheduled", parseReload},
	"POST /reinitialize": {"reinitialize", 200, "reinitialized", parseReinitialize},
	"POST /certificate":  {"renew certificate", 200, "renewed", parseRenew},
	"POST /shutdown":     {"shut down", 200, "shut down", parseShutdown},
	"POST /pause":        {"pause", 200, "paused", parsePause},
	"POST /resume":       {"resume", 200, "resumed", parseResume},
	"PATCH /config":      {"change config", 200, "configuration changed", parseConfig},
	"PUT /config":        {"replace config", 200, "configuration replaced", parseConfig},
	"POST /members":      {"add member", 200, "added", parseAddMember},
	"DELETE /members":    {"remove member", 200, "removed", parseRemoveMember},
	"DELETE /slots":      {"drop slot", 200, "dropped", parseDropSlot},
	"POST /tokens":       {createToken, 200, "created", parseAddGrant},
	"DELETE /tokens":     {"revoke token", 200, "revoked", parseRevokeGrant},
}

// changes serves the TLS side: everything health answers, and the operations.
type changes struct {
	health  *health
	source  Source
	ops     Ops
	tokens  func(token string) (Operator, bool)
	grants  Grants       // nil: none
	join    http.Handler // nil: none
	facts   func(ctx context.Context, brief bool) (any, error)
	forward *forwarder // nil: to nobody
	log     *slog.Logger

	events    Events        // nil: none
	logs      Logs          // nil: none
	audit     func(Audited) // nil: nobody
	salvage   func(ctx context.Context) ([]Salvaged, error)
	support   func(ctx context.Context) any
	slots     func(ctx context.Context) ([]Slot, error)
	salvaging sync.Mutex   // it is done for one at a time
	followers atomic.Int32 // clients that are sent lines as they come
}

// guardedPaths are read with the token only, over TLS.
var guardedPaths = map[string]bool{"/config": true, "/events": true, "/logs": true, "/salvage": true, "/slots": true, "/support": true, "/tokens": true, "/ui/operator": true}

// Audited is one change that an operator asked for.
type Audited struct {
	By
	What  string   // as in the log: switchover, pause, change config
	Body  string   // of the request, shortened; how long it was where it may hold secrets
	Steps []string // what was done, in sentences
	Err   error    // why it was not carried out, or not to its end
	Took  time.Duration
}

// private reports whether reading the path needs the token.
func (c *changes) private(path string) bool {
	return guardedPaths[path] || path == "/facts" && c.facts != nil
}

// isReading reports whether the method asks for a health answer.
func isReading(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

func (c *changes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isReading(r.Method) && !c.private(r.URL.Path) {
		c.health.ServeHTTP(w, r)
		return
	}
	if c.join != nil && r.Method == http.MethodPost && r.URL.Path == "/join" {
		c.join.ServeHTTP(w, r)
		return
	}
	by, access, err := c.authenticate(r)
	if err != nil {
		c.log.Warn("change refused", "what", r.Method+" "+r.URL.Path, "operator", by.Operator, "remote", r.RemoteAddr, "reason", err)
		w.Header().Set("WWW-Authenticate", `Bearer realm="standfast"`)
		c.fail(w, r, err)
		return
	}
	if isReading(r.Method) && r.URL.Path == "/ui/operator" {
		c.health.write(w, r, jsonAnswer(map[string]string{"operator": by.Operator}))
		return
	}
	if isReading(r.Method) {
		c.read(w, r, access)
		return
	}
	ch, ok := changePaths[r.Method+" "+r.URL.Path]
	if !ok {
		c.fail(w, r, Errorf(NotFound, "no such operation: %s %s", r.Method, r.URL.Path))
		return
	}
	c.change(w, r, ch, by)
}

// authenticate finds out who asks by the bearer token (RFC 6750, section 2.1).
func (c *changes) authenticate(r *http.Request) (By, Access, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return By{}, "", Errorf(Unauthorized, "this needs the header \"Authorization: Bearer …\" with the cluster's token")
	}
	operator, ok := c.tokens(strings.TrimSpace(token))
	if !ok {
		return By{}, "", Errorf(Unauthorized, "the token is not one of this cluster's")
	}
	return By{Operator: operator.Name, Remote: r.RemoteAddr}, operator.Access, operator.allow(r)
}

// change parses, runs and answers one operation, with a line in the log before and after it.
func (c *changes) change(w http.ResponseWriter, r *http.Request, ch change, by By) {
	body, err := readBody(w, r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	switch to, err := c.concerned(r, body); {
	case err != nil:
		c.fail(w, r, err)
		return
	case to != nil:
		c.pass(w, r, to, body)
		return
	}
	log := c.log.With("what", ch.name, "operator", by.Operator, "remote", by.Remote)
	run, err := ch.parse(c, &parsed{r, by, body})
	if err != nil {
		log.Warn("change refused", "body", logged(ch, body), "reason", err)
		c.fail(w, r, err)
		return
	}
	log.Info("change begins", "body", logged(ch, body))
	began := time.Now()
	out := newReply(w, r)
	err = run(r.Context(), out.progress)
	if c.audit != nil && !dry(r, body) {
		c.audit(Audited{By: by, What: ch.name, Body: logged(ch, body), Steps: out.said, Err: err, Took: time.Since(began)})
	}
	if err != nil {
		log.Warn("change failed", "took", time.Since(began), "error", err)
		c.health.tally.count(errorOf(err).Status())
		out.fail(errorOf(err))
		return
	}
	log.Info("change done", "took", time.Since(began))
	if strings.HasSuffix(r.URL.Path, "/config") && !out.stream {
		c.getConfig(w, r, false) // as Patroni: the new configuration is the answer
		return
	}
	c.health.tally.count(ch.code)
	out.done(ch.code, ch.done)
}

// mostSaid is how many steps the audit keeps of one change.
const mostSaid = 50

// dry reports whether a change was only to be tried.
func dry(r *http.Request, body []byte) bool {
	var b struct {
		DryRun bool `json:"dry_run"`
	}
	return r.URL.Query().Get("dry_run") == "true" || json.Unmarshal(body, &b) == nil && b.DryRun
}

// createToken is the change whose body has a token's hash.
const createToken = "create token"

// logged is what the audit log keeps of a body: a configuration may hold secrets, and is kept by the store anyway. A token's hash
// is of no use to anybody.
func logged(ch change, body []byte) string {
	if ch.name == createToken {
		var g Grant
		_ = json.Unmarshal(body, &g) // what is wrong with it is told where it is checked
		return fmt.Sprintf("id %s, for %s, role %s, until %s", g.ID, g.Operator, g.Role, g.Expires.Format(time.RFC3339))
	}
	if strings.HasSuffix(ch.name, "config") {
		return fmt.Sprintf("%d bytes", len(body))
	}
	return string(bytes.TrimSpace(body[:min(len(body), 500)]))
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, Errorf(Invalid, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, Errorf(Invalid, "read the body: %w", err)
	}
	return b, nil
}

// fail answers with an error before anything has begun.
func (c *changes) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := errorOf(err)
	c.health.tally.count(e.Status())
	newReply(w, r).fail(e)
}

// read answers what only operators may read.
func (c *changes) read(w http.ResponseWriter, r *http.Request, access Access) {
	switch r.URL.Path {
	case "/config":
		c.getConfig(w, r, access == Read)
		return
	case "/events":
		c.getEvents(w, r)
		return
	case "/logs":
		c.getLogs(w, r)
		return
	case "/tokens":
		c.getGrants(w, r)
		return
	case "/salvage":
		c.getSalvage(w, r)
		return
	case "/slots":
		c.getSlots(w, r)
		return
	case "/support":
		c.getSupport(w, r)
		return
	}
	v, err := c.facts(r.Context(), r.URL.Query().Get("brief") == "true")
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.health.write(w, r, jsonAnswer(v))
}

// getSupport answers what this member gives to a supporter.
func (c *changes) getSupport(w http.ResponseWriter, r *http.Request) {
	if c.support == nil {
		c.fail(w, r, Errorf(NotFound, "this member gives nothing for a supporter"))
		return
	}
	c.health.write(w, r, jsonAnswer(c.support(r.Context())))
}

// getConfig answers the agreed configuration: its JSON, as Patroni does; the YAML as it was given; or both, with
// ?format=standfast. Whoever may not change it gets it masked.
func (c *changes) getConfig(w http.ResponseWriter, r *http.Request, masked bool) {
	cfg, err := c.ops.Config(r.Context(), masked)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	w.Header().Set("ETag", strconv.Quote(strconv.FormatInt(cfg.Revision, 10)))
	switch accept := r.Header.Get("Accept"); {
	case r.URL.Query().Get("format") == "standfast":
		c.health.write(w, r, jsonAnswer(cfg))
		return
	case strings.Contains(accept, "yaml"):
		c.health.write(w, r, newAnswer(200, []string{"application/yaml"}, []byte(cfg.YAML)))
		return
	}
	c.health.write(w, r, newAnswer(200, jsonKind, append([]byte(cfg.Values), '\n')))
}

// reply writes the outcome of an operation in the form that the client accepts: a stream of lines, or one at the end.
type reply struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stream  bool
	begun   bool
	last    string
	said    []string
}

func newReply(w http.ResponseWriter, r *http.Request) *reply {
	return &reply{w: w, control: http.NewResponseController(w), stream: strings.Contains(r.Header.Get("Accept"), "application/x-ndjson")}
}

// streamWrite bounds each write to a client that reads its lines too slowly or not at all.
const streamWrite = 10 * time.Second

// progress sends a step at once. The answer's code goes out with the first: a failure after it is told by the last line.
func (o *reply) progress(p Progress) {
	if p.Step != "progress" && len(o.said) < mostSaid {
		o.said = append(o.said, p.Text)
	}
	if o.last = p.Text; !o.stream {
		return
	}
	if p.At.IsZero() {
		p.At = time.Now()
	}
	if !o.begun {
		o.header(http.StatusOK)
	}
	o.line(Line{Progress: &p})
}

func (o *reply) header(code int) {
	o.begun = true
	o.w.Header().Set("Content-Type", "application/x-ndjson")
	o.w.WriteHeader(code)
}

// line writes one line. That the client is gone is seen by the request's context, not here.
func (o *reply) line(l Line) {
	_ = o.control.SetWriteDeadline(time.Now().Add(streamWrite)) // not offered by a recorder in a test
	_, _ = o.w.Write(encode(l))
	_ = o.control.Flush()
}

func (o *reply) done(code int, otherwise string) {
	if o.stream {
		if !o.begun {
			o.header(code)
		}
		o.line(Line{Done: true})
		return
	}
	if o.last == "" {
		o.last = otherwise
	}
	o.text(code, textKind, []byte(o.last+"\n"))
}

func (o *reply) fail(e *Error) {
	switch {
	case o.stream && o.begun:
		o.line(Line{Done: true, Error: e})
	case o.stream:
		o.header(e.Status())
		o.line(Line{Done: true, Error: e})
	default:
		o.text(e.Status(), textKind, []byte(e.Text+"\n"))
	}
}

func (o *reply) text(code int, kind []string, body []byte) {
	o.w.Header()["Content-Type"] = kind
	_ = o.control.SetWriteDeadline(time.Now().Add(streamWrite))
	o.w.WriteHeader(code)
	_, _ = o.w.Write(body)
}

// refuse answers a change that came without TLS.
func (h *health) refuse(w http.ResponseWriter, r *http.Request, adminPort string) {
	text := "changes are not accepted here; this member has no port for them, because it has no TLS certificate: see tls in its configuration"
	if adminPort != "" {
		text = fmt.Sprintf("changes are not accepted without TLS: use https on port %s, with the header \"Authorization: Bearer …\"", adminPort)
	}
	w.Header().Set("Connection", "close") // the body is not read
	h.write(w, r, textAnswer(http.StatusForbidden, text))
}

// decode reads a body strictly: a misspelt key is an error, not a wish ignored. An empty body is an empty object.
func decode(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return Errorf(Invalid, "read the body as JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if d.More() {
		return Errorf(Invalid, "read the body as JSON: more than one value")
	}
	return nil
}
