package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"standfast/api"
	"standfast/deploy"
	"standfast/ops"
)

// usageError is a mistake in what was given: the command, a file, a value.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// coded is an error that knows its exit code and was already shown where nothing is left to say.
type coded struct {
	code Code
	err  error // nil: already shown
}

func (c *coded) Error() string {
	if c.err == nil {
		return ""
	}
	return c.err.Error()
}
func (c *coded) Unwrap() error { return c.err }

// end shows an error and returns its code.
func (a *app) end(err error) Code {
	if err == nil {
		return OK
	}
	code := codeOf(err)
	if errors.Is(err, context.Canceled) && a.ctx.Err() != nil {
		fmt.Fprintln(a.stderr, "standfast: interrupted; what was begun goes on, see standfast status")
		return Failed
	}
	text := strings.TrimSpace(err.Error())
	var answer *api.Error
	if errors.As(err, &answer) && answer.Kind == api.Unauthorized {
		text += "; it is in the file that token_file names: put the one of a member there"
	}
	if text != "" {
		fmt.Fprintf(a.stderr, "%s %s\n", a.err.bad("standfast:"), text)
	}
	return code
}

var codes = map[api.Kind]Code{
	api.Invalid: Usage, api.NotFound: Usage, api.Unauthorized: Failed, api.Forbidden: Failed,
	api.Conflict: Unsafe, api.Precondition: Unsafe, api.Unavailable: Unreachable, api.Internal: Failed,
}

func codeOf(err error) Code {
	var c *coded
	var u *usageError
	var refused *ops.Refused
	var refusal *deploy.Refusal
	var answer *api.Error
	switch {
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &u):
		return Usage
	case errors.As(err, &refused), errors.As(err, &refusal):
		return Unsafe
	case errors.As(err, &answer):
		return codes[answer.Kind]
	}
	return Failed
}
