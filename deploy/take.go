package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"standfast/deploy/plan"
	"standfast/deploy/probe"
)

// BusyError says that somebody else works on a host.
type BusyError struct {
	Host string
	Who  string
}

// Error names the host and who has it.
func (e *BusyError) Error() string {
	return fmt.Sprintf("%s is being deployed to already, by %s; wait for its end, or end it there", e.Host, e.Who)
}

// Take locks the hosts for one deployment until release, wherever else one is begun: in the order of their names, so that of two at
// the same time one gets all. A lock ends with its connection at the latest. The error is a *BusyError where somebody has one.
func Take(ctx context.Context, hosts map[string]plan.Host, who string) (release func() error, err error) {
	var held []func() error
	release = func() error {
		var errs []error
		for _, r := range held {
			errs = append(errs, r())
		}
		return errors.Join(errs...)
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		a, let, err := hosts[name].Hold(ctx, probe.Request{Lock: who})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: take it for this deployment: %w", name, err), release())
		}
		held = append(held, let)
		if a.Lock != "" {
			return nil, errors.Join(&BusyError{name, a.Lock}, release())
		}
	}
	return release, nil
}
