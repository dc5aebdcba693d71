package ops

import (
	"context"
	"time"

	"standfast/api"
)

// Events returns what happened since then, by all members that answer, and why others did not.
func (c *Cluster) Events(ctx context.Context, since time.Time) ([]api.Event, []error, error) {
	if err := c.readable(); err != nil {
		return nil, nil, err
	}
	return c.Client.Events(ctx, since)
}

// FollowEvents is client.FollowEvents for whoever has the token.
func (c *Cluster) FollowEvents(ctx context.Context, since time.Time, each func(api.Event), trouble func(string, error)) error {
	if err := c.readable(); err != nil {
		return err
	}
	return c.Client.FollowEvents(ctx, since, each, trouble)
}

// Slots returns the replication slots of all members that answer, and why others did not.
func (c *Cluster) Slots(ctx context.Context) ([]api.Slot, []error, error) {
	if err := c.readable(); err != nil {
		return nil, nil, err
	}
	return c.Client.Slots(ctx)
}

// Salvage returns what members keep of what they discarded, and why others did not answer.
func (c *Cluster) Salvage(ctx context.Context) ([]api.Salvaged, []error, error) {
	if err := c.readable(); err != nil {
		return nil, nil, err
	}
	return c.Client.Salvage(ctx)
}
