package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"standfast/api"
	"standfast/config"
)

// poster posts to web servers. Connections are not kept: events are rare, and one that the server has closed meanwhile would cost an
// attempt.
type poster struct{ agent string }

// client follows no redirection: a POST that is redirected arrives as a GET, without what it said.
var client = &http.Client{
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 5 * time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// event posts each event as it stands in docs/EVENTS.md.
func (p *poster) event(ctx context.Context, target string, events []api.Event) error {
	for _, e := range events {
		body, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode the event: %w%w", err, errUnfit)
		}
		if err := p.post(ctx, target, e.ID, body); err != nil {
			return err
		}
	}
	return nil
}

// chat posts all events as one message of an incoming webhook: {"text": "…"}.
func (p *poster) chat(ctx context.Context, target string, events []api.Event) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(map[string]string{"text": Chat(events)}); err != nil {
		return fmt.Errorf("encode the message: %w%w", err, errUnfit)
	}
	return p.post(ctx, target, events[0].ID, b.Bytes())
}

func (p *poster) post(ctx context.Context, target, id string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address can't be posted to")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", p.agent)
	r.Header.Set("Idempotency-Key", `"`+id+`"`)
	resp, err := client.Do(r)
	if err != nil {
		return plainly(ctx, err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // it may say why it refuses
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	err = fmt.Errorf("it answers %s", strings.TrimSpace(resp.Status+" "+line(said, target)))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w%w", err, errUnfit)
	}
	return err
}

// plainly leaves out the address, which the client puts before its errors: it may hold a secret.
func plainly(ctx context.Context, err error) error {
	var u *url.Error
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// line is an answer on one line, as far as it is text, without what it repeats of the address.
func line(said []byte, target string) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == '\uFFFD' || r == 0x7f {
			return ' '
		}
		return r
	}, string(said))
	text = strings.Join(strings.Fields(text), " ")
	if strings.HasPrefix(text, "<") {
		return "" // a page, for people
	}
	if u, err := url.Parse(target); err == nil {
		for _, secret := range append(strings.Split(u.EscapedPath(), "/"), u.RawQuery) {
			if len(secret) > 3 {
				text = strings.ReplaceAll(text, secret, "***")
			}
		}
	}
	return text
}

// shown says in words who is told.
func shown(to, target string) string {
	switch {
	case target == "" || to == "command" || to == "syslog":
		return target
	}
	return config.Address(target).Masked()
}
