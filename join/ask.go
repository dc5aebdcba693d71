package join

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"standfast/certs"
)

// DefaultPort is where members answer, unless they were told otherwise.
const DefaultPort = "8443"

const askTime = 15 * time.Second

// maxAnswer bounds what is read: a configuration, certificates and two words.
const maxAnswer = 4 << 20

// Ask puts a question to the member at address ("host" or "host:port"). Nothing is sent to a server that does not belong to the
// token's cluster. ErrRefused: the token is not good.
func Ask(ctx context.Context, address string, t Token, q Question) (Answer, error) {
	var a Answer
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), DefaultPort)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+Path, bytes.NewReader(body))
	if err != nil {
		return a, fmt.Errorf("%q is no address: give a member's host name or IP address: %w", address, err)
	}
	r.Header.Set("Authorization", "Bearer "+t.ID+"."+t.Secret)
	transport := &http.Transport{TLSClientConfig: certs.PinnedTLS(t.Pin), DisableKeepAlives: true}
	// A member never redirects; following one could carry the token elsewhere.
	c := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		return a, fmt.Errorf("ask %s: %w", address, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return a, fmt.Errorf("ask %s: %w", address, err)
	case resp.StatusCode == http.StatusUnauthorized:
		return a, fmt.Errorf("ask %s: %w", address, ErrRefused)
	case resp.StatusCode != http.StatusOK:
		return a, fmt.Errorf("ask %s: it says: %s", address, strings.TrimSpace(string(text)))
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("ask %s: read the answer: %w", address, err)
	}
	if a.Member != t.Member {
		return a, errors.New("the answer is for " + a.Member + ", the token for " + t.Member)
	}
	return a, nil
}
