package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Duration is a time span that is written as "700ms", "10s", "2m" or "1h30m".
type Duration time.Duration

// ParseDuration reads a time span. A bare number is refused, because its unit would be a guess.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || (s != "0" && !strings.ContainsAny(s, "smh")) {
		return 0, fmt.Errorf("%q is not a time; write a number with its unit, such as 700ms, 10s, 2m or 1h", s)
	}
	return Duration(d), nil
}

// String gives the shortest form, "2m" rather than time.Duration's "2m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalYAML writes String's form.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

// UnmarshalYAML reads ParseDuration's form.
func (d *Duration) UnmarshalYAML(b []byte) error {
	s, err := scalar(b)
	if err != nil {
		return err
	}
	v, err := ParseDuration(s)
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// Size is a number of bytes that is written in PostgreSQL's units: B, kB, MB, GB, TB, each 1024 times the one before
// ("Setting Parameters", section "Parameter Names and Values").
type Size int64

var sizeUnits = []struct {
	name  string
	bytes Size
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

var sizeForm = regexp.MustCompile(`^([0-9]+)\s*(B|kB|MB|GB|TB)$`)

// ParseSize reads a size such as "16MB".
func ParseSize(s string) (Size, error) {
	if s == "0" {
		return 0, nil
	}
	m := sizeForm.FindStringSubmatch(s)
	if m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		for _, u := range sizeUnits {
			if err == nil && u.name == m[2] && n <= int64(1<<62/u.bytes) {
				return Size(n) * u.bytes, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is not a size; write a whole number with its unit, such as 64kB, 16MB or 1GB", s)
}

// String gives the largest unit that divides the size.
func (z Size) String() string {
	for _, u := range sizeUnits {
		if z != 0 && z%u.bytes == 0 {
			return strconv.FormatInt(int64(z/u.bytes), 10) + u.name
		}
	}
	return "0"
}

// MarshalYAML writes String's form.
func (z Size) MarshalYAML() (any, error) { return z.String(), nil }

// UnmarshalYAML reads ParseSize's form.
func (z *Size) UnmarshalYAML(b []byte) error {
	s, err := scalar(b)
	if err != nil {
		return err
	}
	v, err := ParseSize(s)
	if err != nil {
		return err
	}
	*z = v
	return nil
}

// Text is a PostgreSQL parameter's value as it was written: 200, 0.9, on and 'a, b' all stay what they are, where a
// decode through YAML's own numbers would turn 1e3 or 0o17 into something else.
type Text string

// plain is a text that every YAML reader takes for itself when it stands there without quotes.
var plain = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9_./% -]*[A-Za-z0-9_./%])?$`)

// MarshalYAML writes plain scalars plainly and quotes the rest, by itself: the encoder writes a text that begins with "? "
// without quotes, which is then read as a key.
func (t Text) MarshalYAML() ([]byte, error) {
	if plain.MatchString(string(t)) && !strings.EqualFold(string(t), "null") {
		return []byte(t), nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // a JSON string is a YAML string in double quotes
	enc.SetEscapeHTML(false)
	if err := enc.Encode(string(t)); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// UnmarshalYAML reads any scalar.
func (t *Text) UnmarshalYAML(b []byte) error {
	s, err := scalar(b)
	*t = Text(s)
	return err
}

// scalar returns the text of one YAML scalar, unquoted.
func scalar(b []byte) (string, error) {
	s := strings.TrimSpace(string(b))
	if s == "" || !strings.ContainsAny(s[:1], `"'|>[{`) && !strings.Contains(s, "\n") {
		return s, nil
	}
	var v any
	if err := yaml.Unmarshal(b, &v); err != nil {
		return "", err
	}
	if t, ok := v.(string); ok {
		return t, nil
	}
	return "", fmt.Errorf("want a single value, not a list or a map")
}
