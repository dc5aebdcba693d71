package peers

import (
	"context"
	"fmt"
	"time"

	"standfast/api"
	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// Standfast is our own stack.
type Standfast struct {
	*site.Site
	with string
}

func startStandfast(ctx context.Context, cfg Config) (Stack, error) {
	settings := append([]string{"vip=[{address: " + site.Floating.String() + "}]"}, cfg.Settings...)
	s, err := site.Start(ctx, cfg.Binary, cfg.lab(func(*netlab.Host, string) error { return nil }), settings...)
	if err != nil {
		return nil, err
	}
	with, err := versions(ctx, s.Lab.Hosts[0], "postgresql-17")
	return &Standfast{s, with}, err
}

// Name implements Stack.
func (*Standfast) Name() string { return "Standfast" }

// With implements Stack.
func (s *Standfast) With() string { return s.with }

// Lab implements Stack.
func (s *Standfast) Lab() *netlab.Lab { return s.Site.Lab }

// Whole implements Stack. Nothing is repaired by hand.
func (s *Standfast) Whole(ctx context.Context) (*netlab.Host, error) {
	for _, h := range s.Site.Lab.Hosts {
		if err := h.Boot(ctx); err != nil {
			return nil, err
		}
	}
	primary, _, err := s.AwaitWhole(ctx, wholeTime)
	if err != nil {
		return nil, err
	}
	return primary, s.Await(ctx, time.Minute, "the floating address is at the primary's host", func(all map[string]*api.Status) string {
		for _, a := range all[primary.Name].Address {
			if a.Holder != primary.Name {
				return fmt.Sprintf("%s is at %q", a.Address, a.Holder)
			}
		}
		return ""
	})
}

// Primary implements Stack.
func (s *Standfast) Primary(ctx context.Context) (*netlab.Host, error) {
	st, err := s.Newest(ctx)
	if err != nil {
		return nil, err
	}
	if h := s.Site.Lab.Host(st.Primary); h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("term %d has no primary", st.Term)
}

// Switchover implements Stack.
func (s *Standfast) Switchover(ctx context.Context, from, to *netlab.Host) error {
	_, err := from.Run(ctx, "standfast", "switchover", "--to", to.Name)
	return err
}
