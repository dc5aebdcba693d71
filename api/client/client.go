// Package client talks to the members of a cluster over their api, for the command line and for programs. It reads from
// whichever member answers first, sends each change to the right one, and puts what goes wrong into words that name the
// host and the remedy.
package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"standfast/api"
)

// Bounds on the parts of a request that depend on the other host being alive. A change itself may take hours; that its
// host died meanwhile is noticed by TCP keepalive within 11 seconds.
const (
	dialTimeout = 2 * time.Second
	readTimeout = 4 * time.Second
)

// Client talks to one cluster. Make it with New; it may be used by many goroutines.
type Client struct {
	endpoints []endpoint
	secure    bool
	token     string
	http      *http.Client
}

// endpoint is one member's address: base is "https://host:port".
type endpoint struct{ base, host, port string }

func (e endpoint) String() string { return net.JoinHostPort(e.host, e.port) }

// New returns a client for the members at endpoints: "host" or "host:port", by default port 8443. t trusts the cluster's
// CA; with nil the plain port is spoken to (8008 by default), which only reads. token may be empty for reading.
func New(endpoints []string, t *tls.Config, token string) (*Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("no member to ask: give the address of at least one")
	}
	c := &Client{secure: t != nil, token: token}
	for _, s := range endpoints {
		e, err := parseEndpoint(s, c.secure)
		if err != nil {
			return nil, err
		}
		c.endpoints = append(c.endpoints, e)
	}
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	}
	c.http = &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: t, TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: time.Minute},
		// A member never redirects; following one could carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// DialBy replaces the way to the members. It must come before the first call.
func (c *Client) DialBy(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	c.http.Transport.(*http.Transport).DialContext = dial
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func parseEndpoint(s string, secure bool) (endpoint, error) {
	scheme, port := "http", "8008"
	if secure {
		scheme, port = "https", "8443"
	}
	text := strings.TrimSuffix(strings.TrimPrefix(s, scheme+"://"), "/")
	if ip := net.ParseIP(text); ip != nil {
		return endpoint{scheme + "://" + net.JoinHostPort(text, port), text, port}, nil
	}
	u, err := url.Parse(scheme + "://" + text)
	if err != nil || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return endpoint{}, fmt.Errorf("address %q: it is a host, or host:port, of a member", s)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return endpoint{scheme + "://" + net.JoinHostPort(u.Hostname(), port), u.Hostname(), port}, nil
}

// Reply is what one endpoint said, or why it said nothing.
type Reply struct {
	Endpoint string // "host port"
	Status   *api.Status
	Err      error // a sentence with the endpoint and the remedy
	Took     time.Duration
	from     endpoint
}

// ask asks all endpoints for their status at once and sends each reply as it comes, one for each endpoint. Every request
// ends with ctx or after readTimeout; whoever calls reads them all.
func (c *Client) ask(ctx context.Context) <-chan Reply {
	replies := make(chan Reply, len(c.endpoints))
	for _, e := range c.endpoints {
		go func() {
			began := time.Now()
			st := new(api.Status)
			err := c.get(ctx, e, "/status", st)
			if err != nil {
				st = nil
			}
			replies <- Reply{e.String(), st, err, time.Since(began), e}
		}()
	}
	return replies
}

// Statuses asks every endpoint and waits for all, in the order they were given.
func (c *Client) Statuses(ctx context.Context) []Reply {
	byEndpoint := map[endpoint]Reply{}
	replies := c.ask(ctx)
	for range c.endpoints {
		r := <-replies
		byEndpoint[r.from] = r
	}
	all := make([]Reply, len(c.endpoints))
	for i, e := range c.endpoints {
		all[i] = byEndpoint[e]
	}
	return all
}

// Status returns the status from the first member that answers, and what those before it failed with. When none answers
// the error names each.
func (c *Client) Status(ctx context.Context) (*api.Status, []error, error) {
	r, failed, err := c.first(ctx, func(Reply) bool { return true })
	return r.Status, failed, err
}

// first returns the first reply that is wanted; when there is none, the first that is a reply at all.
func (c *Client) first(ctx context.Context, wanted func(Reply) bool) (Reply, []error, error) {
	ctx, cancel := context.WithCancel(ctx)
	var other *Reply
	var failed []error
	replies, left := c.ask(ctx), len(c.endpoints)
	defer func() {
		for cancel(); left > 0; left-- { // whoever has not answered need not any more
			<-replies
		}
	}()
	for left > 0 {
		r := <-replies
		left--
		switch {
		case r.Err != nil:
			failed = append(failed, r.Err)
		case wanted(r):
			return r, failed, nil
		case other == nil:
			other = &r
		}
	}
	if other != nil {
		return *other, failed, nil
	}
	return Reply{}, failed, api.Errorf(api.Unavailable, "no member answers:\n%w", errors.Join(failed...))
}

// History returns the changes of primary, oldest first, from the first member that answers.
func (c *Client) History(ctx context.Context) ([]api.Entry, error) {
	r, _, err := c.first(ctx, func(Reply) bool { return true })
	if err != nil {
		return nil, err
	}
	var h []api.Entry
	return h, c.get(ctx, r.from, "/history?format=standfast", &h)
}

// Config returns the agreed configuration. It needs the token.
func (c *Client) Config(ctx context.Context) (api.ClusterConfig, error) {
	var cfg api.ClusterConfig
	r, err := c.withStore(ctx)
	if err != nil {
		return cfg, err
	}
	return cfg, c.get(ctx, r.from, "/config?format=standfast", &cfg)
}

// Grants lists the operators' tokens.
func (c *Client) Grants(ctx context.Context) ([]api.Grant, error) {
	r, err := c.withStore(ctx)
	if err != nil {
		return nil, err
	}
	var all []api.Grant
	return all, c.get(ctx, r.from, "/tokens", &all)
}

// withStore finds a member that reaches the store, for what must be agreed. Where none does, asking would only end in a
// timeout that looks like a dead host.
func (c *Client) withStore(ctx context.Context) (Reply, error) {
	r, _, err := c.first(ctx, func(r Reply) bool { return r.Status.Store.OK })
	if err == nil && !r.Status.Store.OK {
		err = api.Errorf(api.Unavailable, "no member that answers reaches a majority of the stores (etcd): more than half of the members have to run; see standfast status")
	}
	return r, err
}

// get reads one JSON document.
func (c *Client) get(ctx context.Context, e endpoint, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.read(ctx, e, path, into)
}

// read is get, bounded by ctx alone.
func (c *Client) read(ctx context.Context, e endpoint, path string, into any) error {
	resp, err := c.do(ctx, e, http.MethodGet, path, "", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(e, resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%s: read %s: %w: is it standfast that answers there?", e, path, err)
	}
	return nil
}

// do sends a request with the token; its errors are explained.
func (c *Client) do(ctx context.Context, e endpoint, method, path, accept string, header map[string]string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, e.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e, err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	if c.token != "" && c.secure { // never in the clear
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, explain(e, err)
	}
	return resp, nil
}
