package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"standfast/api"
)

// explain turns an error of the connection into a sentence that begins with the endpoint and ends with what to look at.
func explain(e endpoint, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // it repeats the method and the URL
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", e, err)
	}
	what, remedy := cause(err)
	if remedy == "" {
		return fmt.Errorf("%s: %w", e, err)
	}
	return &explained{fmt.Sprintf("%s: %s: %s", e, what, remedy), err}
}

// explained is a sentence over the error it stands for.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// cause names the commonest faults and their remedies.
func cause(err error) (what, remedy string) {
	var dns *net.DNSError
	var netErr net.Error
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "is standfast running there? systemctl status standfast"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the host", "is it switched on and on the network? ping it"
	case errors.As(err, &dns):
		return "the name is not known", "is it spelt right? getent hosts " + dns.Name
	case errors.As(err, &authority):
		return "its certificate is not signed by this cluster's CA", "is it a member of this cluster, and the CA file the right one?"
	case errors.As(err, &hostname):
		return "its certificate is for another name", "use the name or address that the configuration gives the member"
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error(), "has it expired, or is a clock wrong? date"
	case errors.As(err, &record):
		return "it does not speak TLS", "is this the port for changes (8443), or the one for health (8008)?"
	case errors.As(err, &alert):
		return "it refused the TLS connection: " + alert.Error(), "does this cluster ask for a client certificate?"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"): // net/http has no type for it
		return "it does not speak TLS", "is this the port for changes (8443), or the one for health (8008)?"
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time", "is the host up, and no firewall in between? ping it, then systemctl status standfast there"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it closed the connection", "is it standfast that listens there? journalctl -u standfast"
	}
	return "", ""
}

// kinds are api's kinds by code, for answers that carry no JSON.
var kinds = map[int]api.Kind{
	400: api.Invalid, 401: api.Unauthorized, 403: api.Forbidden, 404: api.NotFound, 409: api.Conflict, 412: api.Precondition, 503: api.Unavailable,
}

// refusal makes an api.Error of an answer that is not a success.
func refusal(e endpoint, resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return explain(e, err)
	}
	var line api.Line
	if json.Unmarshal(b, &line) == nil && line.Error != nil {
		return line.Error
	}
	var plain struct {
		Error string `json:"error"`
	}
	text := strings.TrimSpace(string(b))
	if json.Unmarshal(b, &plain) == nil && plain.Error != "" {
		text = plain.Error
	}
	kind, ok := kinds[resp.StatusCode]
	if !ok {
		kind = api.Internal
	}
	if text == "" {
		text = resp.Status
	}
	return api.Errorf(kind, "%s: %s", e, text)
}
