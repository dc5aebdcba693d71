package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// streamLook is how often a stream looks for something new, and so how late the page may learn of it. A look costs
	// one atomic load; there are none while nobody has the page open.
	streamLook = 100 * time.Millisecond

	// streamPace is how often a Status goes out while nothing else than its figures changes. The page takes three times
	// as long without one for a sign that it is stale.
	streamPace = time.Second

	// streamsAtOnce bounds the streams of one member: pages in as many browsers, each with a goroutine and a socket's buffer.
	streamsAtOnce = 32

	// streamHistory is how many changes of primary the page is told; /history has the rest.
	streamHistory = 50
)

// stream sends what the page shows as server-sent events (HTML standard, section 9.2): "status", whose data is
// {"stale": …, "status": …}, at once and then whenever something changes, and "history", []Entry, whenever a term is added
// to it or completed. It ends with the client, with the server, or with a client that does not read for streamWrite.
func (h *health) stream(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		h.write(w, r, textAnswer(http.StatusMethodNotAllowed, "the stream is for GET"))
		return
	}
	if h.streams.Add(1) > streamsAtOnce {
		h.streams.Add(-1)
		w.Header().Set("Retry-After", "5")
		h.write(w, r, textAnswer(http.StatusServiceUnavailable, fmt.Sprintf("%d pages are open at this member already; close one, or open another member's", streamsAtOnce)))
		return
	}
	defer h.streams.Add(-1)
	h.tally.count(http.StatusOK)
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // a proxy in front must not collect it
	if o := r.Header.Get("Origin"); o != "" {
		header.Set("Vary", "Origin")
		if slices.Contains(origins(h.boards.source.Snapshot()), o) { // another member's page, whose own member is gone
			header.Set("Access-Control-Allow-Origin", o)
		}
	}
	s := streamer{w: w, control: http.NewResponseController(w)}
	_ = s.control.SetReadDeadline(time.Time{}) // the server's bound is on requests that never end; this one has been read
	look := time.NewTicker(streamLook)
	defer look.Stop()
	for s.show(h.boards.current(), h.boards.now()) {
		select {
		case <-r.Context().Done():
			return
		case <-look.C:
		}
	}
}

// streamer is one page's end of the stream, and what it has been sent.
type streamer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	mark    string
	past    string
	at      time.Time
}

// show sends what is new on the board; false if the page is gone, or too slow.
func (s *streamer) show(b *board, now time.Time) bool {
	var out bytes.Buffer
	if mark := b.mark(); mark != s.mark || now.Sub(s.at) >= streamPace {
		s.mark, s.at = mark, now
		event(&out, "status", b.live())
	}
	if b.st != nil {
		if past := pastMark(b.st.History); past != s.past {
			s.past = past
			event(&out, "history", encode(append([]Entry{}, b.st.History[max(0, len(b.st.History)-streamHistory):]...)))
		}
	}
	if out.Len() == 0 {
		return true
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(streamWrite)) // not offered by a recorder in a test
	if _, err := s.w.Write(out.Bytes()); err != nil {
		return false
	}
	return s.control.Flush() == nil
}

// event writes one event; data is JSON, which has no line break within.
func event(out *bytes.Buffer, name string, data []byte) {
	fmt.Fprintf(out, "event: %s\ndata: %s\n\n", name, bytes.TrimSpace(data))
}

// pastMark changes with the history: terms are added, and the newest is completed step by step.
func pastMark(h []Entry) string {
	if len(h) == 0 {
		return "none"
	}
	last := h[len(h)-1]
	return fmt.Sprint(len(h), last.Term, last.At, len(last.Steps), last.Lost, last.Discarded)
}

// live is the data of the event "status".
func live(st *Status, stale string) []byte {
	return encode(struct {
		Stale  string  `json:"stale"`
		Status *Status `json:"status"`
	}{stale, st})
}

// statusMark is all of a Status that is to be seen at once, unlike positions and counters.
func statusMark(st *Status, stale string) string {
	if stale != "" || st == nil {
		return "not believed"
	}
	var b strings.Builder
	fmt.Fprint(&b, st.Term, st.Phase, st.Primary, st.Commit.Text, st.Paused, st.PausedUntil, st.Store.OK, st.Store.Leader, len(st.Warnings))
	if st.Request != nil {
		b.WriteString(st.Request.ID)
	}
	for i := range st.Members {
		m := &st.Members[i]
		fmt.Fprint(&b, m.Name, m.Role, m.State, m.Timeline, m.Writable, m.Attached, m.Readable, m.InRule, m.Draining, m.PendingRestart, m.Note)
	}
	for _, a := range st.Address {
		b.WriteString(a.Address + a.Holder)
	}
	enc, _ := json.Marshal([]any{st.Router.Write.Target, st.Router.Write.Hold, st.Router.Read.Target}) // strings and a bool
	b.Write(enc)
	return b.String()
}
