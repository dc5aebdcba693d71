package api

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// forwarder passes a change on to the member that it concerns, for the page, which a browser lets speak to its own
// member alone.
type forwarder struct{ http *http.Client }

// newForwarder trusts the other members by t; with nil it forwards nothing.
func newForwarder(t *tls.Config) *forwarder {
	if t == nil {
		return nil
	}
	dialer := &net.Dialer{Timeout: 2 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	return &forwarder{&http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: t.Clone(), TLSHandshakeTimeout: 2 * time.Second, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// concerned returns the member that a change with ?forward=true is to be carried out by, nil if that is this one. What has
// been forwarded does not say so again, so that it ends at the member that it was sent to.
func (c *changes) concerned(r *http.Request, body []byte) (*Member, error) {
	if r.URL.Query().Get("forward") != "true" {
		return nil, nil
	}
	var s struct {
		Member string `json:"member"`
	}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &s); err != nil {
			return nil, Errorf(Invalid, "read the body as JSON: %w", err)
		}
	}
	st := c.source.Snapshot()
	if s.Member == "" || st == nil || s.Member == st.Self {
		return nil, nil
	}
	m := st.Member(s.Member)
	switch {
	case m == nil || m.Admin == "":
		return nil, nil // the operation itself says what is wrong
	case c.forward == nil:
		return nil, Errorf(Unavailable, "this member can't pass it on; ask %s itself, at https://%s", m.Name, m.Admin)
	}
	return m, nil
}

// pass sends the change to the member with the operator's own token, and copies its answer line by line.
func (c *changes) pass(w http.ResponseWriter, r *http.Request, to *Member, body []byte) {
	c.log.Info("change passed on", "what", r.Method+" "+r.URL.Path, "to", to.Name, "remote", r.RemoteAddr)
	resp, err := c.forward.send(r, to, body)
	if err != nil {
		c.fail(w, r, Errorf(Unavailable, "%s does not answer at https://%s: %w; is its host up, and does standfast run there?", to.Name, to.Admin, err))
		return
	}
	defer resp.Body.Close()
	c.health.tally.count(resp.StatusCode)
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	control := http.NewResponseController(w)
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		_ = control.SetWriteDeadline(time.Now().Add(streamWrite)) // not offered by a recorder in a test
		_, _ = w.Write(line)
		_ = control.Flush()
		if err != nil { // the page finds by itself that the last line is missing
			return
		}
	}
}

func (f *forwarder) send(r *http.Request, to *Member, body []byte) (*http.Response, error) {
	u := "https://" + to.Admin + r.URL.Path
	out, err := http.NewRequestWithContext(r.Context(), r.Method, u, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return nil, err
	}
	out.ContentLength = int64(len(body))
	for _, name := range []string{"Authorization", "Accept", "Content-Type"} {
		if v := r.Header.Get(name); v != "" {
			out.Header.Set(name, v)
		}
	}
	resp, err := f.http.Do(out)
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err // its own text repeats the address
	}
	return resp, err
}
