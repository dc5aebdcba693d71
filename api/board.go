package api

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// answer is one prepared response: its code, body and the header values that go with them, made once for each Status
// so that a request allocates none of it.
type answer struct {
	code   int
	body   []byte
	kind   []string // Content-Type
	length []string // Content-Length
}

var (
	jsonKind = []string{"application/json"}
	textKind = []string{"text/plain; charset=utf-8"}
)

func newAnswer(code int, kind []string, body []byte) *answer {
	return &answer{code, body, kind, []string{strconv.Itoa(len(body))}}
}

func jsonAnswer(v any) *answer { return newAnswer(200, jsonKind, encode(v)) }

// board holds the answers to everything that can be asked about one Status. Each is made when it is first asked for:
// between two looks of a balancer the agent may swap the Status dozens of times.
type board struct {
	st    *Status        // nil before the first
	stale string         // why st is not believed; "" if it is
	why   [checks]string // "" is yes
	texts [checks]*answer

	node     func() *answer // the JSON body of every health check; its code is not used
	status   func() *answer
	patroni  func() *answer
	cluster  func() *answer
	history  func() *answer
	entries  func() *answer
	failsafe func() *answer

	live func() []byte // for the stream
	mark func() string // changes when the stream should say so at once
}

// newBoard prepares the answers about st; stale is the sentence for not believing it, "" to believe it.
func newBoard(st *Status, stale string) *board {
	b := &board{st: st, stale: stale}
	for c := range checks {
		if b.why[c] = stale; stale == "" {
			b.why[c] = judge(st, c, query{})
		}
		if c == checkLiveness && st != nil && st.Paused {
			b.why[c] = "" // as Patroni's: in a pause the loop may stand still
		}
		b.texts[c] = newAnswer(code(b.why[c]), textKind, []byte(line(c, st, b.why[c])))
	}
	b.live = sync.OnceValue(func() []byte { return live(st, stale) })
	b.mark = sync.OnceValue(func() string { return statusMark(st, stale) })
	if st == nil {
		none := func() *answer { return newAnswer(503, jsonKind, encode(map[string]string{"error": stale})) }
		b.node, b.status, b.patroni, b.cluster, b.history, b.entries, b.failsafe = none, none, none, none, none, none, none
		return b
	}
	b.node = sync.OnceValue(func() *answer { return jsonAnswer(patroniDocument(st)) })
	b.patroni = b.node
	b.status = sync.OnceValue(func() *answer { return jsonAnswer(warned(st, stale)) })
	b.cluster = sync.OnceValue(func() *answer { return jsonAnswer(clusterDocument(st)) })
	b.history = sync.OnceValue(func() *answer { return jsonAnswer(historyDocument(st.History)) })
	b.entries = sync.OnceValue(func() *answer { return jsonAnswer(append([]Entry{}, st.History...)) })
	b.failsafe = sync.OnceValue(func() *answer { return jsonAnswer(failsafeDocument(st)) })
	return b
}

// warned is st with the reason not to believe it among its warnings: /status still shows the last that was seen.
func warned(st *Status, stale string) *Status {
	if stale == "" {
		return st
	}
	c := *st
	c.Warnings = append([]string{stale + ", what follows is the last it saw; look at its log: journalctl -u standfast"}, st.Warnings...)
	return &c
}

// boards keeps the board of the newest Status, and another one for when that Status has gone stale.
type boards struct {
	source Source
	bound  atomic.Int64 // a time.Duration
	now    func() time.Time
	fresh  atomic.Pointer[board]
}

// current returns the board to answer from now. Two requests that meet a new Status at once may both make its board: that
// costs less than a lock that all requests take.
func (b *boards) current() *board {
	st, bound := b.source.Snapshot(), time.Duration(b.bound.Load())
	if st == nil {
		return newBoard(nil, stale(nil, 0, bound))
	}
	if why := stale(st, b.now().Sub(st.Observed), bound); why != "" {
		return newBoard(st, why) // its text changes with the age; rare enough not to be kept
	}
	if d := b.fresh.Load(); d != nil && d.st == st {
		return d
	}
	d := newBoard(st, "")
	b.fresh.Store(d)
	return d
}
