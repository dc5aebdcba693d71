package api

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
)

// query is what the parameters of a health check ask beyond its path. The zero value asks nothing.
type query struct {
	lag         int64  // bytes; only with limited
	limited     bool   // lag was given
	replication string // wanted replication_state; "": any
	write       bool   // mode=write: what was received counts, not what was replayed
	tags        []tag
}

type tag struct{ key, value string }

// parseQuery reads the parameters of a health check. Names it does not know are ignored, for balancers add their own;
// values it cannot read are errors, so that a misspelt bound is not one that always holds.
func parseQuery(raw string) (query, error) {
	var q query
	if raw == "" {
		return q, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("query: %w", err)
	}
	if v := values.Get("lag"); values.Has("lag") {
		if q.lag, err = parseBytes(v); err != nil {
			return q, fmt.Errorf("lag=%s: %w", v, err)
		}
		q.limited = true
	}
	switch v := values.Get("mode"); v {
	case "", "apply":
	case "write":
		q.write = true
	default:
		return q, fmt.Errorf("mode=%s: it is apply or write", v)
	}
	q.replication = values.Get("replication_state")
	for name, v := range values {
		if key, ok := strings.CutPrefix(name, "tag_"); ok {
			q.tags = append(q.tags, tag{key, v[0]})
		}
	}
	return q, nil
}

// units are PostgreSQL's units of memory ("Parameter Names and Values"), in bytes.
var units = map[string]float64{"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}

// parseBytes reads "1048576", "16kB", "10 MB" or "1.5GB".
func parseBytes(s string) (int64, error) {
	s = strings.TrimSpace(s)
	end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(s)
	}
	unit, ok := units[strings.ToLower(strings.TrimSpace(s[end:]))]
	n, err := strconv.ParseFloat(s[:end], 64)
	if err != nil || !ok {
		return 0, fmt.Errorf("it is a number of bytes, or one with a unit such as 16kB, 10MB or 1GB")
	}
	if n *= unit; n >= math.MaxInt64 {
		return 0, fmt.Errorf("it is too large")
	}
	return int64(n), nil
}
