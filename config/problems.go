package config

import (
	"errors"
	"fmt"
)

// problem is one thing that Validate finds. Its text says what is wrong and what to do.
type problem struct{ key, text string }

func (p *problem) Error() string { return p.key + ": " + p.text }

// problems collects what Validate finds, a line each.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, &problem{key, fmt.Sprintf(format, args...)})
}

// check adds the problem unless ok.
func (p *problems) check(ok bool, key, format string, args ...any) {
	if !ok {
		p.add(key, format, args...)
	}
}

// oneOf adds a problem, with the nearest allowed word, unless the value is allowed.
func (p *problems) oneOf(key, value string, allowed ...string) {
	for _, a := range allowed {
		if a == value {
			return
		}
	}
	if near, ok := Nearest(value, allowed); ok {
		p.add(key, "%q is not known: did you mean %q?", value, near)
		return
	}
	p.add(key, "%q is not known; write one of %v", value, allowed)
}

func (p problems) err() error { return errors.Join(p...) }
