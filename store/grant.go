package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Grant is one operator's token, by its hash: who holds it and what it is good for. Grants are written once, and removed.
type Grant struct {
	ID       string `json:"id"`
	Operator string `json:"operator"`
	Role     string `json:"role"`
	Hash     string `json:"hash"`
	By       string `json:"by"`
	Created  int64  `json:"created"` // wall clock, milliseconds since 1970, as Expires
	Expires  int64  `json:"expires"`
}

// Grants lists them by ID.
func (c *Cluster) Grants(ctx context.Context) ([]Grant, error) { return list[Grant](ctx, c, "tokens/") }

// AddGrant records one; ErrConflict: there is one of that ID.
func (c *Cluster) AddGrant(ctx context.Context, g Grant) error {
	b, err := json.Marshal(g)
	if err == nil {
		_, err = c.store.CompareAndPut(ctx, c.prefix+"tokens/"+g.ID, b, 0)
	}
	if err != nil {
		return fmt.Errorf("record the token %s: %w", g.ID, err)
	}
	return nil
}

// RemoveGrant removes one; ErrNotFound: there is none.
func (c *Cluster) RemoveGrant(ctx context.Context, id string) error {
	kv, err := c.store.Get(ctx, c.prefix+"tokens/"+id)
	if err == nil {
		err = c.store.CompareAndDelete(ctx, kv.Key, kv.Revision)
	}
	if errors.Is(err, ErrConflict) { // nobody writes one twice, so somebody else has removed it
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("remove the token %s: %w", id, err)
	}
	return nil
}
